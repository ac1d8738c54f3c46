/** Weights are stored in the dtype in which they came, one tensor at a time, and read back as float32. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { encoderWeights } from '../../src/formats/encoder-file.ts';
import { describeEncoder } from '../../src/formats/encoders/index.ts';
import { mapToEncoder } from '../../src/formats/encoders/mapping.ts';
import { VIT_PRESETS } from '../../src/formats/encoders/vit/presets.ts';
import { accessBytes } from '../../src/formats/random-access.ts';
import {
  openForeignSafetensors,
  readForeignSafetensors,
  writeSafetensors,
  type SafetensorsTensor,
} from '../../src/formats/safetensors.ts';
import { tensorDigestOf } from '../../src/formats/tensor-digest.ts';
import { joinedTensor, storeEncoder, weightsDtypeOf } from '../../src/modules/models/stored-encoder.ts';
import { createRandom } from '../../src/statistics/random.ts';
import { withWeightsOf } from '../../workers/tasks/stored-weights.ts';
import { drawnBeforeRounding, roundedTo } from '../../workers/tasks/weights-rounding.ts';
import { halfFile, halves } from '../support/encoder-files.ts';

const VIT = describeEncoder({
  family: 'VIT',
  specification: { ...VIT_PRESETS.VIT_TI16, width: 16, depth: 2, headCount: 2, mlpWidth: 32, gridSize: 2 },
});
const random = createRandom(5);
const WEIGHTS = VIT.tensors.map(({ name, shape }): SafetensorsTensor => {
  const count = shape.reduce((product, side) => product * side, 1);
  return { name, shape, dtype: 'F32', data: Float32Array.from({ length: count }, () => random.between(-2, 2)) };
});

/** What an import stores of a file. */
async function stored(file: Uint8Array): Promise<{
  readonly bytes: Uint8Array;
  readonly tensorDigest: string;
  readonly weightsDtype: string;
}> {
  const { tensors } = await openForeignSafetensors(accessBytes(file));
  const mapped = mapToEncoder(tensors, { specification: { headCount: 2 } }, joinedTensor);
  assert.ok(mapped.outcome === 'MAPPED', JSON.stringify(mapped));
  let bytes = new Uint8Array(0);
  let writtenBytes = 0;
  const { tensorDigest, byteSize } = await storeEncoder(
    mapped.description,
    mapped.tensors,
    { format: 'pt' },
    {
      begin: (size) => {
        bytes = new Uint8Array(size);
      },
      write: (part, position) => {
        bytes.set(part, position);
        writtenBytes += part.length;
      },
    },
  );
  assert.equal(writtenBytes, byteSize, 'each byte is written once');
  return { bytes, tensorDigest, weightsDtype: weightsDtypeOf(mapped.description, mapped.tensors) };
}

const widened = (dtype: 'F16' | 'BF16'): SafetensorsTensor[] =>
  WEIGHTS.map((tensor) =>
    tensor.dtype === 'F32'
      ? { ...tensor, data: roundedTo(dtype === 'F16' ? 'FLOAT16' : 'BFLOAT16', tensor.data) }
      : tensor,
  );
const byName = (a: { readonly name: string }, b: { readonly name: string }): number => (a.name < b.name ? -1 : 1);

