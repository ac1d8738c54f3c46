/** Only files and folders below an import root may be read, however their path is written. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { resolveImportFile, resolveImportPath } from '../../src/platform/import-roots.ts';

let base = '';
let root = '';

before(async () => {
  base = await realpath(await mkdtemp(path.join(tmpdir(), 'paraffin-roots-')));
  root = path.join(base, 'root');
  await mkdir(path.join(root, 'Gewebe µ'), { recursive: true });
  await mkdir(path.join(base, 'root-beside'));
  await writeFile(path.join(root, 'labels.csv'), 'path\n');
  await symlink(path.join(base, 'root-beside'), path.join(root, 'leads-out'));
  await symlink(path.join(root, 'Gewebe µ'), path.join(root, 'leads-within'));
  await symlink(root, path.join(base, 'alias'));
});
after(() => rm(base, { recursive: true, force: true }));

async function codeOf(inputPath: string, roots: readonly string[] = [root]): Promise<string> {
  try {
    await resolveImportPath(inputPath, roots, 'input.path');
    return 'OK';
  } catch (error) {
    assert.ok(error instanceof DomainError, String(error));
    assert.equal(error.field, 'input.path');
    assert.ok(error.hint !== undefined);
    return error.code;
  }
}

test('the root and everything below it are allowed, and returned as real paths', async () => {
  const inner = path.join(root, 'Gewebe µ');
  assert.equal(await resolveImportPath(root, [root], 'input.path'), root);
  assert.equal(await resolveImportPath(`${inner}/../Gewebe µ/`, [root], 'input.path'), inner);
  assert.equal(await resolveImportPath(path.join(root, 'leads-within'), [root], 'input.path'), inner);
  assert.equal(await resolveImportPath(path.join(base, 'alias', 'Gewebe µ'), [root], 'input.path'), inner);
  assert.equal(await resolveImportPath(inner, ['/nowhere', path.join(base, 'alias')], 'input.path'), inner);
});

test('paths outside are refused, whether or not they exist', async () => {
  for (const outside of [
    '/etc',
    '/nowhere',
    base,
    path.join(base, 'root-beside'),
    path.join(root, '..'),
    path.join(root, '../missing'),
    path.join(root, 'leads-out'),
  ]) {
    assert.equal(await codeOf(outside), 'IMPORT_PATH_NOT_ALLOWED', outside);
  }
  assert.equal(await codeOf('relative/folder'), 'IMPORT_PATH_NOT_ALLOWED');
  assert.equal(await codeOf(''), 'IMPORT_PATH_NOT_ALLOWED');
  assert.equal(await codeOf(root, []), 'IMPORT_PATH_NOT_ALLOWED');
});

test('a missing folder, a file instead of a folder, and invalid names are refused', async () => {
  assert.equal(await codeOf(path.join(root, 'missing')), 'IMPORT_PATH_NOT_FOUND');
  assert.equal(await codeOf(`${root}/zero\0byte`), 'IMPORT_PATH_NOT_FOUND');
  assert.equal(await codeOf(path.join(root, 'x'.repeat(5000))), 'IMPORT_PATH_NOT_FOUND');
  assert.equal(await codeOf(path.join(root, 'labels.csv')), 'IMPORT_PATH_NOT_FOLDER');
  assert.equal(await codeOf(path.join(root, 'labels.csv', 'below')), 'IMPORT_PATH_NOT_FOUND');
});

test('the same rule applies to a labels CSV', async () => {
  assert.equal(
    await resolveImportFile(path.join(root, 'labels.csv'), [root], 'input.labelsCsvPath'),
    path.join(root, 'labels.csv'),
  );
  await assert.rejects(resolveImportFile(root, [root], 'input.labelsCsvPath'), { code: 'IMPORT_PATH_NOT_FOUND' });
  await assert.rejects(resolveImportFile('/etc/passwd', [root], 'input.labelsCsvPath'), {
    code: 'IMPORT_PATH_NOT_ALLOWED',
  });
});
