/** The probe of a pretraining: which images it uses, how it divides them, and its cost. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isProbeable } from '../../src/modules/runs/monitoring.rules.ts';
import { ProbeError } from '../../workers/engine/probe/errors.ts';
import {
  chooseProbeImages,
  createTrainingProbe,
  defaultProbeInterval,
  PROBE_FOLDS,
  probeRandom,
  type ProbeCandidate,
  type ProbeImage,
} from '../../workers/engine/probe/training-probe.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { liveTensorCount } from '../../workers/engine/tensorflow.ts';
import { probeOverlapSentence, probeSentence, verdictOf } from '../../src/protocol/checkpoint-probe.ts';

/** `count` images of each label, over `groups` groups. */
function imagesOf(counts: Readonly<Record<string, number>>, groups: number): ProbeImage[] {
  return Object.entries(counts).flatMap(([label, count]) =>
    Array.from({ length: count }, (_, index) => ({
      key: `${label} ${index}`,
      label,
      group: `slide ${index % groups}`,
      split: null,
      sourcePath: null,
    })),
  );
}

function isProbeError(code: string) {
  return (error: unknown): boolean => error instanceof ProbeError && error.code === code;
}

describe('the images of a probe', () => {
  const choose = (images: readonly ProbeCandidate[], limit: number): Int32Array =>
    chooseProbeImages(images, limit, probeRandom('digest'));

  test('are limited in number, the same every time, and ascending', () => {
    const images = imagesOf({ a: 500, b: 500 }, 9);
    const chosen = choose(images, 100);
    assert.equal(chosen.length, 100);
    assert.deepEqual(chosen, choose(images, 100));
    assert.deepEqual(chosen, chosen.toSorted());
    assert.equal(new Set(chosen).size, 100);
    assert.notDeepEqual(chosen, chooseProbeImages(images, 100, probeRandom('another')));
  });

  test('balance the labels as far as possible, and take every group once before any twice', () => {
    const images = imagesOf({ common: 900, rare: 10 }, 40);
    const chosen = Array.from(choose(images, 60)).flatMap((place) => images[place] ?? []);
    assert.equal(chosen.filter(({ label }) => label === 'rare').length, 10);
    const common = chosen.filter(({ label }) => label === 'common');
    assert.equal(common.length, 50);
    const perGroup = [...Map.groupBy(common, ({ group }) => group).values()].map((each) => each.length);
    assert.deepEqual([perGroup.length, Math.min(...perGroup), Math.max(...perGroup)], [40, 1, 2]);
  });

  test('count the patches of one file as one group if the group is unknown', () => {
    const images = imagesOf({ a: 90 }, 3).map((image) => ({ ...image, group: null, sourcePath: `${image.group}.tif` }));
    const probe = createTrainingProbe([
      ...images,
      ...images.map((image) => ({ ...image, key: `b ${image.key}`, label: 'b' })),
    ]);
    assert.deepEqual([probe.groupCount, probe.ungroupedImageCount], [0, 180]);
    const perFile = Map.groupBy(choose(images, 6), (place) => images[place]?.sourcePath);
    assert.deepEqual(
      [...perFile.values()].map((places) => places.length),
      [2, 2, 2],
    );
  });

  test('have a label with enough images for training and test', () => {
    const images = [
      ...imagesOf({ a: 5, b: 5, once: 1, twice: 2 }, 5),
      ...Array.from({ length: 5 }, (_, index) => ({ key: `${index}`, label: null, group: null, sourcePath: null })),
    ];
    assert.deepEqual([...new Set(Array.from(choose(images, 100), (place) => images[place]?.label))].sort(), ['a', 'b']);
  });
});

describe('a probe', () => {
  /** Two numbers that determine the label, and noise. */
  const embeddingsOf = (images: readonly ProbeImage[], dim: number): Float32Array => {
    const random = createRandom(4);
    return Float32Array.from({ length: images.length * dim }, (_, cell) => {
      const signal = cell % dim === 0 && images[Math.floor(cell / dim)]?.label === 'a' ? 3 : 0;
      return signal + random.normal();
    });
  };

  test('scores images in which an entry is active that hardly varies in training', async () => {
    const images = imagesOf({ a: 12, b: 12 }, 6);
    const dim = 32;
    for (const faint of [1e-3, 1e-6, 1e-12, 1e-20, 1e-30]) {
      const embeddings = embeddingsOf(images, dim);
      // As after a ReLU: the last entry is faint in most images and strong in one.
      for (const place of images.keys()) embeddings[place * dim + dim - 1] = place % 5 === 1 ? faint : 0;
      embeddings[7 * dim + dim - 1] = 3;
      const { ridge, nearest } = await createTrainingProbe(images).measure(embeddings, 100);
      for (const { probabilities } of [ridge, nearest])
        assert.ok(
          probabilities.every((probability) => probability >= 0 && probability <= 1),
          `${faint}`,
        );
    }
  });

  test('divides by group, learns separable labels, and gives the same numbers again without leaking a tensor', async () => {
    const images = imagesOf({ a: 60, b: 60 }, 6);
    const probe = createTrainingProbe(images);
    assert.deepEqual([probe.split, probe.groupCount, probe.labelNames], ['GROUPS', 6, ['a', 'b']]);
    assert.equal(probe.ungroupedImageCount, 0);
    const embeddings = embeddingsOf(images, 8);
    const before = liveTensorCount();
    const first = await probe.measure(embeddings, 50);
    assert.equal(liveTensorCount(), before);
    assert.ok(first.ridge.metrics.macroF1.value > 0.8 && first.nearest.metrics.macroF1.value > 0.8);
    assert.deepEqual(await createTrainingProbe(images).measure(embeddings, 50), first);
    for (const { trainImageCount, testImageCount } of first.ridge.split.parts)
      assert.deepEqual([trainImageCount, testImageCount], [80, 40]);
  });

  test("follows the version's own split, and divides otherwise if it cannot be followed", () => {
    const images = imagesOf({ a: 30, b: 30 }, 6);
    const withSplit = (splitOf: (group: string | null) => string): ProbeImage[] =>
      images.map((image) => ({ ...image, split: splitOf(image.group) }));
    assert.equal(createTrainingProbe(withSplit((group) => (group === 'slide 0' ? 'test' : 'train'))).split, 'GIVEN');
    assert.equal(createTrainingProbe(withSplit(() => 'part 3')).split, 'GROUPS');
    const oneGroupEach = images.map((image) => ({ ...image, group: image.label }));
    assert.equal(createTrainingProbe(oneGroupEach).split, 'IMAGES');
  });

  test('is refused for one label, and for an encoder that gives no numbers', async () => {
    assert.throws(() => createTrainingProbe(imagesOf({ a: 30 }, 3)), isProbeError('TOO_FEW_LABELS'));
    const images = imagesOf({ a: 6, b: 6 }, 3);
    const embeddings = embeddingsOf(images, 4);
    embeddings[5] = Number.NaN;
    await assert.rejects(createTrainingProbe(images).measure(embeddings, 0), isProbeError('EMBEDDING_NOT_FINITE'));
  });
});

