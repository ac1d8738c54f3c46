import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { describe, test, type TestContext } from 'node:test';
import {
  openEvaluationImages,
  openTrainingBatches,
  type DecodedBatch,
  type TrainingBatchOptions,
} from '../../workers/engine/data/batches.ts';
import { ImageDataError, type ImageDataErrorCode } from '../../workers/engine/data/errors.ts';
import type { EvaluationImage } from '../../workers/engine/data/reading-plan.ts';
import { openDecoder, plainImages, plainPng, sourceOf, temporaryFolder, writeShard } from '../support/shards.ts';

const isFault =
  (code: ImageDataErrorCode) =>
  (error: unknown): boolean =>
    error instanceof ImageDataError && error.code === code;

/** Two datasets: 6 images in two shards (red 0..5) and 4 in one (red 100..103). */
async function twoDatasets(context: TestContext): Promise<TrainingBatchOptions> {
  const folder = await temporaryFolder(context);
  const first = await plainImages('a', 6);
  const shardPaths = [
    await writeShard(folder, 's0.tar', first.slice(0, 8)),
    await writeShard(folder, 's1.tar', first.slice(8)),
  ];
  const other = await writeShard(folder, 's2.tar', await plainImages('b', 4, 100));
  return {
    datasets: [
      { shards: await Promise.all(shardPaths.map((shardPath) => sourceOf(shardPath))) },
      { shards: [await sourceOf(other)] },
    ],
    sampling: 'EVEN',
    windowShards: 64,
    batchSize: 4,
    sourceSizePx: 16,
    seed: 11,
    openDecoder,
  };
}

async function take(options: TrainingBatchOptions, count: number): Promise<DecodedBatch[]> {
  const reading = openTrainingBatches(options);
  try {
    const batches: DecodedBatch[] = [];
    for (let step = 0; step < count; step += 1) batches.push(await reading.next());
    return batches;
  } finally {
    await reading.close();
  }
}

const redOf = (batch: DecodedBatch, index: number): number | undefined => batch.images[index * 16 * 16 * 3];
const withoutDecodedCount = (batches: readonly DecodedBatch[]): object[] =>
  batches.map(({ decodedCount: _, ...rest }) => rest);

describe('openTrainingBatches', () => {
  test('delivers the images of every dataset alike', async (context) => {
    for (const batch of await take(await twoDatasets(context), 6)) {
      assert.equal(batch.images.length, 4 * 16 * 16 * 3);
      assert.deepEqual(batch.sourceCounts, [2, 2]);
      const reds = Array.from({ length: 4 }, (_, index) => redOf(batch, index) ?? -1);
      assert.equal(new Set(reds).size, 4);
      assert.equal(reds.filter((red) => red < 6).length, 2);
      assert.equal(reds.filter((red) => red >= 100 && red < 104).length, 2);
    }
  });

  test('continues at startStep as if it had never stopped, with or without the cache', async (context) => {
    const options = await twoDatasets(context);
    const whole = await take(options, 9);
    assert.deepEqual(
      withoutDecodedCount(await take({ ...options, startStep: 5 }, 4)),
      withoutDecodedCount(whole.slice(5)),
    );
    assert.deepEqual(withoutDecodedCount(await take({ ...options, cacheByteLimit: 0 }, 9)), withoutDecodedCount(whole));
  });

  test('decodes each image once while the cache has room', async (context) => {
    const options = await twoDatasets(context);
    const decodedCount = (batches: readonly DecodedBatch[]): number =>
      batches.reduce((sum, batch) => sum + batch.decodedCount, 0);
    assert.equal(decodedCount(await take(options, 12)), 10);
    assert.equal(decodedCount(await take({ ...options, cacheByteLimit: 0 }, 12)), 48);
    const some = decodedCount(await take({ ...options, cacheByteLimit: 5 * 16 * 16 * 3 }, 12));
    assert.ok(some > 10 && some < 48, `${some}`);
  });

  test('simultaneous calls of next are answered in order', async (context) => {
    const options = await twoDatasets(context);
    const reading = openTrainingBatches(options);
    const together = await Promise.all([reading.next(), reading.next(), reading.next()]);
    await reading.close();
    assert.deepEqual(withoutDecodedCount(together), withoutDecodedCount(await take(options, 3)));
  });

  test('close answers pending and later calls, and may be called twice', async (context) => {
    const reading = openTrainingBatches(await twoDatasets(context));
    const waiting = assert.rejects(reading.next(), isFault('READER_CLOSED'));
    await reading.close();
    await waiting;
    await assert.rejects(reading.next(), isFault('READER_CLOSED'));
    await reading.close();
  });

  test('names the image that cannot be decoded', async (context) => {
    const folder = await temporaryFolder(context);
    const broken = { name: 'broken.png', bytes: (await plainPng(1, 300)).subarray(0, 200) };
    const shardPath = await writeShard(folder, 's.tar', [...(await plainImages('a', 3)), broken]);
    const options = {
      datasets: [{ shards: [await sourceOf(shardPath)] }],
      sampling: 'EVEN',
      windowShards: 64,
      batchSize: 4,
      sourceSizePx: 16,
      seed: 1,
      openDecoder,
    } as const;
    await assert.rejects(
      take(options, 1),
      (error) => error instanceof ImageDataError && error.code === 'IMAGE_UNREADABLE' && error.place.key === 'broken',
    );
  });

  test('a shard that is gone', async (context) => {
    const options = await twoDatasets(context);
    const gone = await options.datasets[1]?.shards[0]?.open();
    await rm(gone?.path ?? '');
    const reading = openTrainingBatches(options);
    await assert.rejects(reading.next(), isFault('SHARD_UNREADABLE'));
    await assert.rejects(reading.next(), isFault('SHARD_UNREADABLE'));
    await reading.close();
  });

  test('what the source of a shard throws reaches the caller as it is', async (context) => {
    const options = await twoDatasets(context);
    const damage = new Error('its digest is wrong');
    const damaged = { imageCount: 4, open: () => Promise.reject(damage) };
    const reading = openTrainingBatches({ ...options, datasets: [{ shards: [damaged] }] });
    await assert.rejects(reading.next(), (error) => error === damage);
    await reading.close();
  });

  test('wrong options are refused before a process starts', async (context) => {
    const options = await twoDatasets(context);
    const wrong: readonly [Partial<TrainingBatchOptions>, ImageDataErrorCode][] = [
      [{ sourceSizePx: 0 }, 'BAD_OPTION'],
      [{ sourceSizePx: 10_000 }, 'BAD_OPTION'],
      [{ cacheByteLimit: -1 }, 'BAD_OPTION'],
      [{ cacheByteLimit: NaN }, 'BAD_OPTION'],
      [{ startStep: -1 }, 'BAD_OPTION'],
      [{ windowShards: 0 }, 'BAD_OPTION'],
      [{ batchSize: 0 }, 'BAD_OPTION'],
      [{ batchSize: 11 }, 'TOO_FEW_IMAGES'],
    ];
    for (const [change, code] of wrong)
      assert.throws(() => openTrainingBatches({ ...options, ...change }), isFault(code));
  });
});

