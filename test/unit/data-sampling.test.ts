import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DEFAULT_SHUFFLE, shuffleSchema, type ShuffleConfig } from '../../src/protocol/pretraining/shuffle.ts';
import { ImageDataError, type ImageDataErrorCode } from '../../workers/engine/data/errors.ts';
import { createPermutation } from '../../workers/engine/data/permutation.ts';
import { createSampleOrder, type ImageChoice, type SampleOrderOptions } from '../../workers/engine/data/sampling.ts';
import { batchTargets, usableCount, type SampledDataset } from '../../workers/engine/data/shares.ts';
import { createRandom } from '../../workers/engine/rng.ts';

const one = (imageCount: number, others: Partial<SampledDataset> = {}): SampledDataset => ({
  shardImageCounts: [imageCount],
  ...others,
});

const BASE: SampleOrderOptions = {
  datasets: [one(100), one(10)],
  sampling: 'EVEN',
  batchSize: 8,
  seed: 5,
  windowShards: 2,
};

/** The batches of steps 0..stepCount-1. */
function batches(options: Partial<SampleOrderOptions>, stepCount: number): ImageChoice[][] {
  const order = createSampleOrder({ ...BASE, ...options });
  return Array.from({ length: stepCount }, (_, step) => order.imagesOf(step));
}

function countsOf(choices: readonly ImageChoice[], datasetCount: number): number[] {
  return Array.from(
    { length: datasetCount },
    (_, index) => choices.filter((choice) => choice.datasetIndex === index).length,
  );
}

const nameOf = ({ datasetIndex, imageIndex }: ImageChoice): string => `${datasetIndex}/${imageIndex}`;

describe('createPermutation', () => {
  test('is a bijection of every length, another one for every key', () => {
    for (const length of [1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 4097]) {
      const permutation = createPermutation(length, createRandom(length));
      const images = Array.from({ length }, (_, place) => permutation(place));
      assert.deepEqual(
        images.toSorted((left, right) => left - right),
        [...images.keys()],
      );
      const other = createPermutation(length, createRandom(length + 1));
      if (length > 15) assert.ok(images.some((image, place) => other(place) !== image));
    }
    const large = createPermutation(2 ** 40, createRandom(1));
    assert.ok([0, 1, 2 ** 40 - 1].every((place) => large(place) >= 0 && large(place) < 2 ** 40));
  });

  test('gives every order of a few images the same chance', () => {
    for (const [length, orders] of [
      [3, 6],
      [4, 24],
      [5, 120],
      [6, 720],
    ] as const) {
      const draws = 50 * orders;
      const seen = new Map<string, number>();
      for (let seed = 0; seed < draws; seed += 1) {
        const permutation = createPermutation(length, createRandom(seed));
        const order = Array.from({ length }, (_, place) => permutation(place)).join();
        seen.set(order, (seen.get(order) ?? 0) + 1);
      }
      // Chi-square against the uniform distribution: mean `orders - 1`, five standard deviations above it.
      const chiSquare = [...seen.values()].reduce((sum, count) => sum + (count - 50) ** 2 / 50, 0);
      assert.equal(seen.size, orders);
      assert.ok(chiSquare < orders - 1 + 5 * Math.sqrt(2 * (orders - 1)), `${length} images: ${chiSquare}`);
    }
  });

  test('gives every image the same chance of every place', () => {
    const [length, draws] = [50, 5000];
    const counts = new Float64Array(length * length);
    for (let seed = 0; seed < draws; seed += 1) {
      const permutation = createPermutation(length, createRandom(seed));
      for (let place = 0; place < length; place += 1) {
        const cell = place * length + permutation(place);
        counts[cell] = (counts[cell] ?? 0) + 1;
      }
    }
    const expected = draws / length;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    const freedom = (length - 1) ** 2;
    assert.ok(Math.abs(chiSquare - freedom) < 5 * Math.sqrt(2 * freedom), `${chiSquare} for ${freedom}`);
  });
});

