/** HDF5 files against what h5py read from the same bytes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { hdf5Head, type Hdf5Array } from '../../src/formats/hdf5.ts';
import { bytesOf, FILES } from './hdf5_files.ts';

const golden = z
  .object({
    files: z.record(
      z.string(),
      z.object({
        sha256: z.string(),
        arrays: z.array(
          z.object({
            name: z.string(),
            dtype: z.string(),
            shape: z.array(z.number()),
            values: z.array(z.number()),
            attributes: z.record(z.string(), z.object({ type: z.string(), value: z.union([z.string(), z.number()]) })),
          }),
        ),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('./hdf5-expected.json', import.meta.url), 'utf8')));

const TYPES = { string: 'str', bigint: 'int64', number: 'float64' } as const;
const DTYPES = { FLOAT32: 'float32', INT64: 'int64' } as const;

describe('an HDF5 file', () => {
  for (const [name, arrays] of Object.entries(FILES))
    test(`is read by h5py as it was written: ${name}`, () => {
      const expected = golden.files[name];
      assert.ok(expected !== undefined);
      assert.equal(createHash('sha256').update(bytesOf(arrays)).digest('hex'), expected.sha256);
      assert.deepEqual(
        expected.arrays,
        arrays.map(({ name: array, type, shape, values, attributes }) => ({
          ...{ name: array, dtype: DTYPES[type], shape, values },
          attributes: Object.fromEntries(
            Object.entries(attributes).map(([key, value]) => {
              const kind = typeof value;
              assert.ok(kind === 'string' || kind === 'bigint' || kind === 'number');
              return [key, { type: TYPES[kind], value: kind === 'bigint' ? Number(value) : value }];
            }),
          ),
        })),
      );
    });

  const array: Hdf5Array = { name: 'a', type: 'FLOAT32', shape: [1, 2], attributes: {} };
  const REFUSED: readonly (readonly [string, readonly Hdf5Array[], RegExp])[] = [
    ['without an array', [], /1 to 8 arrays/],
    ['of nine arrays', Array.from({ length: 9 }, (_, index) => ({ ...array, name: `a${index}` })), /not 9/],
    ['with an empty array', [{ ...array, shape: [0, 2] }], /shape \[0, 2\]/],
    ['with a side of half a number', [{ ...array, shape: [1, 1.5] }], /shape \[1, 1\.5\]/],
    ['with a name that is not ASCII', [{ ...array, name: 'ü' }], /not a name in ASCII/],
    ['with an empty name', [{ ...array, name: '' }], /not a name in ASCII/],
    ['with an attribute that is not ASCII', [{ ...array, attributes: { ü: 1 } }], /not a name in ASCII/],
    ['with names out of order', [{ ...array, name: 'b' }, array], /a must stand before b/],
    ['with one name twice', [array, array], /a must stand before a/],
    [
      'with an array off the alignment',
      [
        { ...array, shape: [1, 1] },
        { ...array, name: 'b' },
      ],
      /multiple of 8/,
    ],
  ];
  for (const [what, arrays, message] of REFUSED)
    test(`${what} is refused`, () => assert.throws(() => hdf5Head(arrays), { name: 'RangeError', message }));
});
