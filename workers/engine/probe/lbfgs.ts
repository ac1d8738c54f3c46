/**
 * L-BFGS (Liu and Nocedal 1989) for smooth convex functions, preconditioned where the caller knows the curvature, with
 * a weak-Wolfe line search by bisection (Lewis and Overton 2013) that compares slopes instead of values near the
 * minimum (the approximate Wolfe conditions of Hager and Zhang 2005).
 */
import { addScaled, dot } from './vectors.ts';

export interface Evaluation {
  readonly value: number;
  readonly gradient: Float64Array;
}

export interface LbfgsOptions {
  /** Stops when no entry of the gradient is larger than this in absolute value. */
  readonly gradientTolerance: number;
  readonly maxIterations: number;
  /**
   * Multiplies a vector by an estimate of the inverse Hessian, which must be linear, symmetric and positive definite;
   * default: the vector itself. The better the estimate, the fewer iterations.
   */
  readonly precondition?: (vector: Float64Array) => Float64Array;
}

export interface LbfgsResult {
  readonly point: Float64Array;
  readonly value: number;
  readonly iterationCount: number;
  /** False if the iterations ran out, or if rounding errors of the function allowed no descent. */
  readonly converged: boolean;
}

const MEMORY = 10;
const ARMIJO = 1e-4;
const CURVATURE = 0.9;
const LINE_SEARCH_MAX = 30;
/**
 * Relative rounding error of a value whose terms come from float32 products: smaller differences are not significant.
 */
const VALUE_NOISE = 1e-7;

/** Minimises from `start`, which is not changed. */
export function minimise(
  evaluate: (point: Float64Array) => Evaluation,
  start: Float64Array,
  options: LbfgsOptions,
): LbfgsResult {
  const { precondition } = options;
  let point: Float64Array = start.slice();
  let current = evaluate(point);
  const history: CurvaturePair[] = [];

  for (let iteration = 0; iteration < options.maxIterations; iteration += 1) {
    if (maxAbs(current.gradient) <= options.gradientTolerance)
      return { point, value: current.value, iterationCount: iteration, converged: true };
    const direction = descentDirection(current.gradient, history, precondition);
    const isUnscaled = history.length === 0 && precondition === undefined;
    const firstLength = isUnscaled ? Math.min(1, 1 / norm(current.gradient)) : 1;
    const found = searchLine(evaluate, point, current, direction, firstLength);
    if (found === null) return { point, value: current.value, iterationCount: iteration, converged: false };
    const step = found.point.map((value, index) => value - (point[index] ?? 0));
    const change = found.evaluation.gradient.map((value, index) => value - (current.gradient[index] ?? 0));
    const curvature = dot(step, change);
    if (curvature > 1e-14 * dot(change, change)) {
      const preconditioned = precondition?.(change) ?? change;
      history.push({
        ...{ step, change, inverseCurvature: 1 / curvature },
        scale: curvature / dot(change, preconditioned),
      });
      if (history.length > MEMORY) history.shift();
    }
    point = found.point;
    current = found.evaluation;
  }
  const converged = maxAbs(current.gradient) <= options.gradientTolerance;
  return { point, value: current.value, iterationCount: options.maxIterations, converged };
}

/** A step, and how it changed the gradient. */
interface CurvaturePair {
  readonly step: Float64Array;
  readonly change: Float64Array;
  readonly inverseCurvature: number;
  /** Of the preconditioner, with which it agrees with this pair. */
  readonly scale: number;
}

/** The two-loop recursion: minus the gradient times an estimate of the inverse Hessian. */
function descentDirection(
  gradient: Float64Array,
  history: readonly CurvaturePair[],
  precondition: LbfgsOptions['precondition'],
): Float64Array {
  let direction: Float64Array = gradient.map((value) => -value);
  const weights = history.map(() => 0);
  for (let index = history.length - 1; index >= 0; index -= 1) {
    const pair = history[index];
    if (pair === undefined) continue;
    const weight = pair.inverseCurvature * dot(pair.step, direction);
    weights[index] = weight;
    addScaled(direction, pair.change, -weight);
  }
  if (precondition !== undefined) direction = precondition(direction);
  const last = history.at(-1);
  if (last !== undefined) {
    for (let index = 0; index < direction.length; index += 1) direction[index] = (direction[index] ?? 0) * last.scale;
  }
  for (const [index, pair] of history.entries()) {
    addScaled(direction, pair.step, (weights[index] ?? 0) - pair.inverseCurvature * dot(pair.change, direction));
  }
  return direction;
}

/**
 * The weak-Wolfe line search along a direction, by bisection.
 * @returns the last accepted point; null if the direction does not descend or no step was accepted.
 */
function searchLine(
  evaluate: (point: Float64Array) => Evaluation,
  start: Float64Array,
  current: Evaluation,
  direction: Float64Array,
  firstLength: number,
): { readonly point: Float64Array; readonly evaluation: Evaluation } | null {
  const slope = dot(current.gradient, direction);
  if (!(slope < 0)) return null;
  let low = 0;
  let high = Infinity;
  let length = firstLength;
  let accepted: { readonly point: Float64Array; readonly evaluation: Evaluation } | null = null;
  for (let attempt = 0; attempt < LINE_SEARCH_MAX; attempt += 1) {
    const point = start.slice();
    addScaled(point, direction, length);
    const evaluation = evaluate(point);
    const newSlope = dot(evaluation.gradient, direction);
    const isSufficientDecrease = evaluation.value <= current.value + ARMIJO * length * slope;
    const isApproximateDecrease =
      evaluation.value <= current.value + VALUE_NOISE * Math.abs(current.value) && newSlope <= (2 * ARMIJO - 1) * slope;
    if (!isSufficientDecrease && !isApproximateDecrease) {
      high = length;
    } else {
      accepted = { point, evaluation };
      if (newSlope >= CURVATURE * slope) return accepted;
      low = length;
    }
    length = high === Infinity ? 2 * low : (low + high) / 2;
  }
  return accepted;
}

function norm(vector: Float64Array): number {
  return Math.sqrt(dot(vector, vector));
}

function maxAbs(vector: Float64Array): number {
  return vector.reduce((maximum, value) => Math.max(maximum, Math.abs(value)), 0);
}
