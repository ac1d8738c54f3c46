/**
 * The protocols against scikit-learn and SciPy: what is chosen on inner folds, and how far results hold for other
 * groups.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { meanAbsoluteError, rSquared, spearmanCorrelation } from '../../src/statistics/regression-score.ts';
import type { Classifier } from '../../workers/engine/probe/classification.ts';
import { linearProbe } from '../../workers/engine/probe/linear-probe.ts';
import { nearestNeighbours } from '../../workers/engine/probe/nearest-neighbours.ts';
import { ridgeClassifier } from '../../workers/engine/probe/ridge-classifier.ts';
import { ridge, runRegression } from '../../workers/engine/probe/regression.ts';
import { embeddedImages } from '../../workers/engine/probe/scaling.ts';
import { liveTensorCount } from '../../workers/engine/tensorflow.ts';
import { assertClose } from '../support/assert-close.ts';

const numbers = z.array(z.number());
const classified = z.object({
  name: z.string(),
  labelCount: z.number(),
  rows: z.array(numbers),
  labels: numbers,
  groups: numbers,
  chosen: z.number(),
  probabilities: z.array(numbers),
});
const metrics = z.object({ meanAbsoluteError: z.number(), spearmanCorrelation: z.number(), rSquared: z.number() });
const golden = z
  .object({
    linearProbes: z.array(classified),
    nearestNeighbours: z.array(classified),
    ridgeClassifiers: z.array(classified),
    ridges: z.array(
      metrics.extend({
        name: z.string(),
        rows: z.array(numbers),
        targets: numbers,
        groups: numbers,
        chosen: z.number(),
        predicted: numbers,
      }),
    ),
    numbers: z.array(
      z.object({
        name: z.string(),
        truth: numbers,
        predicted: numbers,
        once: metrics,
        repeats: numbers,
        repeated: metrics,
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('./protocols-expected.json', import.meta.url), 'utf8')));

/** Groups 0, 1, 2 are learned from, 3 and 4 are tested: the split of the golden script. */
function partsOf(groups: readonly number[]): { readonly train: Int32Array; readonly test: Int32Array } {
  const images = Int32Array.from(groups.keys());
  return {
    train: images.filter((image) => (groups[image] ?? 0) < 3),
    test: images.filter((image) => (groups[image] ?? 0) >= 3),
  };
}

const CLASSIFIERS = { linearProbes: linearProbe, nearestNeighbours, ridgeClassifiers: ridgeClassifier } as const;

for (const kind of ['linearProbes', 'nearestNeighbours', 'ridgeClassifiers'] as const) {
  describe(`${kind} equal scikit-learn`, () => {
    for (const wanted of golden[kind]) {
      test(wanted.name, async () => {
        const before = liveTensorCount();
        const embedded = embeddedImages(Float32Array.from(wanted.rows.flat()), wanted.labels.length);
        const images = {
          labels: Int32Array.from(wanted.labels),
          groups: wanted.groups.map(String),
          labelNames: Array.from({ length: wanted.labelCount }, (_, label) => `label ${label}`),
        };
        const classifier: Classifier<object> = CLASSIFIERS[kind](embedded, images, 1);
        const { train, test: tested } = partsOf(wanted.groups);
        const { probabilities, facts } = await classifier.classify(train, tested, () => Promise.resolve());
        assert.equal(
          'inverseRegularisation' in facts
            ? facts.inverseRegularisation
            : 'neighbourCount' in facts
              ? facts.neighbourCount
              : 'alpha' in facts
                ? facts.alpha
                : undefined,
          wanted.chosen,
        );
        assertClose(probabilities, wanted.probabilities.flat(), 1e-3);
        assert.equal(liveTensorCount(), before);
      });
    }
  });
}

describe('ridge regression equals scikit-learn', () => {
  for (const wanted of golden.ridges) {
    test(wanted.name, async () => {
      const before = liveTensorCount();
      const input = {
        targets: Float64Array.from(wanted.targets),
        groups: wanted.groups.map(String),
        splits: wanted.groups.map((group) => (group < 3 ? 'train' : 'test')),
        folds: 5,
        seed: 1,
        bootstrapResamples: 0,
      };
      const result = await runRegression(
        input,
        ridge(embeddedImages(Float32Array.from(wanted.rows.flat()), wanted.targets.length), input, 1),
      );
      assert.deepEqual(
        result.split.parts.map(({ alpha }) => alpha),
        [wanted.chosen],
      );
      assertClose(result.predicted, wanted.predicted, 1e-3);
      for (const name of ['meanAbsoluteError', 'spearmanCorrelation', 'rSquared'] as const)
        assertClose([result.metrics[name].value], [wanted[name]], 1e-3);
      assert.equal(liveTensorCount(), before);
    });
  }
});

describe('metrics of numbers equal scikit-learn and SciPy', () => {
  for (const { name, truth, predicted, once, repeats, repeated } of golden.numbers) {
    for (const [what, counts, wanted] of [
      ['once', undefined, once],
      ['in a resample', Int32Array.from(repeats), repeated],
    ] as const) {
      test(`${name}, ${what}`, () => {
        const pooled = { truth: Float64Array.from(truth), predicted: Float64Array.from(predicted) };
        assertClose(
          [meanAbsoluteError(pooled, counts), spearmanCorrelation(pooled, counts), rSquared(pooled, counts)],
          [wanted.meanAbsoluteError, wanted.spearmanCorrelation, wanted.rSquared],
          1e-12,
        );
      });
    }
  }
  test('a constant prediction has no correlation, and a constant truth no R squared', () => {
    const pooled = { truth: Float64Array.of(1, 2, 3), predicted: Float64Array.of(5, 5, 5) };
    assert.ok(Number.isNaN(spearmanCorrelation(pooled)));
    assert.ok(Number.isNaN(rSquared({ truth: pooled.predicted, predicted: pooled.truth })));
  });
});
