import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ImageDataError, type ImageDataErrorCode } from '../../workers/engine/data/errors.ts';
import {
  batchTargets,
  createSampleOrder,
  type ImageChoice,
  type SampleOrderOptions,
} from '../../workers/engine/data/sampling.ts';

const BASE: SampleOrderOptions = {
  datasets: [{ imageCount: 100 }, { imageCount: 10 }],
  sampling: 'EVEN',
  batchSize: 8,
  seed: 5,
  startStep: 0,
};

function batches(options: Partial<SampleOrderOptions>, stepCount: number): ImageChoice[][] {
  const order = createSampleOrder({ ...BASE, ...options });
  return Array.from({ length: stepCount }, () => order.next());
}

function countsOf(choices: readonly ImageChoice[], datasetCount: number): number[] {
  return Array.from(
    { length: datasetCount },
    (_, index) => choices.filter((choice) => choice.datasetIndex === index).length,
  );
}

describe('createSampleOrder', () => {
  test('is a pure function of seed and step: a resumed run sees the same batches', () => {
    const whole = batches({}, 60);
    for (const startStep of [1, 7, 33, 59])
      assert.deepEqual(batches({ startStep }, 60 - startStep), whole.slice(startStep));
    assert.notDeepEqual(batches({ seed: 6 }, 60), whole);
  });

  test('EVEN gives every dataset the same share', () => {
    for (const batch of batches({}, 40)) assert.deepEqual(countsOf(batch, 2), [4, 4]);
  });

  test('PROPORTIONAL follows the image counts over steps as closely as whole numbers allow', () => {
    const taken = batches({ sampling: 'PROPORTIONAL' }, 110);
    assert.deepEqual(countsOf(taken.flat(), 2), [800, 80]);
    for (let step = 1; step <= 110; step += 1) {
      const [, second = 0] = countsOf(taken.slice(0, step).flat(), 2);
      assert.ok(Math.abs(second - (8 * step) / 11) < 1, `after ${step} steps ${second}`);
    }
  });

  test("a weight multiplies a dataset's share", () => {
    assert.deepEqual(
      batchTargets({ ...BASE, datasets: [{ imageCount: 100, weight: 3 }, { imageCount: 100 }] }),
      [6, 2],
    );
  });

  test('a dataset smaller than its share gives all its images, and the others fill the batch', () => {
    const datasets = [{ imageCount: 100 }, { imageCount: 3 }, { imageCount: 50 }];
    assert.deepEqual(batchTargets({ datasets, sampling: 'EVEN', batchSize: 21 }), [9, 3, 9]);
    for (const batch of batches({ datasets, batchSize: 21 }, 30)) assert.deepEqual(countsOf(batch, 3), [9, 3, 9]);
  });

  test('more datasets than places in a batch take turns', () => {
    const datasets = Array.from({ length: 7 }, () => ({ imageCount: 20 }));
    const taken = batches({ datasets, batchSize: 2 }, 35);
    assert.deepEqual(countsOf(taken.flat(), 7), [10, 10, 10, 10, 10, 10, 10]);
  });

  test('no batch holds an image twice, and every cycle shows each image once', () => {
    const datasets = [{ imageCount: 7 }, { imageCount: 11 }];
    const taken = batches({ datasets, batchSize: 9 }, 77);
    for (const batch of taken)
      assert.equal(new Set(batch.map((choice) => `${choice.datasetIndex}/${choice.imageIndex}`)).size, 9);
    for (const [datasetIndex, { imageCount }] of datasets.entries()) {
      const seen = new Map<number, number>();
      for (const choice of taken.flat())
        if (choice.datasetIndex === datasetIndex) seen.set(choice.imageIndex, (seen.get(choice.imageIndex) ?? 0) + 1);
      const counts = [...seen.values()];
      assert.equal(counts.length, imageCount);
      assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, counts.join(' '));
    }
  });

  test('a batch of all images is every image', () => {
    const [batch = []] = batches({ batchSize: 110 }, 1);
    assert.equal(new Set(batch.map((choice) => `${choice.datasetIndex}/${choice.imageIndex}`)).size, 110);
  });

  test('maxImages selects a fixed random subset', () => {
    const taken = batches({ datasets: [{ imageCount: 100, maxImages: 12 }], batchSize: 5 }, 50).flat();
    const used = new Set(taken.map((choice) => choice.imageIndex));
    assert.equal(used.size, 12);
    assert.ok(Math.max(...used) > 12);
  });
});

describe('createSampleOrder refuses', () => {
  const cases: readonly [string, Partial<SampleOrderOptions>, ImageDataErrorCode, string][] = [
    ['batchSize 0', { batchSize: 0 }, 'BAD_OPTION', 'batchSize'],
    ['batchSize 2.5', { batchSize: 2.5 }, 'BAD_OPTION', 'batchSize'],
    ['startStep -1', { startStep: -1 }, 'BAD_OPTION', 'startStep'],
    ['a seed that is not an integer', { seed: 0.5 }, 'BAD_OPTION', 'seed'],
    ['no datasets', { datasets: [] }, 'BAD_OPTION', 'datasets'],
    ['imageCount 0', { datasets: [{ imageCount: 0 }] }, 'BAD_OPTION', 'datasets.0.imageCount'],
    ['weight 0', { datasets: [{ imageCount: 9, weight: 0 }] }, 'BAD_OPTION', 'datasets.0.weight'],
    ['weight NaN', { datasets: [{ imageCount: 9, weight: NaN }] }, 'BAD_OPTION', 'datasets.0.weight'],
    ['maxImages 0', { datasets: [{ imageCount: 9, maxImages: 0 }] }, 'BAD_OPTION', 'datasets.0.maxImages'],
    ['fewer images than a batch', { batchSize: 111 }, 'TOO_FEW_IMAGES', 'batchSize'],
    ['maxImages that leave too few', { datasets: [{ imageCount: 99, maxImages: 7 }] }, 'TOO_FEW_IMAGES', 'batchSize'],
  ];
  for (const [what, options, code, option] of cases) {
    test(what, () => {
      assert.throws(
        () => createSampleOrder({ ...BASE, ...options }),
        (error) => error instanceof ImageDataError && error.code === code && error.place.option === option,
      );
    });
  }
});