test('the launch requires as many images of a label as the probe has folds', () => {
  const version = (count: number): boolean =>
    isProbeable({
      id: '',
      digest: '',
      labelCounts: [
        { label: 'a', count },
        { label: 'b', count: PROBE_FOLDS },
      ],
    });
  assert.deepEqual([version(PROBE_FOLDS - 1), version(PROBE_FOLDS)], [false, true]);
});

test('by default a run is probed at most ten times, and less often if that would cost too much', () => {
  assert.equal(defaultProbeInterval({ steps: 10_000, batchSize: 128, probeImageCount: 2000 }), 1000);
  for (const [steps, batchSize, probeImageCount] of [
    [200, 64, 2000],
    [1000, 16, 2000],
    [50, 8, 100],
    [7, 4, 32],
  ] as const) {
    const every = defaultProbeInterval({ steps, batchSize, probeImageCount });
    assert.ok(every >= steps / 10);
    // One pass for each image of the probe, compared with six for each image of the steps between two probes.
    assert.ok(probeImageCount / (6 * batchSize * every) <= 0.05, `${every} steps`);
  }
});

describe('a verdict', () => {
  const probe = {
    datasetVersionId: 'id',
    datasetVersionName: 'kather@1',
    imageCount: 2000,
    groupCount: 40,
    ungroupedImageCount: 0,
    split: 'GROUPS' as const,
    step: 10,
    ridgeMacroF1: 0.54,
    knnMacroF1: 0.5,
    randomEncoder: { ridgeMacroF1: 0.603, knnMacroF1: 0.5 },
    colourStatistics: { ridgeMacroF1: 0.5, knnMacroF1: 0.5 },
    overRandomEncoder: { value: -0.063, ci95Low: -0.086, ci95High: -0.04 },
    overColourStatistics: { value: 0.04, ci95Low: 0.01, ci95High: 0.07 },
    sharedImageCount: 0,
    sharedGroupCount: 0,
  };

  test('depends on whether the interval excludes 0', () => {
    const of = (ci95Low: number, ci95High: number): string => verdictOf({ value: 0, ci95Low, ci95High });
    assert.deepEqual(
      [of(0.01, 0.1), of(-0.1, -0.01), of(-0.1, 0.1), of(0, 0.1), of(-0.1, 0)],
      ['BETTER', 'WORSE', 'NOT_DISTINGUISHABLE', 'NOT_DISTINGUISHABLE', 'NOT_DISTINGUISHABLE'],
    );
  });

  test('states the difference in one sentence, with amounts that are not negative', () => {
    assert.equal(
      probeSentence(probe),
      'worse than a random encoder on kather@1 by 0.063 (95 % interval 0.040 to 0.086), better than colour statistics by 0.040 (0.010 to 0.070)',
    );
    assert.match(
      probeSentence({ ...probe, overRandomEncoder: { value: 0.01, ci95Low: -0.02, ci95High: 0.04 } }),
      /^not distinguishable from a random encoder on kather@1: 0\.010 \(95 % interval -0\.020 to 0\.040\), /,
    );
  });

  test('says that its intervals are too narrow if groups are unknown', () => {
    assert.ok(
      probeSentence({ ...probe, ungroupedImageCount: 300 }).endsWith(
        ' (0.010 to 0.070), with intervals that are too narrow, because the patient or slide of 300 of 2000 images is not known',
      ),
    );
    assert.equal(probeSentence({ ...probe, ungroupedImageCount: null }), probeSentence(probe));
    assert.match(
      probeOverlapSentence({ ...probe, sharedImageCount: 5, groupCount: 0 }) ?? '',
      /^5 of the probe's 2000 images are also in the training, /,
    );
  });

  test('states what the training shares with the probe, and nothing if it shares nothing', () => {
    assert.equal(probeOverlapSentence(probe), null);
    assert.match(
      probeOverlapSentence({ ...probe, sharedGroupCount: 3 }) ?? '',
      /^0 of the probe's 2000 images and 3 of its 40 groups are also in the training, /,
    );
  });
});
