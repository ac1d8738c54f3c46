/** Which baselines a result does not beat, judged by the interval of the difference instead of two separate scores. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unbeatenBaselines } from '../../src/modules/evaluations/index.ts';

const metric = (name: string, value: number, ci95Low: number | null = null, ci95High: number | null = null) => ({
  name,
  value,
  ci95Low,
  ci95High,
});
const differing = (name: string, value: number, low: number | null, high: number | null) => [
  {
    kind: 'COLOUR_STATISTICS' as const,
    metrics: [metric(name, 0.5)],
    differences: [metric('accuracy', 0.9, 0.8, 1), metric(name, value, low, high)],
  },
];

test('a baseline is not beaten if the interval of the difference contains 0, however large the difference is', () => {
  const result = [metric('macroF1', 0.8)];
  assert.deepEqual(unbeatenBaselines('KNN', result, differing('macroF1', 0.3, -0.01, 0.6)), ['COLOUR_STATISTICS']);
  assert.deepEqual(unbeatenBaselines('KNN', result, differing('macroF1', 0.3, 0, 0.6)), ['COLOUR_STATISTICS']);
  assert.deepEqual(unbeatenBaselines('KNN', result, differing('macroF1', 0.3, 0.01, 0.6)), []);
});

test('a smaller error is better', () => {
  const result = [metric('meanAbsoluteError', 2)];
  const unbeaten = (low: number, high: number): unknown =>
    unbeatenBaselines('REGRESSION', result, differing('meanAbsoluteError', -1, low, high));
  assert.deepEqual(unbeaten(-2, -0.1), []);
  assert.deepEqual(unbeaten(-2, 0.1), ['COLOUR_STATISTICS']);
});

test('without intervals the values are compared; without a number there is no verdict', () => {
  const before = [{ kind: 'MAJORITY_CLASS' as const, metrics: [metric('macroF1', 0.5)], differences: [] }];
  assert.deepEqual(unbeatenBaselines('LINEAR_PROBE', [metric('macroF1', 0.5)], before), ['MAJORITY_CLASS']);
  assert.deepEqual(unbeatenBaselines('LINEAR_PROBE', [metric('macroF1', 0.6)], before), []);
  assert.deepEqual(unbeatenBaselines('LINEAR_PROBE', [metric('accuracy', 0.1)], before), []);
});
