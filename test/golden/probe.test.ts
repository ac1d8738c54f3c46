import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { labelAuroc, macroAuroc, rankScores } from '../../src/statistics/auroc.ts';
import { CLASSIFICATION_METRICS, classificationMeasure } from '../../src/statistics/classification-score.ts';
import {
  accuracy,
  balancedAccuracy,
  confusionMatrix,
  labelReports,
  macroF1,
} from '../../src/statistics/classification.ts';
import {
  fitLogisticRegression,
  predictProbabilities,
  probeInputs,
  trainingInputs,
} from '../../workers/engine/probe/logistic-regression.ts';
import { assertClose } from '../support/assert-close.ts';

const numbers = z.array(z.number());
const matrix = z.array(numbers);
const measures = z.object({
  macroF1: z.number(),
  balancedAccuracy: z.number(),
  accuracy: z.number(),
  macroAuroc: z.number(),
});
const golden = z
  .object({
    regressions: z.array(
      z.object({
        name: z.string(),
        labelCount: z.number(),
        inverseRegularisation: z.number(),
        rows: matrix,
        labels: numbers,
        coefficients: matrix,
        intercepts: numbers,
        newRows: matrix,
        newProbabilities: matrix,
      }),
    ),
    metrics: z.array(
      z.object({
        name: z.string(),
        labelCount: z.number(),
        truth: numbers,
        predicted: numbers,
        scores: matrix,
        accuracy: z.number(),
        balancedAccuracy: z.number(),
        macroF1: z.number(),
        macroAuroc: z.number(),
        labelAurocs: z.record(z.string(), z.number()),
        confusionMatrix: matrix,
        precision: numbers,
        recall: numbers,
        f1: numbers,
        support: numbers,
      }),
    ),
    resamples: z.array(
      z.object({
        labelCount: z.number(),
        truth: numbers,
        scores: matrix,
        counts: numbers,
        values: measures,
        resampled: measures,
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('./probe-expected.json', import.meta.url), 'utf8')));

describe('logistic regression equals scikit-learn', () => {
  for (const wanted of golden.regressions) {
    test(wanted.name, () => {
      const { labelCount, inverseRegularisation } = wanted;
      const embeddingDim = wanted.rows[0]?.length ?? 0;
      const inputs = trainingInputs(Float32Array.from(wanted.rows.flat()), embeddingDim, labelCount);
      const newInputs = probeInputs(Float32Array.from(wanted.newRows.flat()), embeddingDim, labelCount);
      const model = fitLogisticRegression(inputs, Int32Array.from(wanted.labels), labelCount, {
        inverseRegularisation,
        gradientTolerance: 1e-6,
        maxIterations: 2000,
      });
      assert.ok(model.converged);
      assertClose([...predictProbabilities(model, newInputs)], wanted.newProbabilities.flat(), 1e-3);

      // scikit-learn keeps one vector for two labels: the difference of ours. The mean over labels is free in the
      // intercepts, so it is taken off.
      const column = (label: number): number[] =>
        Array.from({ length: embeddingDim + 1 }, (_, row) => model.weights[row * labelCount + label] ?? 0);
      const columns = Array.from({ length: labelCount }, (_, label) => column(label));
      const interceptMean = columns.reduce((sum, own) => sum + (own[embeddingDim] ?? 0), 0) / labelCount;
      const [first = [], second = []] = columns;
      const ours =
        labelCount === 2
          ? [second.map((value, row) => value - (first[row] ?? 0))]
          : columns.map((own) => own.map((value, row) => (row === embeddingDim ? value - interceptMean : value)));
      const sklearnMean = labelCount === 2 ? 0 : wanted.intercepts.reduce((sum, value) => sum + value, 0) / labelCount;
      for (const [index, own] of ours.entries()) {
        assertClose(
          own,
          [...(wanted.coefficients[index] ?? []), (wanted.intercepts[index] ?? NaN) - sklearnMean],
          1e-3,
        );
      }
      inputs.dispose();
      newInputs.dispose();
    });
  }
});

test('a score and each of its resamples equal scikit-learn, whatever labels a sample lacks', () => {
  assert.ok(golden.resamples.length > 0);
  for (const { labelCount, truth, scores, counts, values, resampled } of golden.resamples) {
    const measure = classificationMeasure({
      truth: Int32Array.from(truth),
      probabilities: Float64Array.from(scores.flat()),
      groups: [],
      labelNames: Array.from({ length: labelCount }, (_none, label) => String(label)),
    });
    const drawn = measure.resample(Int32Array.from(counts));
    for (const name of CLASSIFICATION_METRICS)
      assertClose([measure.values[name], drawn[name]], [values[name], resampled[name]], 1e-12);
  }
});

describe('metrics equal scikit-learn', () => {
  for (const wanted of golden.metrics) {
    test(wanted.name, () => {
      const { labelCount } = wanted;
      const truth = Int32Array.from(wanted.truth);
      const counts = confusionMatrix({ truth, predicted: Int32Array.from(wanted.predicted), labelCount });
      assert.deepEqual(counts, wanted.confusionMatrix);
      assertClose(
        [accuracy(counts), balancedAccuracy(counts), macroF1(counts)],
        [wanted.accuracy, wanted.balancedAccuracy, wanted.macroF1],
        1e-12,
      );
      const reports = labelReports(counts);
      assertClose(
        reports.map((report) => report.precision),
        wanted.precision,
        1e-12,
      );
      assertClose(
        reports.map((report) => report.recall),
        wanted.recall,
        1e-12,
      );
      assertClose(
        reports.map((report) => report.f1),
        wanted.f1,
        1e-12,
      );
      assert.deepEqual(
        reports.map((report) => report.support),
        wanted.support,
      );

      const ranked = rankScores({ truth, scores: Float64Array.from(wanted.scores.flat()), labelCount });
      for (const [label, auroc] of Object.entries(wanted.labelAurocs))
        assertClose([labelAuroc(ranked, Number(label)) ?? NaN], [auroc], 1e-12);
      assertClose([macroAuroc(ranked) ?? NaN], [wanted.macroAuroc], 1e-12);
    });
  }
});
