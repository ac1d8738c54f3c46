/** Pixels to an encoder's input, as a contract says it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { normaliseImages, type Normalisation } from '../../workers/engine/embed.ts';
import { readFloats, tf } from '../../workers/engine/tensorflow.ts';

function normalised(normalisation: Normalisation): number[] {
  const images = tf.tensor4d([0, 0.5, 1], [1, 1, 1, 3]);
  const result = normaliseImages(images, normalisation);
  const values = [...readFloats(result)];
  tf.dispose([images, result]);
  return values;
}

test('mean and deviation are per channel', () => {
  assert.deepEqual(normalised({ channelMean: [0, 0.5, 0.5], channelStd: [1, 0.5, 0.25] }), [0, 0, 2]);
});

test('a value range comes first', () => {
  assert.deepEqual(
    normalised({ channelMean: [100, 100, 100], channelStd: [1, 1, 1], valueRange: [0, 255] }),
    [-100, 27.5, 155],
  );
  assert.deepEqual(normalised({ channelMean: [0, 0, 0], channelStd: [1, 1, 1], valueRange: [-1, 1] }), [-1, 0, 1]);
});

test('BGR turns the channels before they are normalised', () => {
  assert.deepEqual(normalised({ channelMean: [1, 0, 0], channelStd: [1, 1, 1], channelOrder: 'BGR' }), [0, 0.5, 0]);
});
