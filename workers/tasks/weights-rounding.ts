/** What is lost where weights are rounded to a narrower dtype, measured on a checkpoint's golden image. */
import type { Architecture, WeightsDtype } from '../../src/formats/encoders/index.ts';
import type { GoldenRecord, InputContract } from '../../src/protocol/checkpoint.ts';
import { embedPixels } from '../engine/embed.ts';
import { openEncoder } from '../engine/encoders/index.ts';
import type { HalfPrecision, NamedTensor } from '../engine/named-tensor.ts';
import { createRandom, type Random } from '../engine/rng.ts';
import { maxRelativeDifferenceOfImages } from '../exports/difference.ts';

type NarrowDtype = Exclude<WeightsDtype, 'FLOAT32'>;

/** Any number: the same weights must give the same measurement. */
const DRAWING_SEED = 1;

/**
 * As `rounding` of a golden record describes it. Weights are rounded, or drawn, one tensor at a time while they are
 * loaded.
 *
 * @param golden by the weights as they are.
 */
export function weightsRounding(
  architecture: Architecture,
  tensors: readonly NamedTensor[],
  contract: InputContract,
  golden: GoldenRecord,
): NonNullable<GoldenRecord['rounding']> {
  const reference = Float32Array.from(golden.embeddings.flat());
  const pixels = new Uint8Array(Buffer.from(golden.images, 'base64'));
  const differenceWith = (changed: readonly NamedTensor[]): number | null => {
    const encoder = openEncoder(architecture, changed, contract.pooling);
    try {
      const embeddings = embedPixels(encoder, pixels, golden.embeddings.length, contract.imageSizePx, contract);
      const difference = maxRelativeDifferenceOfImages(embeddings, reference, encoder.embeddingDim);
      return Number.isFinite(difference) ? difference : null;
    } finally {
      encoder.dispose();
    }
  };
  const { weightsDtype } = contract;
  if (weightsDtype !== 'FLOAT32') {
    const random = createRandom(DRAWING_SEED);
    const drawn = changedTensors(tensors, (values, name) =>
      drawnBeforeRounding(values, weightsDtype, random.fork(name)),
    );
    return [{ dtype: weightsDtype, maxRelativeDifference: differenceWith(drawn) }];
  }
  return (['FLOAT16', 'BFLOAT16'] as const).map((dtype) => ({
    dtype,
    maxRelativeDifference: differenceWith(tensors.map((tensor) => inHalfPrecision(tensor, dtype))),
  }));
}

function changedTensors(
  tensors: readonly NamedTensor[],
  change: (values: Float32Array, name: string) => Float32Array,
): NamedTensor[] {
  return tensors.map((tensor): NamedTensor => {
    if (tensor.dtype !== 'F32') return tensor;
    const { name, shape, elementCount } = tensor;
    return {
      ...{ name, dtype: 'F32', shape, elementCount },
      get data() {
        return change(tensor.data, name);
      },
    };
  });
}

/** The tensor rounded to the dtype, whenever its values are asked for. Batch counts stay as they are. */
export function inHalfPrecision(tensor: NamedTensor, dtype: NarrowDtype): NamedTensor {
  if (tensor.dtype !== 'F32') return tensor;
  const { name, shape, elementCount } = tensor;
  const half: HalfPrecision = {
    dtype: dtype === 'FLOAT16' ? 'float16' : 'bfloat16',
    get bits() {
      return bitsAs(dtype, tensor.data);
    },
  };
  return {
    ...{ name, dtype: 'F32', shape, elementCount, half },
    get data() {
      return roundedTo(dtype, tensor.data);
    },
  };
}

function bitsAs(dtype: NarrowDtype, values: Float32Array): Uint16Array {
  if (dtype === 'FLOAT16') return new Uint16Array(new Float16Array(values).buffer);
  const rounded = roundedTo(dtype, values);
  return Uint16Array.from(new Uint32Array(rounded.buffer), (bits) => bits >>> 16);
}

/** The nearest values of the dtype; ties go to the even one. Beyond float16's largest number, 65504, it is infinity. */
export function roundedTo(dtype: NarrowDtype, values: Float32Array): Float32Array<ArrayBuffer> {
  const rounded = new Float32Array(values);
  if (dtype === 'FLOAT16') return rounded.map((value) => Math.f16round(value));
  const bits = new Uint32Array(rounded.buffer);
  for (let index = 0; index < bits.length; index += 1) {
    const each = bits[index] ?? 0;
    // bfloat16 is the upper half of a float32; its lowest bit decides ties.
    bits[index] = (each + 0x7fff + ((each >>> 16) & 1)) & 0xffff0000;
  }
  return rounded;
}

/** Fraction bits, and the exponent of the smallest normal number, below which the steps stay as wide. */
const FORMS = { FLOAT16: { fractionBits: 10, minExponent: -14 }, BFLOAT16: { fractionBits: 7, minExponent: -126 } };

/** For each value of the dtype one that rounds to it, evenly drawn from half a step below to half a step above. */
export function drawnBeforeRounding(
  values: Float32Array,
  dtype: NarrowDtype,
  random: Pick<Random, 'uniform'>,
): Float32Array {
  const { fractionBits, minExponent } = FORMS[dtype];
  const drawn = values.slice();
  const bits = new Uint32Array(values.slice().buffer);
  for (let index = 0; index < drawn.length; index += 1) {
    const each = bits[index] ?? 0;
    const exponent = ((each >>> 23) & 0xff) - 127;
    const offset = random.uniform() - 0.5;
    // Below a power of two the steps are half as wide as above it.
    const isAtPower = (each & 0x7fffff) === 0 && exponent > minExponent;
    const steps = offset < 0 && isAtPower ? offset / 2 : offset;
    const outwards = each >>> 31 === 0 ? steps : -steps;
    drawn[index] = (drawn[index] ?? 0) + outwards * 2 ** (Math.max(exponent, minExponent) - fractionBits);
  }
  return drawn;
}