describe('createSampleOrder', () => {
  test('is a pure function of seed and step', () => {
    const whole = batches({}, 60);
    for (const step of [59, 33, 7, 1, 0])
      assert.deepEqual(createSampleOrder(BASE).imagesOf(step), whole[step], `step ${step}`);
    assert.notDeepEqual(batches({ seed: 6 }, 60), whole);
  });

  test('continues exactly at any of thousands of steps, in the middle of the epochs of several datasets', () => {
    const datasets = [
      { shardImageCounts: [30, 1, 50, 20, 7, 90, 41] },
      { shardImageCounts: [13, 12], weight: 0.3 },
      { shardImageCounts: [40, 40, 40], maxImages: 31 },
      one(3),
    ];
    const options = { datasets, batchSize: 24, sampling: 'PROPORTIONAL' } as const;
    const whole = batches(options, 4000).map((batch) => batch.map(nameOf).join());
    for (let step = 0; step < 4000; step += 37) {
      const order = createSampleOrder({ ...BASE, ...options });
      assert.equal(order.imagesOf(step).map(nameOf).join(), whole[step]);
      assert.equal(
        order
          .imagesOf(step + 1)
          .map(nameOf)
          .join(),
        whole[step + 1],
      );
    }
  });

  test('EVEN gives every dataset the same share', () => {
    for (const batch of batches({}, 40)) assert.deepEqual(countsOf(batch, 2), [4, 4]);
  });

  test('PROPORTIONAL follows the image counts: every batch to the next whole number, and the sums', () => {
    const taken = batches({ sampling: 'PROPORTIONAL' }, 1100);
    for (const batch of taken) {
      const [first = 0, second = 0] = countsOf(batch, 2);
      assert.ok(first + second === 8 && (second === 0 || second === 1));
    }
    let second = 0;
    for (const [step, batch] of taken.entries()) {
      second += countsOf(batch, 2)[1] ?? 0;
      assert.ok(Math.abs(second - (8 * (step + 1)) / 11) < 3, `after ${step + 1} steps ${second}`);
    }
  });

  test("a weight multiplies a dataset's share", () => {
    assert.deepEqual(batchTargets({ ...BASE, datasets: [one(100, { weight: 3 }), one(100)] }), [6, 2]);
  });

  test('a dataset smaller than its share gives all its images, and the others fill the batch', () => {
    const datasets = [one(100), one(3), one(50)];
    assert.deepEqual(batchTargets({ datasets, sampling: 'EVEN', batchSize: 21 }), [9, 3, 9]);
    for (const batch of batches({ datasets, batchSize: 21 }, 30)) assert.deepEqual(countsOf(batch, 3), [9, 3, 9]);
  });

  test('more datasets than places in a batch take turns', () => {
    const datasets = Array.from({ length: 7 }, () => one(20));
    const taken = batches({ datasets, batchSize: 2 }, 700);
    for (const stepCount of [70, 350, 700])
      for (const count of countsOf(taken.slice(0, stepCount).flat(), 7))
        assert.ok(Math.abs(count - (2 * stepCount) / 7) < 3, `${count} after ${stepCount} steps`);
  });

  test('a batch of all images is every image', () => {
    const [batch = []] = batches({ batchSize: 110 }, 1);
    assert.equal(new Set(batch.map(nameOf)).size, 110);
  });

  test('maxImages selects a fixed random subset, in which every image has the same chance', () => {
    const datasets = [{ shardImageCounts: [30, 5, 65], maxImages: 12 }];
    const used = new Set(
      batches({ datasets, batchSize: 5 }, 50)
        .flat()
        .map((choice) => choice.imageIndex),
    );
    assert.equal(used.size, 12);
    const counts = new Float64Array(100);
    const draws = 2000;
    for (let seed = 0; seed < draws; seed += 1)
      for (const { imageIndex } of createSampleOrder({ ...BASE, datasets, batchSize: 12, seed }).imagesOf(0))
        counts[imageIndex] = (counts[imageIndex] ?? 0) + 1;
    const [mean, deviation] = [0.12 * draws, Math.sqrt(0.12 * 0.88 * draws)];
    for (const count of counts) assert.ok(Math.abs(count - mean) < 5 * deviation, `${count} of ${mean}`);
  });

  test('keeps its promises for any datasets: no repeats, turns, shares, whole batches', () => {
    const random = createRandom(17);
    for (let trial = 0; trial < 150; trial += 1) {
      const datasets = Array.from({ length: 1 + random.integer(5) }, (): SampledDataset => ({
        shardImageCounts: Array.from({ length: 1 + random.integer(6) }, () => 1 + random.integer(12)),
        ...(random.chance(0.5) ? { weight: random.between(0.1, 3) } : {}),
        ...(random.chance(0.3) ? { maxImages: 1 + random.integer(20) } : {}),
      }));
      const usable = datasets.map(usableCount);
      const options: SampleOrderOptions = {
        datasets,
        batchSize: 1 + random.integer(usable.reduce((sum, count) => sum + count, 0)),
        sampling: random.chance(0.5) ? 'EVEN' : 'PROPORTIONAL',
        seed: trial,
        windowShards: 1 + random.integer(3),
      };
      const targets = batchTargets(options);
      const seen = datasets.map(() => new Map<number, number>());
      for (const [step, batch] of batches(options, 120).entries()) {
        const where = `${JSON.stringify(options)}, step ${step}`;
        assert.equal(batch.length, options.batchSize, where);
        assert.equal(new Set(batch.map(nameOf)).size, options.batchSize, where);
        for (const { datasetIndex, imageIndex } of batch)
          seen[datasetIndex]?.set(imageIndex, (seen[datasetIndex].get(imageIndex) ?? 0) + 1);
        for (const [index, target] of targets.entries()) {
          const counts = [...(seen[index]?.values() ?? [])];
          const least = counts.length < (usable[index] ?? 0) ? 0 : Math.min(...counts);
          assert.ok(counts.length <= (usable[index] ?? 0) && Math.max(0, ...counts) - least <= 1, where);
          const total = counts.reduce((sum, count) => sum + count, 0);
          const bound = 2 + (Math.log2(step + 1) * 2) / 3;
          assert.ok(Math.abs(total - target * (step + 1)) < bound, `${where}: ${total}`);
          const inBatch = countsOf(batch, datasets.length)[index] ?? 0;
          assert.ok(Math.abs(inBatch - target) < 1, `${where}: ${inBatch} for ${target}`);
        }
      }
    }
  });
});

