import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { innerParts, innerScore, innerScores, isBetter } from '../../workers/engine/probe/inner-choice.ts';

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
