import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.resolve(import.meta.dirname, '..', '..');

/** Loads the check as if it ran under this version of Node. */
function checkUnder(version: string): { readonly status: number | null; readonly stderr: string } {
  const pretend = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } });`;
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`, path.join(root, 'scripts', 'node-version.mjs')],
    { encoding: 'utf8' },
  );
  return { status, stderr };
}

test('the oldest Node that the package states may start it, and an older one is refused in one line', () => {
  const manifest: unknown = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  assert.ok(typeof manifest === 'object' && manifest !== null && 'engines' in manifest);
  assert.deepEqual(manifest.engines, { node: '>=20.19' });
  for (const version of ['20.19.0', '22.0.0', '24.21.0'])
    assert.deepEqual(checkUnder(version), { status: 0, stderr: '' });
  for (const version of ['18.20.8', '20.18.3', '16.0.0']) {
    const { status, stderr } = checkUnder(version);
    assert.equal(status, 2);
    assert.match(stderr, /^Node 20\.19 or later is needed, .*\n$/);
  }
});
