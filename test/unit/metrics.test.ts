import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { labelAuroc, macroAuroc, rankScores } from '../../src/statistics/auroc.ts';
import { groupResamples, interval95, percentile } from '../../src/statistics/bootstrap.ts';
import {
  CLASSIFICATION_METRICS,
  classificationMeasure,
  scorePredictions,
} from '../../src/statistics/classification-score.ts';
import {
  accuracy,
  balancedAccuracy,
  confusionMatrix,
  labelReports,
  macroF1,
} from '../../src/statistics/classification.ts';
import { createRandom } from '../../workers/engine/rng.ts';

const int = (...values: readonly number[]): Int32Array => Int32Array.from(values);

describe('classification metrics, by hand', () => {
  // Of true label 0, two are right and one is predicted as 1; of true label 1, one is right and one is predicted as 0.
  const matrix = confusionMatrix({ truth: int(0, 0, 0, 1, 1), predicted: int(0, 0, 1, 1, 0), labelCount: 2 });

  test('rows are true, columns predicted', () => {
    assert.deepEqual(matrix, [
      [2, 1],
      [1, 1],
    ]);
  });

  test('each formula', () => {
    assert.equal(accuracy(matrix), 3 / 5);
    assert.equal(balancedAccuracy(matrix), (2 / 3 + 1 / 2) / 2);
    assert.equal(macroF1(matrix), (2 / 3 + 1 / 2) / 2);
    assert.deepEqual(labelReports(matrix)[1], { precision: 1 / 2, recall: 1 / 2, f1: 1 / 2, support: 2 });
  });

  test('a label absent from truth and prediction is left out of the means, and has support 0', () => {
    const withAbsent = confusionMatrix({ truth: int(0, 1), predicted: int(0, 1), labelCount: 3 });
    assert.equal(macroF1(withAbsent), 1);
    assert.equal(balancedAccuracy(withAbsent), 1);
    assert.deepEqual(labelReports(withAbsent)[2], { precision: 0, recall: 0, f1: 0, support: 0 });
  });

  test('a label that is only predicted counts', () => {
    const wrong = confusionMatrix({ truth: int(0, 0), predicted: int(0, 2), labelCount: 3 });
    assert.ok(Math.abs(macroF1(wrong) - (2 / 3 + 0) / 2) < 1e-12);
  });

  test('image counts are equivalent to repeated images', () => {
    const counted = confusionMatrix({ truth: int(0, 1), predicted: int(1, 1), labelCount: 2 }, int(3, 0));
    assert.deepEqual(counted, [
      [0, 3],
      [0, 0],
    ]);
    const repeated = confusionMatrix({ truth: int(0, 0, 0), predicted: int(1, 1, 1), labelCount: 2 });
    assert.deepEqual(counted, repeated);
  });

  test('an empty sample gives zeros, not NaN', () => {
    const empty = confusionMatrix({ truth: int(), predicted: int(), labelCount: 2 });
    assert.deepEqual([accuracy(empty), balancedAccuracy(empty), macroF1(empty)], [0, 0, 0]);
  });
});

