import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createAugmenter } from '../../workers/engine/augment/augmenter.ts';
import { blurKernelSizePx } from '../../workers/engine/augment/blur.ts';
import { DEFAULT_AUGMENTATION, pairOf, type AugmentationConfig } from '../../workers/engine/augment/config.ts';
import { drawView } from '../../workers/engine/augment/parameters.ts';
import { createRandom, type Random } from '../../workers/engine/rng.ts';
import { liveTensorCount, readFloats, tf, type Tensor4D } from '../../workers/engine/tensorflow.ts';

const QUIET: AugmentationConfig = {
  cropScaleMin: 1,
  cropScaleMax: 1,
  flip: false,
  quarterTurns: false,
  colourJitterStrength: 1,
  colourJitterProbability: 0,
  greyProbability: 0,
  blurProbability: 0,
  stainJitterStrength: 0,
  stainJitterProbability: 1,
};

function noise(count: number, sizePx: number): Tensor4D {
  const random = createRandom(2);
  return tf.tensor4d(
    Array.from({ length: count * sizePx ** 2 * 3 }, () => random.integer(256)),
    [count, sizePx, sizePx, 3],
    'int32',
  );
}

function viewNumbers(config: AugmentationConfig, images: Tensor4D, viewSizePx: number, random: Random): Float32Array {
  const views = createAugmenter(pairOf({ sizePx: viewSizePx, augmentation: config })).views(images, random);
  const numbers = readFloats(views);
  views.dispose();
  return numbers;
}

describe('createAugmenter', () => {
  test('makes two views of every image, all first views before all second ones, normalised to -1..1, and leaks no tensor', () => {
    const images = noise(3, 32);
    const before = liveTensorCount();
    const views = createAugmenter(pairOf({ sizePx: 24, augmentation: DEFAULT_AUGMENTATION })).views(
      images,
      createRandom(1),
    );
    assert.equal(liveTensorCount(), before + 1);
    assert.deepEqual(views.shape, [6, 24, 24, 3]);
    const numbers = readFloats(views);
    assert.ok(numbers.every((value) => value >= -1 && value <= 1));
    views.dispose();
    images.dispose();
    assert.equal(liveTensorCount(), before - 1);
  });

  test('views made in parts equal those of the whole batch, however often they are made', () => {
    const images = noise(5, 32);
    const whole = viewNumbers(DEFAULT_AUGMENTATION, images, 16, createRandom(8));
    const drawn = createAugmenter(pairOf({ sizePx: 16, augmentation: DEFAULT_AUGMENTATION })).draw(
      5,
      32,
      createRandom(8),
    );
    const viewLength = 16 * 16 * 3;
    for (const [start, count] of [
      [0, 2],
      [2, 3],
      [0, 2],
    ] as const) {
      const part = tf.tidy(() => readFloats(drawn.make(tf.slice(images, start, count), start)));
      const rows = (first: number): Float32Array => whole.subarray(first * viewLength, (first + count) * viewLength);
      assert.deepEqual(part.subarray(0, count * viewLength), rows(start));
      assert.deepEqual(part.subarray(count * viewLength), rows(5 + start));
    }
    images.dispose();
  });

  test('makes groups of views of their own sizes, in parts too', () => {
    const images = noise(4, 32);
    const pair = { sizePx: 16, augmentations: [DEFAULT_AUGMENTATION, { ...QUIET, solariseProbability: 1 }] };
    const groups = [pair, { sizePx: 8, augmentations: [QUIET, DEFAULT_AUGMENTATION, QUIET] }];
    const augmenter = createAugmenter(groups);
    assert.deepEqual(augmenter.viewCounts, [2, 3]);
    const drawn = augmenter.draw(4, 32, createRandom(8));
    const shapes = groups.map((_, group) => tf.tidy(() => drawn.make(images, 0, group).shape));
    assert.deepEqual(shapes, [
      [8, 16, 16, 3],
      [12, 8, 8, 3],
    ]);
    const [first, part] = [0, 1].map((start) =>
      tf.tidy(() => readFloats(drawn.make(tf.slice(images, start, 3), start, 1))),
    );
    const viewLength = 8 * 8 * 3;
    // Images 1 and 2 of the second of the three views.
    assert.deepEqual(first?.subarray(4 * viewLength, 6 * viewLength), part?.subarray(3 * viewLength, 5 * viewLength));
    assert.throws(() => drawn.make(images, 0, 2), /no group 2/);
    images.dispose();
  });

  test('the same random state gives the same views, and another state gives others', () => {
    const images = noise(2, 32);
    const first = viewNumbers(DEFAULT_AUGMENTATION, images, 16, createRandom(8));
    assert.deepEqual(viewNumbers(DEFAULT_AUGMENTATION, images, 16, createRandom(8)), first);
    assert.notDeepEqual(viewNumbers(DEFAULT_AUGMENTATION, images, 16, createRandom(9)), first);
    assert.notDeepEqual(first.subarray(0, first.length / 2), first.subarray(first.length / 2));
    images.dispose();
  });

  test('with everything off a view is the image, from int32 and from float32 alike', () => {
    const images = noise(2, 16);
    const expected = Float32Array.from(images.dataSync(), (value) => (value / 255 - 0.5) / 0.5);
    const floats = tf.cast(images, 'float32');
    for (const source of [images, floats]) {
      const numbers = viewNumbers(QUIET, source, 16, createRandom(1));
      const worst = numbers.reduce(
        (most, value, index) => Math.max(most, Math.abs(value - (expected[index % expected.length] ?? NaN))),
        0,
      );
      assert.ok(worst < 1e-5, `${worst}`);
    }
    tf.dispose([images, floats]);
  });

  test('grey views have three equal channels', () => {
    const images = noise(2, 16);
    const numbers = viewNumbers({ ...QUIET, greyProbability: 1 }, images, 16, createRandom(1));
    for (let pixel = 0; pixel < numbers.length; pixel += 3)
      assert.ok(Math.abs((numbers[pixel] ?? 0) - (numbers[pixel + 2] ?? 1)) < 1e-5);
    images.dispose();
  });

  test('refuses images that are not square RGB, and sizes that make no view', () => {
    const augmenter = createAugmenter(pairOf({ sizePx: 16, augmentation: QUIET }));
    for (const shape of [
      [1, 16, 20, 3],
      [1, 16, 16, 4],
    ] as const) {
      const images = tf.zeros<tf.Rank.R4>([...shape]);
      assert.throws(() => augmenter.views(images, createRandom(1)), /must be \[N, S, S, 3\]/);
      images.dispose();
    }
    for (const sizePx of [0, 7, 16.5, NaN])
      assert.throws(() => createAugmenter(pairOf({ sizePx, augmentation: QUIET })), RangeError);
  });
});

