/** Synthetic tissue: the same seed draws the same images, and colour does not reveal the label. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createDraw, drawStain } from '../../src/synthetic/tissue-canvas.ts';
import { drawImage, drawTissue, TISSUE_LABELS } from '../../src/synthetic/tissue.ts';

function draw(label: (typeof TISSUE_LABELS)[number], seed: number): Buffer {
  return drawImage(label, 96, drawStain(createDraw(1)), createDraw(seed));
}

test('the same seed draws the same pixels, another seed others', () => {
  for (const label of TISSUE_LABELS) {
    assert.ok(draw(label, 3).equals(draw(label, 3)), label);
    assert.ok(!draw(label, 3).equals(draw(label, 4)), label);
  }
});

test('the mean colours of the labels are close together', () => {
  const means = TISSUE_LABELS.map((label) => {
    const images = [1, 2, 3, 4].map((seed) => draw(label, seed));
    return [0, 1, 2].map((channel) =>
      images
        .flatMap((image) => [...image].filter((_, index) => index % 3 === channel))
        .reduce((sum, value, _, all) => sum + value / all.length, 0),
    );
  });
  for (const a of means)
    for (const b of means)
      for (const channel of [0, 1, 2])
        assert.ok(Math.abs((a[channel] ?? 0) - (b[channel] ?? 0)) < 40, JSON.stringify(means));
});

test('invalid options are refused', async () => {
  const sound = { outDir: '/nowhere', imagesPerLabel: 1, imageSizePx: 64, seed: 1, groups: 1 };
  for (const wrong of [
    { imagesPerLabel: 0 },
    { imagesPerLabel: Number.NaN },
    { imageSizePx: 8 },
    { imageSizePx: 64.5 },
    { groups: 0 },
  ]) {
    await assert.rejects(drawTissue({ ...sound, ...wrong }), RangeError, JSON.stringify(wrong));
  }
});