describe('the window', () => {
  const SHARDS = 200;
  const large: SampleOrderOptions = {
    ...BASE,
    datasets: [{ shardImageCounts: Array.from({ length: SHARDS }, () => 50) }],
    batchSize: 100,
    windowShards: 16,
  };
  const shardsOf = (batch: readonly ImageChoice[]): number[] =>
    batch.map(({ imageIndex }) => Math.floor(imageIndex / 50));

  test('bounds the shards that the batches before and after a step read', () => {
    const taken = batches(large, 400);
    for (let step = 0; step + 4 < taken.length; step += 1) {
      const shards = new Set(taken.slice(step, step + 4).flatMap(shardsOf));
      assert.ok(shards.size < 4 * 16, `${shards.size} shards after step ${step}`);
    }
    assert.equal(new Set(taken.slice(0, 100).flatMap(shardsOf)).size, SHARDS);
  });

  test('names shards before the step that reads them, and not all of them', () => {
    const order = createSampleOrder(large);
    for (let step = 1; step < 300; step += 1) {
      const ahead = new Set(order.shardsAhead(step - 1).map(({ shardIndex }) => shardIndex));
      const late = new Set(shardsOf(order.imagesOf(step)).filter((shard) => !ahead.has(shard)));
      // Of the batch that begins a window, the last part of the window before it names all but a few.
      assert.ok(late.size <= 3, `${[...late].join()} at step ${step}`);
      assert.ok(ahead.size < 4 * 16);
    }
  });

  test('holds the whole of a dataset with less than twice its shards, which is shuffled as a whole', () => {
    const order = createSampleOrder({
      ...large,
      datasets: [{ shardImageCounts: Array.from({ length: 31 }, () => 50) }],
    });
    const firstHalf = Array.from({ length: 7 }, (_, step) => shardsOf(order.imagesOf(step))).flat();
    const counts = Array.from({ length: 31 }, (_, shard) => firstHalf.filter((each) => each === shard).length);
    // Hypergeometric: 700 of 1550 images, 50 of each shard.
    const mean = (700 * 50) / 1550;
    const deviation = Math.sqrt(mean * (1 - 50 / 1550) * ((1550 - 700) / 1549));
    for (const count of counts) assert.ok(Math.abs(count - mean) < 5 * deviation, `${count} of ${mean}`);
  });

  test('is small at the start of the first epoch, and doubles until it has its size', () => {
    const options = { ...large, firstWindowShards: 4 };
    const order = createSampleOrder(options);
    // 4 and 8 shards, then 188 in eleven windows of at least 16; a batch holds the images of two shards.
    const needed = (steps: number): number =>
      new Set(Array.from({ length: steps }, (_, step) => shardsOf(order.imagesOf(step))).flat()).size;
    assert.ok(needed(1) <= 4);
    assert.equal(needed(2), 4);
    assert.equal(needed(6), 12);
    assert.equal(needed(6 + 8), 12 + 17, 'the first of the eleven has 17 shards');
    const epoch = Array.from({ length: SHARDS / 2 }, (_, step) => order.imagesOf(step)).flat();
    assert.equal(new Set(epoch.map(nameOf)).size, SHARDS * 50, 'every image once');
  });

  test('has its full size in the second epoch, with the order that it has without a small start', () => {
    const [without, small] = [large, { ...large, firstWindowShards: 4 }].map((options) => createSampleOrder(options));
    const step = SHARDS / 2 + 5;
    assert.deepEqual(small?.imagesOf(step), without?.imagesOf(step));
    assert.notDeepEqual(small?.imagesOf(5), without?.imagesOf(5));
  });

  test('of a dataset with fewer than three times as many shards as its small start is not divided', () => {
    const datasets = [{ shardImageCounts: Array.from({ length: 11 }, () => 50) }];
    const taken = batches({ ...large, datasets }, 12);
    assert.deepEqual(batches({ ...large, datasets, firstWindowShards: 4 }, 12), taken);
    const one = [{ shardImageCounts: Array.from({ length: 12 }, () => 50) }];
    const order = createSampleOrder({ ...large, datasets: one, firstWindowShards: 4 });
    assert.equal(order.shardsAhead(0).length, 4);
  });

  test('of a new training of 48 shards or more starts with 16, and of one that was frozen before with all', () => {
    const datasets = [{ shardImageCounts: Array.from({ length: 48 }, () => 100) }];
    const aheadBy = ({ windowShards, firstWindowShards }: ShuffleConfig): number =>
      createSampleOrder({ ...large, datasets, windowShards, firstWindowShards }).shardsAhead(0).length;
    assert.equal(aheadBy(DEFAULT_SHUFFLE), 16);
    assert.equal(aheadBy(shuffleSchema.parse({ windowShards: 64, sinceStep: 0 })), 48);
  });

  test('of several datasets is divided by their shares of the batch', () => {
    const shardImageCounts = Array.from({ length: SHARDS }, () => 50);
    const order = createSampleOrder({
      ...large,
      datasets: [{ shardImageCounts, weight: 3 }, { shardImageCounts }],
      windowShards: 64,
    });
    const ahead = order.shardsAhead(0);
    assert.deepEqual(
      [0, 1].map((index) => ahead.filter(({ datasetIndex }) => datasetIndex === index).length),
      // 200 shards in four windows of 48 at least, and in twelve of 16 at least.
      [50, 16],
    );
  });

  /** How often two images of a batch have the same label, on a dataset that is sorted by label. */
  function sameLabelRate(windowShards: number, labelCount: number): number {
    const [shardCount, perShard] = [288, 100];
    const order = createSampleOrder({
      ...{ datasets: [{ shardImageCounts: Array.from({ length: shardCount }, () => perShard) }], batchSize: 256 },
      ...{ sampling: 'EVEN', seed: 3, windowShards },
    });
    const steps = 600;
    let pairs = 0;
    for (let step = 0; step < steps; step += 1) {
      const counts = new Float64Array(labelCount);
      for (const { imageIndex } of order.imagesOf(step)) {
        const label = Math.floor((imageIndex * labelCount) / (shardCount * perShard));
        counts[label] = (counts[label] ?? 0) + 1;
      }
      pairs += counts.reduce((sum, count) => sum + count * (count - 1), 0);
    }
    return pairs / (steps * 256 * 255);
  }

  test('mixes the labels of a sorted dataset nearly as a shuffle of all images does', () => {
    const whole = sameLabelRate(288, 9);
    const windowed = sameLabelRate(DEFAULT_SHUFFLE.windowShards, 9);
    const narrow = sameLabelRate(2, 9);
    // Two images of nine equal labels: 1 / 9. Those of the same shard are added, 1 / n in a window of n shards.
    assert.ok(Math.abs(whole - 1 / 9) < 0.002, `${whole}`);
    assert.ok(windowed - whole < (8 / 9) * (1 / DEFAULT_SHUFFLE.windowShards) + 0.002, `${windowed}`);
    assert.ok(narrow > 0.3, `a window of two shards would mix little: ${narrow}`);
  });
});