describe('AUROC', () => {
  const binary = (truth: Int32Array, positiveScores: readonly number[]): ReturnType<typeof rankScores> =>
    rankScores({
      truth,
      scores: Float64Array.from(positiveScores.flatMap((score) => [1 - score, score])),
      labelCount: 2,
    });

  test('is 1 for a perfect order, 0 for the reverse, and 0.5 if all scores are equal', () => {
    assert.equal(labelAuroc(binary(int(0, 0, 1), [0.1, 0.2, 0.3]), 1), 1);
    assert.equal(labelAuroc(binary(int(1, 1, 0), [0.1, 0.2, 0.3]), 1), 0);
    assert.equal(labelAuroc(binary(int(0, 1, 0, 1), [0.5, 0.5, 0.5, 0.5]), 1), 0.5);
  });

  test('equals the share of correctly ordered pairs, with ties as half, also with image counts', () => {
    const random = createRandom(12);
    const truth = Int32Array.from({ length: 60 }, () => random.integer(3));
    const scores = Float64Array.from({ length: 180 }, () => random.integer(6) / 6);
    const counts = Int32Array.from({ length: 60 }, () => random.integer(3));
    const ranked = rankScores({ truth, scores, labelCount: 3 });
    for (const label of [0, 1, 2]) {
      let won = 0;
      let pairs = 0;
      for (const [a, trueA] of truth.entries()) {
        for (const [b, trueB] of truth.entries()) {
          if (trueA !== label || trueB === label) continue;
          const weight = (counts[a] ?? 0) * (counts[b] ?? 0);
          const [scoreA = 0, scoreB = 0] = [scores[a * 3 + label], scores[b * 3 + label]];
          pairs += weight;
          won += weight * (scoreA > scoreB ? 1 : scoreA === scoreB ? 0.5 : 0);
        }
      }
      assert.ok(Math.abs((labelAuroc(ranked, label, counts) ?? NaN) - won / pairs) < 1e-12);
    }
  });

  test('is undefined if one class is missing, and the mean leaves such labels out', () => {
    const ranked = rankScores({
      truth: int(0, 1, 0),
      scores: Float64Array.of(0.7, 0.3, 0, 0.2, 0.8, 0, 0.6, 0.4, 0),
      labelCount: 3,
    });
    assert.equal(labelAuroc(ranked, 2), null);
    assert.equal(macroAuroc(ranked), 1);
    assert.equal(macroAuroc(ranked, int(1, 0, 1)), null);
  });

  test('refuses scores of another shape or that are not numbers', () => {
    assert.throws(() => rankScores({ truth: int(0, 1), scores: new Float64Array(3), labelCount: 2 }), RangeError);
    assert.throws(() => rankScores({ truth: int(0), scores: Float64Array.of(NaN, 1), labelCount: 2 }), RangeError);
  });
});

describe('bootstrap', () => {
  test('percentiles are interpolated as in NumPy', () => {
    const sorted = Float64Array.of(1, 2, 4, 8);
    assert.deepEqual(
      [0, 0.5, 1, 0.1].map((fraction) => percentile(sorted, fraction)),
      [1, 3, 8, 1.3],
    );
    assert.throws(() => percentile(new Float64Array(0), 0.5), RangeError);
  });

  test('draws whole groups, as many as the sample has', () => {
    const groups = ['a', 'a', 'b', 'c', 'c', 'c'];
    let resampleCount = 0;
    for (const counts of groupResamples(groups, 200, createRandom(1))) {
      const [a = 0, a2, b = 0, c = 0, c2, c3] = counts;
      assert.ok(a === a2 && c === c2 && c === c3 && a + b + c === 3);
      resampleCount += 1;
    }
    assert.equal(resampleCount, 200);
  });

  test('the interval of a mean is about two standard errors to each side, and wider if images share a group', () => {
    const random = createRandom(4);
    const values = Array.from({ length: 400 }, () => random.normal());
    const width = (groups: readonly string[]): number => {
      const means = Array.from(groupResamples(groups, 500, createRandom(2)), (counts) => {
        const total = counts.reduce((sum, count) => sum + count, 0);
        return counts.reduce((sum, count, image) => sum + count * (values[image] ?? 0), 0) / total;
      });
      const { ci95Low, ci95High } = interval95(means);
      return ci95High - ci95Low;
    };
    const single = width(values.map((_, image) => `${image}`));
    assert.ok(Math.abs(single - (2 * 1.96) / Math.sqrt(400)) < 0.04, `${single}`);
    const byRank = [...values.keys()].sort((left, right) => (values[left] ?? 0) - (values[right] ?? 0));
    assert.ok(width(values.map((_, image) => `${Math.floor(byRank.indexOf(image) / 20)}`)) > 2 * single);
  });
});

