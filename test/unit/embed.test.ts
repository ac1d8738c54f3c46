/** From pixels to an encoder's input, as the input contract specifies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  HALF_NORMALISATION,
  normaliseImages,
  normalisePixels,
  type Normalisation,
} from '../../workers/engine/embed.ts';
import { asRank4, readFloats, scoped, tf } from '../../workers/engine/tensorflow.ts';

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

test('the value range is applied first', () => {
  assert.deepEqual(
    normalised({ channelMean: [100, 100, 100], channelStd: [1, 1, 1], valueRange: [0, 255] }),
    [-100, 27.5, 155],
  );
  assert.deepEqual(normalised({ channelMean: [0, 0, 0], channelStd: [1, 1, 1], valueRange: [-1, 1] }), [-1, 0, 1]);
});

test('BGR reverses the channels before they are normalised', () => {
  assert.deepEqual(normalised({ channelMean: [1, 0, 0], channelStd: [1, 1, 1], channelOrder: 'BGR' }), [0, 0.5, 0]);
});

test('every byte value becomes exactly its 255th, in every channel', () => {
  const contracts: readonly Normalisation[] = [
    HALF_NORMALISATION,
    { channelMean: [0.485, 0.456, 0.406], channelStd: [0.229, 0.224, 0.225] },
    {
      channelMean: [103.53, 116.28, 123.675],
      channelStd: [57.375, 57.12, 58.395],
      valueRange: [0, 255],
      channelOrder: 'BGR',
    },
  ];
  const pixels = Uint8Array.from(
    { length: 256 * 3 },
    (_, place) => (Math.floor(place / 3) * (1 + 2 * (place % 3))) % 256,
  );
  for (const contract of contracts) {
    const images = scoped(() => asRank4(tf.div(tf.tensor4d(pixels, [1, 256, 1, 3], 'float32'), 255)));
    const wanted = normaliseImages(images, contract);
    assert.deepEqual(normalisePixels(pixels, contract), readFloats(wanted));
    tf.dispose([images, wanted]);
  }
});
