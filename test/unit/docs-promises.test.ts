/** The pages on reliability and security promise only what a test verifies: each promise names a test that runs. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { PAGES_OF_PROMISES, promisesOf, promisesWithoutTest } from '../../scripts/promises.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

for (const page of PAGES_OF_PROMISES) {
  test(`every promise of ${page} names what holds it`, async () => {
    const promises = promisesOf(page, await readFile(path.join(ROOT, page), 'utf8'));
    assert.ok(promises.length >= 15);
    for (const { file, title } of promises) {
      // A hidden file is a configuration of the linter; every other file must be one that the test command collects.
      assert.match(file, /^(test\/.+\.test\.ts|\..+)$/);
      const text = (await readFile(path.join(ROOT, file), 'utf8')).replaceAll("\\'", "'");
      assert.ok(text.includes(title), `${file} does not contain "${title}"`);
    }
  });
}

test('a promise is held only by a test that ran and passed', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-promises-'));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(
    path.join(folder, 'sample.test.mjs'),
    `import { describe, test } from 'node:test';
     describe('a suite', () => {
       test('that runs', () => {});
       test('that is skipped', { skip: true }, () => {});
       test('that is skipped for a reason', (t) => t.skip('no device'));
       test('that is left for later', { todo: true }, () => {});
       test('that fails', () => { throw new Error('no'); });
     });
     describe('a suite of nothing but skipped tests', () => { test('one', { skip: true }, () => {}); });
     // test('that is commented out', () => {});`,
  );
  const reporter = path.join(ROOT, 'scripts/ran-tests-reporter.ts');
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const output = await promisify(execFile)(
    process.execPath,
    ['--test', `--test-reporter=${reporter}`, path.join(folder, 'sample.test.mjs')],
    { env },
  ).catch((error: { stdout: string }) => error);
  const ran = output.stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  const titles = [
    'a suite',
    'that runs',
    'that is skipped',
    'that is left for later',
    'that fails',
    'a suite of nothing but skipped tests',
    'that is commented out',
  ];
  const promises = titles.map((title) => ({ page: 'docs/sample.md', file: 'sample.test.mjs', title }));
  const without = promisesWithoutTest(folder, promises, ['sample.test.mjs'], ran);
  assert.deepEqual(
    without.map((promise) => promise.title),
    titles.filter((title) => title !== 'a suite' && title !== 'that runs'),
  );
  assert.deepEqual(promisesWithoutTest(folder, promises, ['other.test.mjs'], ran), [], 'files that were not asked for');
});
