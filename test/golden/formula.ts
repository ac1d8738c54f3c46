/**
 * Weights and images from one small formula, the same as in formula.py and as `formula_state` of encoder_oracle.py:
 * nothing large need be committed.
 */
import { encoderTensorSpecs } from '../../workers/engine/encoders/resnet/architecture.ts';
import type { EncoderArchitecture } from '../../workers/engine/encoders/resnet/architecture.ts';
import { projectionHeadExpectations } from '../../workers/engine/models/projection-head.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { asRank4, tf } from '../../workers/engine/tensorflow.ts';
import type { Tensor4D } from '../../workers/engine/tensorflow.ts';

function fnv1a(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1)
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193) >>> 0;
  return value;
}

/** Numbers in [-0.5, 0.5), a hash of the name and of the position. */
export function noise(name: string, count: number): Float32Array {
  const seed = fnv1a(name);
  return Float32Array.from({ length: count }, (_, index) => {
    let mixed = (Math.imul(index, 0x9e3779b9) + seed) >>> 0;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32 - 0.5;
  });
}

export function formulaWeights(architecture: EncoderArchitecture): NamedTensor[] {
  return encoderTensorSpecs(architecture).map(({ name, kind, shape }): NamedTensor => {
    const values = noise(
      name,
      shape.reduce((product, side) => product * side, 1),
    );
    switch (kind) {
      case 'BATCH_COUNT':
        return { name, dtype: 'I64', shape, data: BigInt64Array.of(7n) };
      case 'FILTER': {
        const [outputChannels = 1, , height = 1, width = 1] = shape;
        const scale = Math.fround(Math.sqrt(24 / (outputChannels * height * width)));
        return { name, dtype: 'F32', shape, data: values.map((value) => value * scale) };
      }
      case 'NORM_SCALE':
      case 'RUNNING_VARIANCE':
        return { name, dtype: 'F32', shape, data: values.map((value) => 1 + Math.fround(value * Math.fround(0.4))) };
      case 'NORM_OFFSET':
      case 'RUNNING_MEAN':
        return { name, dtype: 'F32', shape, data: values.map((value) => value * Math.fround(0.4)) };
    }
  });
}

/** Images [count, height, width, 3] in [-2, 2). */
export function formulaImages(count: number, height: number, width: number): Tensor4D {
  const values = noise(`images ${height}x${width}`, count * height * width * 3).map((value) => value * 4);
  return asRank4(tf.tensor(values, [count, height, width, 3], 'float32'));
}

/** As `SimClr` of simclr_oracle.py. */
export function formulaHead(embeddingDim: number, projectionDim: number): NamedTensor[] {
  const scale = Math.fround(2 / Math.sqrt(embeddingDim));
  return projectionHeadExpectations(embeddingDim, projectionDim).map(({ name, shape }): NamedTensor => {
    const length = shape.reduce((product, side) => product * side, 1);
    return { name, dtype: 'F32', shape, data: noise(name, length).map((value) => value * scale) };
  });
}

/** Two views each of `count` images, [2N, H, W, 3]; partners share three quarters of what they show. */
export function formulaViews(step: number, count: number, height: number, width: number): Tensor4D {
  const values = noise(`views ${step}`, 2 * count * height * width * 3).map((value) => value * 4);
  const half = values.length / 2;
  for (let index = 0; index < half; index += 1) {
    values[half + index] =
      Math.fround((values[half + index] ?? Number.NaN) * 0.25) + Math.fround((values[index] ?? Number.NaN) * 0.75);
  }
  return asRank4(tf.tensor(values, [2 * count, height, width, 3], 'float32'));
}

export interface VitTensor {
  readonly name: string;
  readonly dtype: 'F32';
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** As `formula_state` of vit_formula.py. */
export function formulaVitTensor([name, shape]: readonly [name: string, shape: readonly number[]]): VitTensor {
  const values = noise(
    name,
    shape.reduce((product, side) => product * side, 1),
  );
  const fanIn = shape.slice(1).reduce((product, side) => product * side, 1);
  const data =
    name.endsWith('.weight') && shape.length > 1
      ? values.map((value) => value * Math.fround(Math.sqrt(12 / fanIn)))
      : /\.(?:weight|gamma|lambda1)$/.test(name)
        ? values.map((value) => 1 + Math.fround(value * Math.fround(0.4)))
        : values.map((value) => value * Math.fround(0.4));
  return { name, dtype: 'F32', shape, data };
}
