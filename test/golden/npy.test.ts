/** .npy against NumPy's own files. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { createNpyRowReader, NpyError, npyHeader, readNpy, writeNpy } from '../../src/formats/npy.ts';

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
  test('gives single rows while its bytes stream past, in pieces of any length', () => {
    const [rowCount, rowLength] = [7, 5];
    const data = Float32Array.from({ length: rowCount * rowLength }, (_, index) => index / 3);
    const whole = writeNpy({ shape: [rowCount, rowLength], data });
    const streamed = Buffer.concat([npyHeader([rowCount, rowLength], '<f4'), Buffer.from(data.buffer)]);
    assert.deepEqual(streamed, whole);
    for (const rows of [[], [0], [6], [1, 2, 5], [0, 1, 2, 3, 4, 5, 6]]) {
      for (const pieceBytes of [1, 3, 64, 128, 131, 1000]) {
        const reader = createNpyRowReader([rowCount, rowLength], Int32Array.from(rows));
        for (let from = 0; from < whole.length; from += pieceBytes)
          reader.take(whole.subarray(from, from + pieceBytes));
        const picked = rows.flatMap((row) => [...data.subarray(row * rowLength, (row + 1) * rowLength)]);
        assert.deepEqual([...reader.finish()], picked, `rows ${rows.join()} in pieces of ${pieceBytes}`);
      }
    }
    const takeAll = (shape: [number, number], bytes: Uint8Array): void => {
      const reader = createNpyRowReader(shape, Int32Array.of(0));
      reader.take(bytes);
      reader.finish();
    };
    takeAll([rowCount, rowLength], whole);
    const asBytes = writeNpy({ shape: [rowCount, rowLength], data: new Uint8Array(rowCount * rowLength) });
    for (const [shape, bytes] of [
      [[rowCount, rowLength + 1], whole],
      [[rowCount, rowLength], asBytes],
      [[rowCount, rowLength], whole.subarray(0, -1)],
      [[rowCount, rowLength], whole.subarray(0, 20)],
      [[rowCount, rowLength], Buffer.concat([whole, Buffer.alloc(4)])],
      [[rowCount, rowLength], Buffer.alloc(200)],
    ] as const)
      assert.throws(() => takeAll([...shape], bytes), NpyError);
  });
  test('needs a shape that holds the data', () => {
    assert.throws(() => writeNpy({ shape: [2, 3], data: new Float32Array(5) }), RangeError);
    assert.throws(() => writeNpy({ shape: [], data: new Float32Array(1) }), RangeError);
  });
});
