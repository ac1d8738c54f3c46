/** The catalogue's files: their required contents, and that every error in them is reported. */
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CatalogueError, loadCatalogue } from '../../src/modules/datasets/index.ts';

const FOLDER = path.resolve(import.meta.dirname, '../../prisma/catalog');

test('the 57 rows match their sources', async () => {
  const catalogue = await loadCatalogue();
  const counts = Map.groupBy(catalogue, (dataset) => dataset.provenance);
  assert.deepEqual([...counts].map(([provenance, rows]) => [provenance, rows.length]).sort(), [
    ['CANDIDATE', 40],
    ['OTHER_SOURCE', 9],
    ['PAPER_TABLE', 1],
    ['PAPER_TEXT', 7],
  ]);
  assert.equal(new Set(catalogue.map((dataset) => dataset.slug)).size, 57);
  const evidence = catalogue.flatMap((dataset) => dataset.factSources.map((fact) => fact.evidence));
  assert.deepEqual(
    [evidence.filter((each) => each === 'READ').length, evidence.filter((each) => each === 'RECALLED').length],
    [538, 126],
  );
  const cutFromTcga = catalogue
    .filter((dataset) => dataset.parentCollections.includes('tcga'))
    .map((dataset) => dataset.slug);
  assert.deepEqual(cutFromTcga, ['cpm-15', 'cpm-17', 'monusac', 'monuseg', 'pannuke', 'tupac16']);
});

describe('a faulty file', () => {
  let folder: string;
  let good: Readonly<Record<string, unknown>>;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'paraffin-catalogue-'));
    good = JSON.parse(await readFile(path.join(FOLDER, 'breakhis.json'), 'utf8'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  async function faultsOf(files: Readonly<Record<string, unknown>>): Promise<readonly string[]> {
    const place = await mkdtemp(path.join(folder, 'case-'));
    await mkdir(place, { recursive: true });
    for (const [name, content] of Object.entries(files))
      await writeFile(path.join(place, name), typeof content === 'string' ? content : JSON.stringify(content));
    try {
      await loadCatalogue(place);
      return [];
    } catch (error) {
      if (error instanceof CatalogueError) return error.faults;
      throw error;
    }
  }

  test('a correct file has no faults', async () => assert.deepEqual(await faultsOf({ 'breakhis.json': good }), []));

  const evidenceWith = (field: string, value: unknown) => ({
    evidence: { ...Object(good['evidence']), [field]: value },
  });
  const cases: readonly (readonly [string, () => object, RegExp])[] = [
    ['an unknown field', () => ({ colour: 'red' }), /file: .*colour/],
    ['no name', () => ({ name: undefined }), /name: /],
    ['an unknown provenance', () => ({ provenance: 'hearsay' }), /provenance: /],
    ['an unknown kind of image', () => ({ image_kind: 'SLIDE' }), /image_kind: /],
    ['an unknown task', () => ({ tasks: ['guessing'] }), /tasks\.0: /],
    ['no organ', () => ({ organs: [] }), /organs: /],
    ['an organ twice', () => ({ organs: ['breast', 'breast'] }), /organs: must not repeat/],
    ['a count of text', () => ({ image_count: '7909' }), /image_count: /],
    ['a count of zero', () => ({ image_count: 0 }), /image_count: /],
    ['a magnification of zero', () => ({ magnifications: [0], objective_magnifications: [1] }), /magnifications\.0: /],
    ['a homepage that is not an address', () => ({ homepage: 'see above' }), /homepage: /],
    ['a value without evidence', () => evidenceWith('organs', null), /evidence\.organs: must be read or recalled/],
    ['evidence without a value', () => evidenceWith('wsi_count', 'recalled'), /evidence\.wsi_count: must be null/],
    ['read without a source', () => ({ field_sources: {} }), /evidence\.licence: must be read if and only if/],
    [
      'recalled with a source',
      () => evidenceWith('licence', 'recalled'),
      /evidence\.licence: must be read if and only if/,
    ],
    ['unknown evidence', () => evidenceWith('licence', 'guessed'), /evidence\.licence: /],
    [
      'objectives without total magnifications',
      () => ({ magnification_kind: 'objective' }),
      /objective_magnifications: must be as many as/,
    ],
    [
      'another number of objectives',
      () => ({ objective_magnifications: [4] }),
      /objective_magnifications: must be as many as/,
    ],
    ['a parent that is not there', () => ({ parent_collections: ['nowhere'] }), /"nowhere" is not another dataset/],
    ['itself as parent', () => ({ parent_collections: ['breakhis'] }), /"breakhis" is not another dataset/],
    ['the slug of another file', () => ({ slug: 'other' }), /slug: must be the file's name/],
  ];
  for (const [name, change, fault] of cases) {
    test(name, async () => {
      const faults = await faultsOf({ 'breakhis.json': { ...good, ...change() } });
      assert.ok(
        faults.some((each) => each.startsWith('breakhis.json: ') && fault.test(each)),
        faults.join('\n'),
      );
    });
  }

  test('that is not JSON', async () =>
    assert.match((await faultsOf({ 'breakhis.json': '{' })).join(), /^breakhis\.json: file: /));

  test('is reported with all the others', async () => {
    const faults = await faultsOf({ 'breakhis.json': { ...good, name: '', year: 12 }, 'other.json': '[]' });
    assert.deepEqual(
      faults.map((fault) => fault.split(': ').slice(0, 2).join(': ')),
      ['breakhis.json: name', 'breakhis.json: year', 'other.json: file'],
    );
  });
});
