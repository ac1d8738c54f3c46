import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  choiceImages,
  innerParts,
  innerScore,
  innerScores,
  isBetter,
} from '../../workers/engine/probe/inner-choice.ts';

/** Six slides of two images, one of each label. */
const images = {
  labels: Int32Array.from({ length: 12 }, (_, image) => image % 2),
  groups: Array.from({ length: 12 }, (_, image) => `slide ${Math.floor(image / 2)}`),
  labelNames: ['normal', 'tumour'],
};
const all = Int32Array.from(images.labels.keys());

describe('innerParts', () => {
  test('hold out every image once, and never only a part of a slide', () => {
    const parts = innerParts(images, all, 1) ?? [];
    assert.deepEqual(
      parts.flatMap(({ heldOut }) => [...heldOut]).sort((left, right) => left - right),
      [...all],
    );
    for (const { fitted, heldOut } of parts) {
      const slides = new Set(Array.from(heldOut, (image) => images.groups[image]));
      assert.ok(fitted.every((image) => !slides.has(images.groups[image])));
      assert.equal(fitted.length + heldOut.length, 12);
    }
  });

  test('are null if the slides cannot be divided', () => {
    assert.equal(innerParts(images, all.subarray(0, 4), 1), null);
  });
});

describe('choiceImages', () => {
  /** Ten slides; a tenth of the images of each is tumour, and 40 images of the first slide are necrosis. */
  const many = {
    labels: Int32Array.from({ length: 10_000 }, (_, image) => (image < 40 ? 2 : image % 10 === 0 ? 1 : 0)),
    groups: Array.from({ length: 10_000 }, (_, image) => `slide ${Math.floor(image / 1000)}`),
    labelNames: ['normal', 'tumour', 'necrosis'],
  };
  const everything = Int32Array.from(many.labels.keys());
  const countOf = (chosen: Int32Array, is: (image: number) => boolean): number => chosen.filter(is).length;

  test('are all images if there are not too many', () => {
    assert.equal(choiceImages(many, everything, 10_000), everything);
  });

  test('are different images in which labels and groups keep their shares, and a rare label all that it has', () => {
    const chosen = choiceImages(many, everything, 2000);
    assert.equal(new Set(chosen).size, chosen.length);
    assert.deepEqual(
      [0, 1, 2].map((label) => countOf(chosen, (image) => many.labels[image] === label)),
      [1793, 199, 40],
    );
    for (let slide = 1; slide < 10; slide += 1) {
      const ofSlide = countOf(chosen, (image) => many.groups[image] === `slide ${slide}`);
      assert.ok(Math.abs(ofSlide - 200) <= 2, `slide ${slide}: ${ofSlide} images`);
    }
    assert.deepEqual(choiceImages(many, everything, 2000), chosen);
  });

  test('are among the training images only', () => {
    const train = everything.filter((image) => image >= 5000);
    assert.ok(choiceImages(many, train, 500).every((image) => image >= 5000));
  });
});

describe('innerScores', () => {
  test('are computed over the predictions of all parts together, in the order of the candidates', async () => {
    const parts = innerParts(images, all, 1) ?? [];
    const told: number[] = [];
    const right = (image: number): number[] => (images.labels[image] === 0 ? [0.75, 0.25] : [0.25, 0.75]);
    const scores = await innerScores(
      parts,
      images,
      ({ heldOut }) => [
        Float64Array.from([...heldOut].flatMap(right)),
        Float32Array.from([...heldOut].flatMap(() => [0.5, 0.5])),
      ],
      (done) => Promise.resolve(void told.push(done)),
    );
    // Constant predictions are all of the first label: its F1 is 2/3, that of the other 0.
    assert.deepEqual(
      scores.map(({ macroF1, crossEntropy }) => [macroF1, crossEntropy].map((value) => Math.round(value * 1e9) / 1e9)),
      [
        [1, -Math.log(0.75)],
        [1 / 3, -Math.log(0.5)],
      ].map((row) => row.map((value) => Math.round(value * 1e9) / 1e9)),
    );
    assert.deepEqual(told, [0.25, 0.5, 0.75]);
  });
});

describe('isBetter', () => {
  const truth = Int32Array.of(0, 0, 1, 1, 0, 1);
  /** The probability of label 0, for each image. */
  const scoreOf = (probabilities: readonly number[]) =>
    innerScore(truth, Float64Array.from(probabilities.flatMap((value) => [value, 1 - value])), 2);

  test('a classifier with one confident mistake beats one that predicts the label frequencies', () => {
    const confident = scoreOf([0.999, 0.999, 0.001, 0.001, 0.999, 0.999999]);
    const frequencies = scoreOf(Array.from(truth, () => 0.5));
    assert.ok(confident.crossEntropy > frequencies.crossEntropy);
    assert.ok(isBetter(confident, frequencies) && !isBetter(frequencies, confident));
  });

  test('among classifiers of equal accuracy the better calibrated one is better, and none is better than itself', () => {
    const [hesitant, confident] = [scoreOf([0.6, 0.6, 0.4, 0.4, 0.6, 0.4]), scoreOf([0.9, 0.9, 0.1, 0.1, 0.9, 0.1])];
    assert.ok(isBetter(confident, hesitant) && !isBetter(hesitant, confident) && !isBetter(confident, confident));
  });
});
