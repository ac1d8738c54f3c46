/** The files of hdf5.test.ts. As a program: node hdf5_files.ts DIR writes them for hdf5_oracle.py. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { hdf5Head, type Hdf5Array } from '../../src/formats/hdf5.ts';

export interface ArrayToWrite extends Hdf5Array {
  readonly values: readonly number[];
}

export const FILES: Readonly<Record<string, readonly ArrayToWrite[]>> = {
  features: [
    {
      ...{ name: 'coords', type: 'INT64', shape: [3, 2], values: [0, 0, 512, 0, 0, 3_000_000_000] },
      attributes: { name: 'Schnitt ü', patch_size: 256n, least: -(2n ** 63n), microns_per_pixel: 0.2527 },
    },
    {
      ...{ name: 'features', type: 'FLOAT32', shape: [3, 4] },
      values: Array.from({ length: 12 }, (_, index) => index / 8 - 0.75),
      attributes: { name: 'Schnitt ü', empty: '' },
    },
  ],
  // Texts that do not fit into the least global heap.
  texts: [
    {
      ...{ name: 'a', type: 'FLOAT32', shape: [1, 1], values: [1.5] },
      attributes: { first: 'x'.repeat(4000), second: 'y'.repeat(4040), third: 'z' },
    },
  ],
  plain: [{ name: 'one', type: 'INT64', shape: [1, 1], values: [-7], attributes: {} }],
  // As many as one symbol node holds.
  eight: Array.from({ length: 8 }, (_, index) => ({
    ...{ name: `array${index}`, type: 'INT64' as const, shape: [1, 2] as const, values: [index, -1 - index] },
    attributes: { index: BigInt(index) },
  })),
};

export function bytesOf(arrays: readonly ArrayToWrite[]): Buffer {
  return Buffer.concat([hdf5Head(arrays), ...arrays.map(dataOf)]);
}

function dataOf({ type, values }: ArrayToWrite): Buffer {
  const bytes = Buffer.alloc(values.length * (type === 'FLOAT32' ? 4 : 8));
  for (const [index, value] of values.entries())
    if (type === 'FLOAT32') bytes.writeFloatLE(value, index * 4);
    else bytes.writeBigInt64LE(BigInt(value), index * 8);
  return bytes;
}

if (import.meta.main) {
  const [folder = '.'] = process.argv.slice(2);
  for (const [name, arrays] of Object.entries(FILES)) writeFileSync(path.join(folder, `${name}.h5`), bytesOf(arrays));
}
