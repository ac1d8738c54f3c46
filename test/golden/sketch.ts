/**
 * Compares tensors that are too large to commit by count sketches (Charikar et al. 2002) from the oracles: a sketch
 * preserves lengths and differences of tensors.
 */
import assert from 'node:assert/strict';
import { z } from 'zod';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { noise } from './formula.ts';

const SKETCH_SIZE = 16;
/** Relative error allowed for every tensor, where float32 can reach it. */
export const RELATIVE_BOUND = 1e-4;
/** As `compared` of simclr_oracle.py writes them. */
export const sketchedTensors = z.record(
  z.string(),
  z.object({ length: z.number(), float32Error: z.number(), sketch: z.array(z.number()).length(SKETCH_SIZE) }),
);
type Expected = z.infer<typeof sketchedTensors>;
export type Shown = ReadonlyMap<string, Float32Array>;

/** As `sketch` of simclr_oracle.py. */
function sketch(name: string, values: Float32Array): number[] {
  const signs = noise(`sketch ${name}`, values.length);
  const sums = Array.from({ length: SKETCH_SIZE }, () => 0);
  values.forEach((value, index) => {
    sums[index % SKETCH_SIZE] =
      (sums[index % SKETCH_SIZE] ?? Number.NaN) + ((signs[index] ?? Number.NaN) < 0 ? -value : value);
  });
  return sums;
}

/**
 * The bound, or three times PyTorch's own worst float32 error where that is larger: one activation on the other side of
 * zero changes many tensors.
 */
export function boundOf(wanted: Expected): number {
  return Math.max(RELATIVE_BOUND, 3 * Math.max(...Object.values(wanted).map(({ float32Error }) => float32Error)));
}

/** Asserts that every tensor differs from the oracle's by at most `bound`, relative to its length. */
export function assertNear(what: string, actual: Shown, wanted: Expected, bound = boundOf(wanted)): void {
  assert.deepEqual([...actual.keys()].sort(), Object.keys(wanted).sort());
  const errors = Object.entries(wanted).map(([name, { length, sketch: exact }]) => {
    const rough = sketch(name, actual.get(name) ?? new Float32Array());
    return { name, error: Math.hypot(...exact.map((sum, index) => sum - (rough[index] ?? Number.NaN))) / length };
  });
  const worst = errors.reduce((most, other) => (other.error <= most.error ? most : other));
  assert.ok(
    worst.error <= bound,
    `${what}: the worst is ${worst.name}, by ${worst.error} of its length, held to ${bound}`,
  );
}

export function only(all: Shown, wanted: Expected): Shown {
  return new Map([...all].filter(([name]) => name in wanted));
}

/** For each tensor, its value at the end minus its value at the beginning. */
export function movedBetween(begin: Shown, end: Shown): Shown {
  return new Map(
    [...end].map(([name, values]) => [
      name,
      values.map((value, index) => value - (begin.get(name)?.[index] ?? Number.NaN)),
    ]),
  );
}

export function floats(named: readonly NamedTensor[]): Map<string, Float32Array> {
  return new Map(
    named.flatMap(({ name, dtype, data }) =>
      dtype === 'F32' && data instanceof Float32Array ? [[name, data] as const] : [],
    ),
  );
}
