/** Our native convolutions access only their own memory, for any shape, and compute the convolution as defined. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { temporaryFolder } from '../support/shards.ts';

const run = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '../..');
const SOURCES = [
  'test/support/native-fuzz.cc',
  ...['patches', 'winograd', 'threads'].map((name) => `native/${name}.cc`),
];

test('under the address sanitizer, on shapes that are drawn at random', async (context) => {
  const program = path.join(await temporaryFolder(context), 'native-fuzz');
  const flags = ['-std=c++17', '-O1', '-g', '-pthread', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  await run('g++', [...flags, ...SOURCES, '-o', program], { cwd: ROOT });
  const { stdout } = await run(program, ['1', '150']);
  assert.equal(stdout.trim(), 'sound');
});