describe('stored weights', () => {
  for (const [dtype, weightsDtype] of [
    ['F16', 'FLOAT16'],
    ['BF16', 'BFLOAT16'],
  ] as const) {
    test(`${dtype} keep every bit and half the size, and are the same weights as their float32`, async () => {
      const half = await stored(halfFile(dtype, WEIGHTS));
      const full = await stored(writeSafetensors(widened(dtype)));
      assert.deepEqual([half.weightsDtype, full.weightsDtype], [weightsDtype, 'FLOAT32']);
      for (const tensor of readForeignSafetensors(half.bytes).tensors) {
        const original = WEIGHTS.find(({ name }) => name === tensor.name);
        assert.ok(original?.dtype === 'F32' && tensor.dtype === dtype);
        assert.deepEqual(tensor.data, halves(dtype, original.data));
      }
      assert.ok(half.bytes.length < 0.55 * full.bytes.length, `${half.bytes.length} of ${full.bytes.length} bytes`);
      assert.equal(half.tensorDigest, full.tensorDigest);
      assert.equal(half.tensorDigest, tensorDigestOf(widened(dtype)));
      assert.deepEqual(encoderWeights(half.bytes).toSorted(byName), widened(dtype).toSorted(byName));
    });
  }

  test('float32 are the bytes that a whole file in memory has', async () => {
    const { bytes, tensorDigest, weightsDtype } = await stored(writeSafetensors(WEIGHTS.toReversed(), { other: 'x' }));
    assert.deepEqual(bytes, writeSafetensors(WEIGHTS, { format: 'pt' }));
    assert.deepEqual([tensorDigest, weightsDtype], [tensorDigestOf(WEIGHTS), 'FLOAT32']);
  });

  test('of several dtypes keep each its own; the least precise one is named', async () => {
    const mixed = await stored(halfFile('F16', WEIGHTS, (name) => !name.includes('norm')));
    assert.equal(mixed.weightsDtype, 'FLOAT16');
    for (const { name, dtype } of readForeignSafetensors(mixed.bytes).tensors)
      assert.equal(dtype, name.includes('norm') ? 'F32' : 'F16', name);
  });

  test('that are not finite are refused in half precision too', async () => {
    const wrong = WEIGHTS.map((tensor) =>
      tensor.name === 'norm.bias' ? { ...tensor, dtype: 'F32' as const, data: new Float32Array(16).fill(1e6) } : tensor,
    );
    await assert.rejects(stored(halfFile('F16', wrong)), /norm\.bias contains numbers that are not finite/);
  });

  test('are read from the disk tensor by tensor, as float32', async (context: TestContext) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-weights-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const file = path.join(folder, 'encoder.safetensors');
    await writeFile(file, (await stored(halfFile('BF16', WEIGHTS))).bytes);
    const read = await withWeightsOf(file, (tensors) =>
      tensors.map(({ name, dtype, shape, data }) => ({ name, dtype, shape, data })),
    );
    assert.deepEqual(read.toSorted(byName), widened('BF16').toSorted(byName));
  });
});

describe('rounding', () => {
  test('goes to the nearest value, and from the middle to the even one', () => {
    const round = (dtype: 'FLOAT16' | 'BFLOAT16', ...values: number[]): number[] => [
      ...roundedTo(dtype, Float32Array.from(values)),
    ];
    // float16 has 10 fraction bits, bfloat16 7.
    assert.deepEqual(
      round('FLOAT16', 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -20, -1 - 3 * 2 ** -11, 7e4, 2 ** -25),
      [1, 1 + 2 ** -9, 1 + 2 ** -10, -1 - 2 ** -9, Infinity, 0],
    );
    assert.deepEqual(
      round('BFLOAT16', 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -1 - 3 * 2 ** -8, 65_536, 0),
      [1, 1 + 2 ** -6, 1 + 2 ** -7, -1 - 2 ** -6, 65_536, 0],
    );
  });

  for (const dtype of ['FLOAT16', 'BFLOAT16'] as const) {
    test(`weights that are drawn for ${dtype} ones round to them, and are not they`, () => {
      const values = roundedTo(
        dtype,
        Float32Array.from([
          1,
          -1,
          0.5,
          2 ** -14,
          -(2 ** -15),
          3,
          0,
          ...Array.from({ length: 4000 }, () => random.between(-1, 1)),
        ]),
      );
      const drawn = drawnBeforeRounding(values, dtype, createRandom(3));
      assert.deepEqual(roundedTo(dtype, drawn), values);
      const movedCount = drawn.filter((value, index) => value !== values[index]).length;
      assert.ok(movedCount > 0.9 * values.length, `${movedCount} of ${values.length} moved`);
    });
  }
});
