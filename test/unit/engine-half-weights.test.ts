/** Weights in half precision on the device: the numbers of their bits, and the embeddings that float32 gives. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { VIT_PRESETS } from '../../src/formats/encoders/vit/presets.ts';
import { toFloat32 } from '../../src/formats/torch-checkpoint/dtype.ts';
import { openEncoder, untrainedWeights } from '../../workers/engine/encoders/index.ts';
import { linear, linearByTensorflow } from '../../workers/engine/kernels/linear.ts';
import { createFixedWeight, fromDevice } from '../../workers/engine/models/parameter.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { normals } from '../../workers/engine/normals.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import {
  castTo,
  floatDtypeOf,
  liveTensorCount,
  readFloats,
  tf,
  uploadFloats,
  uploadHalves,
} from '../../workers/engine/tensorflow.ts';
import { halves } from '../support/encoder-files.ts';

const HALVES = [
  { file: 'F16', dtype: 'float16' },
  { file: 'BF16', dtype: 'bfloat16' },
] as const;

/** The tensor rounded to half precision, with its bits and without. */
function rounded(
  tensor: NamedTensor,
  { file, dtype }: (typeof HALVES)[number],
): { bits: NamedTensor; wide: NamedTensor } {
  assert.ok(tensor.dtype === 'F32');
  const bits = halves(file, tensor.data);
  const wide: NamedTensor = { ...tensor, data: toFloat32({ dtype: file, data: bits }) };
  // Whoever reads the numbers instead of the bits gets others.
  return { wide, bits: { ...wide, data: wide.data.map((value) => value + 1), half: { dtype, bits } } };
}

describe('an upload', () => {
  test('copies the numbers, which may change afterwards', () => {
    const before = liveTensorCount();
    const floats = Float32Array.from({ length: 4096 }, (_, place) => place);
    const bits = Uint16Array.from(floats, (value) => value);
    const [wide, narrow] = [uploadFloats(floats, [64, 64]), uploadHalves(bits, [64, 64], 'bfloat16')];
    floats.fill(-1);
    bits.fill(0x3f80);
    assert.deepEqual(
      [wide.shape, narrow.shape],
      [
        [64, 64],
        [64, 64],
      ],
    );
    assert.deepEqual(
      readFloats(wide),
      Float32Array.from({ length: 4096 }, (_, place) => place),
    );
    const widened = castTo(narrow, 'float32');
    assert.deepEqual(
      readFloats(widened),
      toFloat32({ dtype: 'BF16', data: Uint16Array.from({ length: 4096 }, (_, place) => place) }),
    );
    tf.dispose([wide, narrow, widened]);
    assert.equal(liveTensorCount(), before);
  });

  test('keeps every finite number of 16 bits, and the infinities', () => {
    for (const { file, dtype } of HALVES) {
      const every = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits);
      const values = toFloat32({ dtype: file, data: every });
      const isNumber = (_: number, bits: number): boolean => !Number.isNaN(values[bits]);
      const kept = uploadHalves(every.filter(isNumber), [values.filter(isNumber).length], dtype);
      assert.equal(floatDtypeOf(kept), dtype);
      const widened = castTo(kept, 'float32');
      assert.deepEqual(readFloats(widened), values.filter(isNumber));
      tf.dispose([kept, widened]);
    }
  });

  test('of fewer or more numbers than the shape has is refused', () => {
    assert.throws(() => uploadFloats(new Float32Array(5), [2, 3]), /shape \[2, 3\] cannot have 5 numbers/);
    assert.throws(() => uploadHalves(new Uint16Array(7), [2, 3], 'float16'), /shape \[2, 3\] cannot have 7 numbers/);
  });
});

for (const half of HALVES)
  describe(`weights in ${half.dtype}`, () => {
    test('stay so on the device, and give the products that float32 gives, bit for bit', () => {
      const before = liveTensorCount();
      const [outputs, inputs] = [37, 53];
      const data = normals(outputs * inputs, 0.5, createRandom(1));
      const { bits, wide } = rounded({ name: 'weight', dtype: 'F32', shape: [outputs, inputs], data }, half);
      const input = uploadFloats(normals(20 * inputs, 1, createRandom(2)), [20, inputs]);
      const bias = uploadFloats(normals(outputs, 1, createRandom(3)), [outputs]);
      const [narrow, reference] = [createFixedWeight(bits), createFixedWeight(wide)];
      assert.deepEqual([floatDtypeOf(narrow.value), floatDtypeOf(reference.value)], [half.dtype, 'float32']);
      assert.deepEqual(fromDevice('weight', narrow.value, 'AS_IS'), fromDevice('weight', reference.value, 'AS_IS'));
      for (const product of [linear, linearByTensorflow]) {
        const [found, wanted] = [narrow, reference].map(({ value }) =>
          product(input, { weight: value, bias, computeDtype: 'float32' }),
        );
        assert.ok(found && wanted);
        assert.deepEqual(readFloats(found), readFloats(wanted));
        tf.dispose([found, wanted]);
      }
      tf.dispose([input, bias, narrow.value, reference.value]);
      assert.equal(liveTensorCount(), before);
    });

    for (const mlp of ['GELU', 'SWIGLU'] as const)
      test(`embed as float32 does, bit for bit, with ${mlp}`, () => {
        const before = liveTensorCount();
        const specification = {
          ...VIT_PRESETS.VIT_TI16,
          ...{ width: 24, depth: 2, headCount: 3, mlpWidth: 40, gridSize: 2, mlp },
        };
        const tensors = untrainedWeights({ family: 'VIT', specification }, createRandom(4)).map((tensor) =>
          rounded(tensor, half),
        );
        const images = tf.randomNormal<tf.Rank.R4>([3, 32, 32, 3], 0, 1, 'float32', 5);
        const [found, wanted] = (['bits', 'wide'] as const).map((form) => {
          // Only the matrices of linear layers stay in half precision; all else is widened as it is read.
          const loaded = tensors.map((tensor) =>
            tensor.wide.shape.length === 2 && tensor.wide.name.endsWith('.weight') ? tensor[form] : tensor.wide,
          );
          const encoder = openEncoder({ family: 'VIT', specification }, loaded, 'CLS');
          const embedding = encoder.embed(images);
          encoder.dispose();
          return embedding;
        });
        assert.ok(found && wanted);
        const values = readFloats(found);
        assert.deepEqual(values, readFloats(wanted));
        assert.ok(values.every(Number.isFinite) && new Set(values).size > 24);
        tf.dispose([images, found, wanted]);
        assert.equal(liveTensorCount(), before);
      });
  });
