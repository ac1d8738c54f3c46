/** .npy against NumPy's own files. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { NpyError, readNpy, writeNpy } from '../../src/formats/npy.ts';

const golden = z
  .object({
    cases: z.array(
      z.object({
        name: z.string(),
        dtype: z.enum(['float32', 'uint8']),
        shape: z.array(z.number()),
        values: z.array(z.number()),
        bytes: z.base64(),
      }),
    ),
    refused: z.array(z.object({ name: z.string(), bytes: z.base64() })),
  })
  .parse(JSON.parse(readFileSync(new URL('./npy-expected.json', import.meta.url), 'utf8')));

describe('an .npy', () => {
  for (const { name, dtype, shape, values, bytes } of golden.cases) {
    const data = dtype === 'float32' ? Float32Array.from(values) : Uint8Array.from(values);
    test(`is written as NumPy writes it: ${name}`, () =>
      assert.equal(writeNpy({ shape, data }).toString('base64'), bytes));
    test(`of NumPy is read: ${name}`, () => assert.deepEqual(readNpy(Buffer.from(bytes, 'base64')), { shape, data }));
  }
  for (const { name, bytes } of golden.refused) {
    test(`of another kind is refused: ${name}`, () =>
      assert.throws(() => readNpy(Buffer.from(bytes, 'base64')), NpyError));
  }
  test('that is cut short, too long or of other bytes is refused', () => {
    const whole = Buffer.from(golden.cases[0]?.bytes ?? '', 'base64');
    for (const bytes of [
      whole.subarray(0, -1),
      Buffer.concat([whole, Buffer.alloc(1)]),
      whole.subarray(0, 9),
      Buffer.from('no array'),
      Buffer.alloc(0),
    ])
      assert.throws(() => readNpy(bytes), NpyError);
  });
  test('needs a shape that holds the data', () => {
    assert.throws(() => writeNpy({ shape: [2, 3], data: new Float32Array(5) }), RangeError);
    assert.throws(() => writeNpy({ shape: [], data: new Float32Array(1) }), RangeError);
  });
});