describe('the cost of an order', () => {
  test('depends on the shards of a dataset, not on its images', () => {
    const costOf = (imagesPerShard: number): number[] => {
      const shardImageCounts = Array.from({ length: 1000 }, () => imagesPerShard);
      const before = process.memoryUsage().arrayBuffers;
      const order = createSampleOrder({ ...BASE, datasets: [{ shardImageCounts }], batchSize: 256, windowShards: 64 });
      const batch = order.imagesOf(3_000_000);
      return [process.memoryUsage().arrayBuffers - before, new Set(batch.map(nameOf)).size];
    };
    for (const imagesPerShard of [1, 10, 10_000, 1_000_000_000]) {
      const [bytes = Infinity, count] = costOf(imagesPerShard);
      assert.equal(count, 256);
      assert.ok(bytes < 1024 * 1024, `${bytes} bytes for ${imagesPerShard} images in a shard`);
    }
  });
});

describe('createSampleOrder refuses', () => {
  const cases: readonly [string, Partial<SampleOrderOptions>, ImageDataErrorCode, string][] = [
    ['batchSize 0', { batchSize: 0 }, 'BAD_OPTION', 'batchSize'],
    ['batchSize 2.5', { batchSize: 2.5 }, 'BAD_OPTION', 'batchSize'],
    ['windowShards 0', { windowShards: 0 }, 'BAD_OPTION', 'windowShards'],
    ['firstWindowShards 0', { firstWindowShards: 0 }, 'BAD_OPTION', 'firstWindowShards'],
    ['a seed that is not an integer', { seed: 0.5 }, 'BAD_OPTION', 'seed'],
    ['no datasets', { datasets: [] }, 'BAD_OPTION', 'datasets'],
    ['no shards', { datasets: [{ shardImageCounts: [] }] }, 'BAD_OPTION', 'datasets.0.shardImageCounts'],
    ['an empty shard', { datasets: [{ shardImageCounts: [5, 0] }] }, 'BAD_OPTION', 'datasets.0.shardImageCounts'],
    ['weight 0', { datasets: [one(9, { weight: 0 })] }, 'BAD_OPTION', 'datasets.0.weight'],
    ['weight NaN', { datasets: [one(9, { weight: NaN })] }, 'BAD_OPTION', 'datasets.0.weight'],
    ['maxImages 0', { datasets: [one(9, { maxImages: 0 })] }, 'BAD_OPTION', 'datasets.0.maxImages'],
    ['fewer images than a batch', { batchSize: 111 }, 'TOO_FEW_IMAGES', 'batchSize'],
    ['maxImages that leave too few', { datasets: [one(99, { maxImages: 7 })] }, 'TOO_FEW_IMAGES', 'batchSize'],
  ];
  for (const [what, options, code, option] of cases) {
    test(what, () => {
      assert.throws(
        () => createSampleOrder({ ...BASE, ...options }),
        (error) => error instanceof ImageDataError && error.code === code && error.place.option === option,
      );
    });
  }
  test('a step before the first', () => {
    assert.throws(
      () => createSampleOrder(BASE).imagesOf(-1),
      (error) => error instanceof ImageDataError && error.place.option === 'step',
    );
  });
});