describe('openEvaluationImages', () => {
  const SETTINGS = { imageSizePx: 16, openDecoder };
  /** Images a0..a5: four in the first shard, two in the second. */
  const shardsOf = async (context: TestContext) => (await twoDatasets(context)).datasets[0]?.shards ?? [];
  const imageOf = (key: string): EvaluationImage => {
    const number = Number(key.slice(1));
    return { key, shard: number < 4 ? 0 : 1, indexInShard: number % 4 };
  };

  test('delivers the images in the requested order, with a smaller last batch', async (context) => {
    const shards = await shardsOf(context);
    const images = ['a5', 'a0', 'a3', 'a4', 'a1'].map(imageOf);
    const reds: number[][] = [];
    for await (const batch of openEvaluationImages({ ...SETTINGS, shards, images, batchSize: 2 }))
      reds.push(Array.from({ length: batch.imageCount }, (_, index) => redOf(batch, index) ?? -1));
    assert.deepEqual(reds, [[5, 0], [3, 4], [1]]);
  });

  test('returns null after the last batch, every time', async (context) => {
    const shards = await shardsOf(context);
    const reading = openEvaluationImages({ ...SETTINGS, shards, images: [imageOf('a0')], batchSize: 4 });
    assert.equal((await reading.next())?.imageCount, 1);
    assert.equal(await reading.next(), null);
    assert.equal(await reading.next(), null);
    await reading.close();
  });

  test('an image that is not in the shards', async (context) => {
    const shards = await shardsOf(context);
    for (const image of [
      { ...imageOf('a0'), indexInShard: 4 },
      { ...imageOf('a0'), shard: 1 },
      { ...imageOf('a0'), shard: 7 },
    ]) {
      const reading = openEvaluationImages({ ...SETTINGS, shards, images: [image], batchSize: 1 });
      await assert.rejects(reading.next(), isFault('IMAGE_MISSING'));
      await reading.close();
    }
  });

  test('a manifest that gives an image the place of another', async (context) => {
    const shards = await shardsOf(context);
    const images = [imageOf('a0'), { ...imageOf('a1'), key: 'a2' }];
    const reading = openEvaluationImages({ ...SETTINGS, shards, images, batchSize: 1 });
    assert.equal((await reading.next())?.imageCount, 1);
    await assert.rejects(
      reading.next(),
      (error) =>
        isFault('IMAGE_MISSING')(error) && error instanceof Error && /image a2 .*"a1\.png"/.test(error.message),
    );
    await reading.close();
  });

  test('wrong options', () => {
    assert.throws(
      () => openEvaluationImages({ ...SETTINGS, shards: [], images: [], batchSize: 0 }),
      isFault('BAD_OPTION'),
    );
    assert.throws(
      () => openEvaluationImages({ ...SETTINGS, imageSizePx: 7, shards: [], images: [], batchSize: 1 }),
      isFault('BAD_OPTION'),
    );
  });
});
