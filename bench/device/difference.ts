/** How far the results of two devices are apart, and how far they may be. */
import type { StepDifference, Precision } from './report.ts';

/** Tensors by name, as the programs of the device bench write them. */
export type Tensors = ReadonlyMap<string, Float32Array>;

/**
 * |actual - wanted| / |wanted| of all tensors as one vector; NaN if a value is NaN.
 * @throws RangeError if the tensors have other names or sizes.
 */
export function relativeDifference(actual: Tensors, wanted: Tensors): number {
  if (actual.size !== wanted.size) throw new RangeError(`There are ${actual.size} tensors, not ${wanted.size}.`);
  let [difference, size] = [0, 0];
  for (const [name, values] of wanted) {
    const others = actual.get(name);
    if (others?.length !== values.length) throw new RangeError(`The tensor ${name} is missing or has another size.`);
    values.forEach((value, index) => {
      difference += (value - (others[index] ?? Number.NaN)) ** 2;
      size += value ** 2;
    });
  }
  return Math.sqrt(difference / size);
}

/** Mean of |actual - wanted|. @throws RangeError for another number of values. */
export function meanDifference(actual: Float32Array, wanted: Float32Array): number {
  if (actual.length !== wanted.length) throw new RangeError(`There are ${actual.length} values, not ${wanted.length}.`);
  return wanted.reduce((sum, value, index) => sum + Math.abs(value - (actual[index] ?? Number.NaN)), 0) / wanted.length;
}

/**
 * The gradient may differ by this multiple of what the CPU's own differs by: in float32 when the images change by one
 * unit in the last place, in bfloat16 from float32. A GPU adds up in another order in every layer, the change of the
 * images is made in one place.
 */
const GRADIENT_MULTIPLE: Readonly<Record<Precision, number>> = { float32: 5, bfloat16: 2 };
/** Where the CPU has no bfloat16 to compare with. */
const GRADIENT_LIMIT_WITHOUT_REFERENCE = 0.25;
const LOSS_LIMIT: Readonly<Record<Precision, number>> = { float32: 1e-4, bfloat16: 2e-2 };
/** In 1/255 of a pixel's range, a tenth: single pixels at an edge may be rounded to another side. */
const VIEWS_LIMIT = 2 / 2550;

/** @param own what the CPU's own gradient differs by; null where the CPU cannot compute in the precision. */
export function gradientLimitOf(precision: Precision, own: number | null): number {
  return own === null ? GRADIENT_LIMIT_WITHOUT_REFERENCE : own * GRADIENT_MULTIPLE[precision];
}

/** False for NaN too. */
export function isWithinLimits({ precision, loss, gradient, gradientLimit, views }: StepDifference): boolean {
  return loss <= LOSS_LIMIT[precision] && gradient <= gradientLimit && views <= VIEWS_LIMIT;
}
