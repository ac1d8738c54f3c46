import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { COLOUR_STATISTICS_DIM, colourStatistics } from '../../workers/engine/probe/colour-statistics.ts';
import { ProbeError, type ProbeErrorCode } from '../../workers/engine/probe/errors.ts';
import { minimise } from '../../workers/engine/probe/lbfgs.ts';
import { runLinearProbe, type LinearProbeInput } from '../../workers/engine/probe/linear-probe.ts';
import { scorePredictions } from '../../src/statistics/classification-score.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { liveTensorCount } from '../../workers/engine/tensorflow.ts';

const LABEL_NAMES = ['normal', 'tumour', 'stroma'];

/** 90 images of 30 groups; `distance` separates the labels. */
function problem(distance: number, change: Partial<LinearProbeInput> = {}): LinearProbeInput {
  const random = createRandom(17);
  const embeddingDim = 16;
  const centres = Array.from({ length: 3 * embeddingDim }, () => random.normal());
  const labels = Int32Array.from({ length: 90 }, (_, image) => image % 3);
  const embeddings = Float32Array.from({ length: 90 * embeddingDim }, (_, index) => {
    const label = labels[Math.floor(index / embeddingDim)] ?? 0;
    // One entry has a much larger scale, as in raw embeddings: standardising must remove it.
    const scale = index % embeddingDim === 3 ? 1000 : 1;
    return scale * (distance * (centres[label * embeddingDim + (index % embeddingDim)] ?? 0) + random.normal());
  });
  const groups = Array.from({ length: 90 }, (_, image) => `slide ${Math.floor(image / 3)}`);
  return { embeddings, labels, groups, labelNames: LABEL_NAMES, folds: 5, seed: 9, bootstrapResamples: 200, ...change };
}

