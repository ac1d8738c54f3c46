/** The rules of runs: imports that are refused, titles, and digests of inputs. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import { digestOfInput, parseInput } from '../../src/input.ts';
import { checkImportChoice, importDatasetVersionSchema, titleOfImport } from '../../src/modules/runs/imports.rules.ts';
import { importConfigSchema } from '../../src/protocol/import.ts';

const DATASET_ID = '0197a000-0000-7000-8000-000000000001';

function refusal(code: ErrorCode, field: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof DomainError, String(error));
    assert.equal(error.code, code);
    assert.equal(error.field, field);
    assert.match(error.message, /\.$/);
    return true;
  };
}

describe('imports', () => {
  const importInput = (changes: Record<string, unknown>) =>
    parseInput(importDatasetVersionSchema, { datasetId: DATASET_ID, path: '/images', layout: 'FLAT', ...changes });

  test('CSV needs its file, and no other layout accepts one', () => {
    assert.throws(() => checkImportChoice(importInput({ layout: 'CSV' })), refusal('BAD_INPUT', 'input.labelsCsvPath'));
    assert.throws(
      () => checkImportChoice(importInput({ labelsCsvPath: '/labels.csv' })),
      refusal('BAD_INPUT', 'input.labelsCsvPath'),
    );
    checkImportChoice(importInput({ layout: 'CSV', labelsCsvPath: '/labels.csv' }));
  });

  test('an option of another layout is refused by name, because it would silently have no effect', () => {
    const csv = { layout: 'CSV', labelsCsvPath: '/labels.csv' };
    const wrong = {
      csvColumns: { layout: 'FOLDER_PER_LABEL', csvColumns: { label: 'Diagnosis' } },
      labelLevel: { layout: 'FLAT', labelLevel: 2 },
      groupLevel: { ...csv, groupLevel: 1 },
    };
    for (const [option, changes] of Object.entries(wrong))
      assert.throws(() => checkImportChoice(importInput(changes)), refusal('BAD_INPUT', `input.${option}`), option);
    checkImportChoice(importInput({ layout: 'FOLDER_PER_LABEL', labelLevel: 2, groupLevel: 3 }));
    checkImportChoice(importInput({ ...csv, csvColumns: { label: 'Diagnosis', split: '' } }));
    checkImportChoice(importInput({ layout: 'FLAT', groupLevel: 1 }));
  });

  test('folder levels begin at 1, and only questions can be accepted', () => {
    assert.throws(() => importInput({ labelLevel: 0 }), refusal('BAD_INPUT', 'input.labelLevel'));
    assert.throws(() => importInput({ groupLevel: 1.5 }), refusal('BAD_INPUT', 'input.groupLevel'));
    assert.throws(() => importInput({ accept: ['UNREADABLE'] }), refusal('BAD_INPUT', 'input.accept.0'));
    assert.throws(() => importInput({ csvColumns: { weight: 'w' } }), refusal('BAD_INPUT', 'input.csvColumns'));
  });

  test('an import from before these options is carried out as it was launched', () => {
    const before = { datasetId: DATASET_ID, path: '/images', layout: 'FLAT', labelsCsvPath: null, patchSizePx: null };
    const { dryRun, accept, keepConflicts, labelLevel } = importConfigSchema.parse({
      ...before,
      importRoots: ['/images'],
    });
    assert.deepEqual([dryRun, accept, keepConflicts, labelLevel], [false, [], false, null]);
  });

  test('patches are 32 to 4096 px', () => {
    assert.throws(() => importInput({ patchSizePx: 31 }), refusal('BAD_INPUT', 'input.patchSizePx'));
    assert.throws(() => importInput({ patchSizePx: 4097 }), refusal('BAD_INPUT', 'input.patchSizePx'));
  });
});

describe('the title of an import', () => {
  test("names the last part of an import's path, whatever it is called", () => {
    assert.equal(titleOfImport('kolon', '/data/Präparate 2026/Färbung', false), 'kolon from Färbung');
    assert.equal(titleOfImport('kolon', '/data/line\nbreak/', false), 'kolon from line\nbreak');
    assert.equal(titleOfImport('kolon', '/', false), 'kolon from /');
    assert.equal(titleOfImport('kolon', '/data/x', true), 'dry run: kolon from x');
  });
});

describe('digest of an input', () => {
  test('does not depend on the order of keys, and absent equals null', () => {
    assert.equal(digestOfInput({ a: 1, b: { c: [1, 2], d: null } }), digestOfInput({ b: { c: [1, 2] }, a: 1 }));
  });

  test('depends on values and on the order of lists', () => {
    assert.notEqual(digestOfInput({ a: [1, 2] }), digestOfInput({ a: [2, 1] }));
    assert.notEqual(digestOfInput({ a: 1 }), digestOfInput({ a: 2 }));
  });
});