describe('a score and its interval use one definition, over random tables with absent labels', () => {
  const random = createRandom(5);
  const tables = Array.from({ length: 100 }, (_none, table) => {
    const labelCount = 2 + random.integer(8);
    const imageCount = 8 + random.integer(60);
    // Labels from `presentCount` on are never true, and the last one is never predicted either.
    const presentCount = 2 + random.integer(labelCount - 1);
    const groupCount = 2 + random.integer(imageCount);
    const truth = Int32Array.from({ length: imageCount }, (_image, image) =>
      image < 2 ? image : random.integer(presentCount),
    );
    const probabilities = Float64Array.from({ length: imageCount * labelCount }, (_cell, cell) => {
      const label = cell % labelCount;
      if (label === labelCount - 1 && labelCount > 2) return 0;
      return random.uniform() + (truth[Math.floor(cell / labelCount)] === label ? 0.5 : 0);
    });
    const groups = Array.from(truth, () => String(random.integer(groupCount)));
    const labelNames = Array.from({ length: labelCount }, (_label, label) => String(label));
    return { pooled: { truth, probabilities, groups, labelNames }, stream: random.fork(String(table)) };
  });

  /** Straight from the definitions, image by image: each mean is over the labels that the sample has. */
  const byDefinition = (images: readonly { readonly truth: number; readonly predicted: number }[]) => {
    const share = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);
    const count = (wanted: (image: { readonly truth: number; readonly predicted: number }) => boolean): number =>
      images.filter(wanted).length;
    const meanOver = (labels: Iterable<number>, valueOf: (label: number) => number): number => {
      const values = [...labels].map(valueOf);
      return share(
        values.reduce((sum, value) => sum + value, 0),
        values.length,
      );
    };
    return {
      macroF1: meanOver(new Set(images.flatMap(({ truth, predicted }) => [truth, predicted])), (label) => {
        const precision = share(
          count(({ truth, predicted }) => truth === label && predicted === label),
          count(({ predicted }) => predicted === label),
        );
        const recall = share(
          count(({ truth, predicted }) => truth === label && predicted === label),
          count(({ truth }) => truth === label),
        );
        return share(2 * precision * recall, precision + recall);
      }),
      balancedAccuracy: meanOver(new Set(images.map(({ truth }) => truth)), (label) =>
        share(
          count(({ truth, predicted }) => truth === label && predicted === label),
          count(({ truth }) => truth === label),
        ),
      ),
      accuracy: share(
        count(({ truth, predicted }) => truth === predicted),
        images.length,
      ),
    };
  };

  test('both equal the closed form: the score over every image once, and a resample over the images drawn', () => {
    for (const { pooled, stream } of tables) {
      const labelCount = pooled.labelNames.length;
      const images = Array.from(pooled.truth, (truth, image) => {
        const row = [...pooled.probabilities.subarray(image * labelCount, (image + 1) * labelCount)];
        return { truth, predicted: row.indexOf(Math.max(...row)) };
      });
      const measure = classificationMeasure(pooled);
      const samples = [
        { counts: new Int32Array(images.length).fill(1), measured: measure.values },
        ...Array.from(groupResamples(pooled.groups, 5, stream), (drawn) => {
          const counts = Int32Array.from(drawn);
          return { counts, measured: measure.resample(counts) };
        }),
      ];
      for (const { counts, measured } of samples) {
        const wanted = byDefinition(
          images.flatMap((image, index) => Array<typeof image>(counts[index] ?? 0).fill(image)),
        );
        for (const name of ['macroF1', 'balancedAccuracy', 'accuracy'] as const)
          assert.ok(Math.abs(measured[name] - wanted[name]) < 1e-12, `${name}: ${measured[name]}, not ${wanted[name]}`);
      }
    }
  });

  test('no value is outside its own interval', () => {
    for (const { pooled, stream } of tables) {
      const { metrics } = scorePredictions(pooled, 200, stream);
      for (const name of CLASSIFICATION_METRICS) {
        const { value, ci95Low, ci95High } = metrics[name];
        const isInside = ci95Low - 1e-12 <= value && value <= ci95High + 1e-12;
        assert.ok(isInside, `${name} ${value} of ${pooled.labelNames.length} labels, ${ci95Low} to ${ci95High}`);
      }
    }
  });
});
