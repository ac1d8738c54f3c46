/** Our native kernels access only their own memory, for any shape, and compute what is defined. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { temporaryFolder } from '../support/shards.ts';

const run = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '../..');
/** Each has a header that declares the functions that our ops call. */
const KERNELS = ['patches', 'winograd', 'batch-norm', 'matrix-product', 'attention', 'layer-norm', 'gelu'];
const PRODUCTS = ['packed-product', 'product-avx2', 'product-avx512', 'product-bfloat16'];
const SOURCES = [
  'test/support/native-fuzz.cc',
  ...[...KERNELS, ...PRODUCTS, 'threads'].map((name) => `native/${name}.cc`),
];

test('runs under the address sanitizer on random shapes', async (context) => {
  const program = path.join(await temporaryFolder(context), 'native-fuzz');
  const flags = ['-std=c++17', '-O1', '-g', '-pthread', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  await run('g++', [...flags, ...SOURCES, '-o', program], { cwd: ROOT });
  const { stdout } = await run(program, ['1', '150']);
  assert.equal(stdout.trim(), 'sound');
});

test('the sanitizers see every kernel that our ops call', async () => {
  const textOf = (file: string): Promise<string> => readFile(path.join(ROOT, file), 'utf8');
  const fuzz = await textOf('test/support/native-fuzz.cc');
  const headers = await Promise.all(KERNELS.map((name) => textOf(`native/${name}.h`)));
  const kernels = headers.flatMap((header) => [...header.matchAll(/^void (\w+)\(/gm)].map(([, name = '']) => name));
  assert.ok(kernels.length >= 16, kernels.join(' '));
  for (const kernel of kernels) assert.ok(fuzz.includes(` ${kernel}(`), `${kernel} is not tested`);
});