describe('drawView', () => {
  const drawn = (config: AugmentationConfig): ReturnType<typeof drawView>[] => {
    const random = createRandom(3);
    return Array.from({ length: 2000 }, () => drawView(config, 100, 64, random));
  };
  const share = (flags: readonly boolean[]): number => flags.filter(Boolean).length / flags.length;

  test('stays within the ranges and follows the probabilities', () => {
    const views = drawn(DEFAULT_AUGMENTATION);
    for (const { geometry, colour, blurSigmaPx } of views) {
      const { left, top, width, height } = geometry.crop;
      assert.ok(left >= 0 && top >= 0 && left + width <= 100 + 1e-9 && top + height <= 100 + 1e-9);
      assert.ok(width * height >= 0.08 * 1e4 - 1e-6 && width / height > 0.749 && width / height < 1.3334);
      for (const factor of [colour.brightness, colour.contrast, colour.saturation])
        assert.ok(factor >= 0.2 - 1e-9 && factor <= 1.8);
      assert.ok(Math.abs(colour.hue) <= 0.2 && blurSigmaPx <= (2 * 64) / 224);
    }
    assert.ok(Math.abs(share(views.map((view) => view.geometry.flipped)) - 0.5) < 0.05);
    assert.ok(Math.abs(share(views.map((view) => view.grey)) - 0.2) < 0.04);
    assert.ok(Math.abs(share(views.map((view) => view.blurSigmaPx > 0)) - 0.5) < 0.05);
    assert.ok(Math.abs(share(views.map((view) => view.colour.hue !== 0)) - 0.8) < 0.04);
    for (const turns of [0, 1, 2, 3])
      assert.ok(Math.abs(share(views.map((view) => view.geometry.quarterTurnCount === turns)) - 0.25) < 0.04);
  });

  test('solarises with its probability, and draws nothing where there is none', () => {
    const solarised = drawn({ ...DEFAULT_AUGMENTATION, solariseProbability: 0.2 });
    assert.ok(Math.abs(share(solarised.map((view) => view.solarised)) - 0.2) < 0.03);
    assert.deepEqual(drawn({ ...DEFAULT_AUGMENTATION, solariseProbability: 0 }), drawn(DEFAULT_AUGMENTATION));
  });

  test('jitters stains around 1 and 0, and draws nothing where it does not', () => {
    const jittered = drawn({ ...DEFAULT_AUGMENTATION, stainJitterStrength: 0.2, stainJitterProbability: 0.5 });
    const stains = jittered.flatMap(({ stain }) => stain ?? []);
    assert.ok(Math.abs(stains.length / jittered.length - 0.5) < 0.05);
    const factors = stains.flatMap(({ factors: each }) => each);
    const shifts = stains.flatMap(({ shifts: each }) => each);
    for (const [values, centre] of [
      [factors, 1],
      [shifts, 0],
    ] as const) {
      assert.ok(values.every((value) => Math.abs(value - centre) <= 0.2));
      assert.ok(Math.max(...values) > centre + 0.19 && Math.min(...values) < centre - 0.19);
    }
    // Off, the views are those of a program without it: its probability is not even drawn.
    const [off, without] = [{ stainJitterProbability: 0.5 }, {}].map((each) =>
      drawn({ ...DEFAULT_AUGMENTATION, ...each }),
    );
    assert.deepEqual(off, without);
  });

  test('a disabled augmentation is never applied', () => {
    for (const view of drawn(QUIET)) {
      assert.deepEqual(view, {
        geometry: { crop: { left: 0, top: 0, width: 100, height: 100 }, flipped: false, quarterTurnCount: 0 },
        colour: { brightness: 1, contrast: 1, saturation: 1, hue: 0 },
        grey: false,
        blurSigmaPx: 0,
        stain: null,
        solarised: false,
      });
    }
  });
});

test('the blur kernel is about a tenth of the side and odd', () => {
  assert.deepEqual([8, 32, 64, 96, 224].map(blurKernelSizePx), [3, 3, 7, 9, 23]);
});