describe('runLinearProbe', () => {
  test('learns separable labels, and reports everything', async () => {
    const before = liveTensorCount();
    const reported: number[] = [];
    const result = await runLinearProbe(problem(1, { onProgress: (done) => void reported.push(done) }));
    assert.equal(liveTensorCount(), before);
    for (const { value, ci95Low, ci95High } of Object.values(result.metrics)) {
      assert.ok(value > 0.9 && ci95Low <= value && value <= ci95High && ci95High <= 1);
    }
    assert.equal(result.testedImageCount, 90);
    assert.equal(
      result.confusionMatrix.flat().reduce((sum, count) => sum + count, 0),
      90,
    );
    assert.deepEqual(
      result.labelReports.map((report) => [report.labelName, report.support]),
      [
        ['normal', 30],
        ['tumour', 30],
        ['stroma', 30],
      ],
    );
    const { kind, foldCount, groupCount, seed, parts } = result.split;
    assert.deepEqual(
      { kind, foldCount, groupCount, seed },
      { kind: 'GROUPED_FOLDS', foldCount: 5, groupCount: 30, seed: 9 },
    );
    assert.deepEqual(
      parts.map((part) => [part.trainImageCount, part.testImageCount]),
      Array.from({ length: 5 }, () => [72, 18]),
    );
    assert.ok(parts.every((part) => part.converged));
    assert.ok(reported.every((done, index) => done >= (reported[index - 1] ?? 0)) && reported.at(-1) === 1);
  });

  test('finds nothing in random embeddings', async () => {
    const { macroF1, macroAuroc } = (await runLinearProbe(problem(0))).metrics;
    assert.ok(macroF1.value < 0.5 && macroAuroc.value < 0.65, `${macroF1.value} ${macroAuroc.value}`);
  });

  test('the same input gives the same result', async () => {
    assert.deepEqual(await runLinearProbe(problem(0.4)), await runLinearProbe(problem(0.4)));
  });

  test('identical embeddings give chance level, not an error', async () => {
    const result = await runLinearProbe(problem(1, { embeddings: new Float32Array(90 * 4).fill(3) }));
    assert.equal(result.metrics.macroAuroc.value, 0.5);
  });

  test('a given split tests only its test images', async () => {
    const splits = Array.from({ length: 90 }, (_, image) => (image < 60 ? 'train' : 'test'));
    const result = await runLinearProbe(problem(1, { splits }));
    assert.equal(result.testedImageCount, 30);
    assert.equal(result.split.kind, 'GIVEN');
    assert.equal(result.split.foldCount, 1);
  });

  test('a label that the training split lacks is never predicted, and scores 0', async () => {
    const labels = Int32Array.from({ length: 90 }, (_, image) => (image < 60 ? image % 2 : image % 3));
    const splits = Array.from({ length: 90 }, (_, image) => (image < 60 ? 'train' : 'test'));
    const result = await runLinearProbe(problem(1, { labels, splits }));
    assert.deepEqual(result.labelReports[2], { labelName: 'stroma', precision: 0, recall: 0, f1: 0, support: 10 });
  });

  test('an error thrown by the progress callback ends it, and no tensor is leaked', async () => {
    const before = liveTensorCount();
    const stop = (): never => {
      throw new Error('stopped');
    };
    await assert.rejects(runLinearProbe(problem(1, { onProgress: stop })), /stopped/);
    assert.equal(liveTensorCount(), before);
  });

  const refused: readonly [string, Partial<LinearProbeInput>, ProbeErrorCode, string][] = [
    [
      'embeddings of another number of images',
      { embeddings: new Float32Array(91 * 16 + 1) },
      'BAD_OPTION',
      'embeddings',
    ],
    ['no embeddings', { embeddings: new Float32Array(0) }, 'BAD_OPTION', 'embeddings'],
    [
      'an embedding that is not finite',
      { embeddings: new Float32Array(90 * 16).fill(1).fill(NaN, 40, 41) },
      'EMBEDDING_NOT_FINITE',
      'embeddings',
    ],
    ['too few groups listed', { groups: ['a'] }, 'BAD_OPTION', 'groups'],
    ['too few splits listed', { splits: [null] }, 'BAD_OPTION', 'splits'],
    ['a label without a name', { labelNames: ['normal', 'tumour'] }, 'BAD_OPTION', 'labels'],
    ['a negative label', { labels: new Int32Array(90).fill(-1) }, 'BAD_OPTION', 'labels'],
    ['a seed that is not an integer', { seed: 1.5 }, 'BAD_OPTION', 'seed'],
    ['resamples below 0', { bootstrapResamples: -1 }, 'BAD_OPTION', 'bootstrapResamples'],
    ['one fold', { folds: 1 }, 'BAD_OPTION', 'folds'],
    ['one label', { labels: new Int32Array(90) }, 'TOO_FEW_LABELS', 'datasetVersionId'],
  ];
  for (const [what, change, code, field] of refused) {
    test(`refuses ${what}`, async () => {
      await assert.rejects(
        runLinearProbe(problem(1, change)),
        (error) => error instanceof ProbeError && error.code === code && error.field === field,
      );
    });
  }
});

test('without resamples both ends of an interval equal its value', () => {
  const pooled = {
    truth: Int32Array.of(0, 1),
    probabilities: Float64Array.of(0.8, 0.2, 0.6, 0.4),
    groups: ['a', 'b'],
    labelNames: ['x', 'y'],
  };
  const { accuracy } = scorePredictions(pooled, 0, createRandom(1)).metrics;
  assert.deepEqual(accuracy, { value: 0.5, ci95Low: 0.5, ci95High: 0.5 });
});

describe('minimise', () => {
  test('finds the minimum of a quadratic with different curvatures', () => {
    const curvatures = [1, 10, 100, 1000];
    const evaluate = (point: Float64Array): { value: number; gradient: Float64Array } => ({
      value: point.reduce((sum, value, index) => sum + ((curvatures[index] ?? 0) * (value - index) ** 2) / 2, 0),
      gradient: point.map((value, index) => (curvatures[index] ?? 0) * (value - index)),
    });
    const start = new Float64Array(4).fill(5);
    const { point, converged, iterationCount } = minimise(evaluate, start, {
      gradientTolerance: 1e-9,
      maxIterations: 100,
    });
    assert.ok(converged && iterationCount < 60);
    for (const [index, value] of point.entries()) assert.ok(Math.abs(value - index) < 1e-8);
    assert.deepEqual([...start], [5, 5, 5, 5]);
  });

  test('needs few iterations where the caller knows the curvature, and ends at the same minimum', () => {
    const curvatures = Array.from({ length: 40 }, (_, index) => 10 ** (index / 13));
    const evaluate = (point: Float64Array): { value: number; gradient: Float64Array } => ({
      value: point.reduce((sum, value, index) => sum + ((curvatures[index] ?? 0) * (value - 1) ** 2) / 2, 0),
      gradient: point.map((value, index) => (curvatures[index] ?? 0) * (value - 1)),
    });
    const options = { gradientTolerance: 1e-6, maxIterations: 1000 };
    const plain = minimise(evaluate, new Float64Array(40), options);
    const preconditioned = minimise(evaluate, new Float64Array(40), {
      ...options,
      // Half the inverse: what is wrong by a factor is scaled by the first step.
      precondition: (vector) => vector.map((value, index) => value / (2 * (curvatures[index] ?? 0))),
    });
    assert.ok(plain.converged && preconditioned.converged);
    assert.ok(preconditioned.iterationCount <= 3 && plain.iterationCount > 30);
    assert.ok(preconditioned.point.every((value) => Math.abs(value - 1) < 1e-5));
  });

  test('says so when the iterations run out', () => {
    const evaluate = (point: Float64Array): { value: number; gradient: Float64Array } => ({
      value: point.reduce((sum, value) => sum + value ** 4, 0),
      gradient: point.map((value) => 4 * value ** 3),
    });
    assert.equal(
      minimise(evaluate, Float64Array.of(3, 1), { gradientTolerance: 1e-12, maxIterations: 2 }).converged,
      false,
    );
  });
});

describe('colourStatistics', () => {
  const plain = (red: number, green: number, blue: number): Uint8Array =>
    Uint8Array.from({ length: 12 }, (_, index) => [red, green, blue][index % 3] ?? 0);

  test('of one colour: its means, a standard deviation of 0, one bin for each channel', () => {
    const descriptor = colourStatistics(plain(255, 0, 0), 1);
    assert.equal(descriptor.length, COLOUR_STATISTICS_DIM);
    assert.deepEqual([...descriptor.subarray(0, 6)], [1, 0, 0, 1, 0, 1]);
    assert.ok(descriptor.subarray(6, 12).every((std) => std === 0));
    const histogram = [...descriptor.subarray(12)];
    assert.deepEqual(
      histogram.flatMap((share, bin) => (share > 0 ? [bin] : [])),
      [7, 8, 16],
    );
  });

  test('hue is represented on a circle: saturation times cosine and sine', () => {
    // A half-saturated colour with hue 120 degrees, and grey, which has no hue.
    const green = colourStatistics(plain(100, 200, 100), 1);
    assert.ok(
      Math.abs((green[3] ?? 0) - 0.5 * Math.cos((2 * Math.PI) / 3)) < 1e-6 &&
        Math.abs((green[4] ?? 0) - 0.5 * Math.sin((2 * Math.PI) / 3)) < 1e-6,
    );
    assert.deepEqual([...colourStatistics(plain(90, 90, 90), 1).subarray(3, 5)], [0, 0]);
    assert.ok(colourStatistics(plain(0, 0, 0), 1).every(Number.isFinite));
  });

  test('each image has its own row, and means and standard deviations are those of its pixels', () => {
    const rows = colourStatistics(Uint8Array.of(0, 0, 0, 255, 255, 255, 10, 20, 30, 10, 20, 30), 2);
    assert.ok(Math.abs((rows[0] ?? 0) - 0.5) < 1e-6 && Math.abs((rows[6] ?? 0) - 0.5) < 1e-6);
    assert.ok(Math.abs((rows[COLOUR_STATISTICS_DIM + 2] ?? 0) - 30 / 255) < 1e-6);
  });

  test('refuses bytes that are not images', () => {
    for (const [byteCount, imageCount] of [
      [10, 1],
      [12, 0],
      [12, 5],
      [0, 1],
    ] as const) {
      assert.throws(() => colourStatistics(new Uint8Array(byteCount), imageCount), RangeError);
    }
  });
});
