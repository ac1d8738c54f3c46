/** Which pixels a patch is made from, and its resampling. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isFineEnough, levelFor, sourceRegionOf } from '../../workers/imaging/slides/geometry.ts';
import { resample } from '../../workers/imaging/slides/resample.ts';

const geometry = {
  levels: [
    { width: 40_000, height: 30_000, downsample: 1 },
    { width: 10_000, height: 7_500, downsample: 4.0001 },
    { width: 2_500, height: 1_875, downsample: 16 },
  ],
  micronsPerPixel: { x: 0.25, y: 0.25 },
};

describe('levels', () => {
  test('the coarsest level that is fine enough is read', () => {
    const cases = [
      [0.25, 0],
      [0.5, 0],
      [0.99, 0],
      [1, 1],
      [3.9, 1],
      [4, 2],
      [8, 2],
    ] as const;
    for (const [micronsPerPixel, level] of cases) assert.equal(levelFor(geometry, micronsPerPixel), level);
  });

  test('nothing is enlarged by more than a tenth', () => {
    assert.equal(isFineEnough(geometry, 0.23), true);
    assert.equal(isFineEnough(geometry, 0.22), false);
  });

  test('a region covers its patch, and begins at a whole pixel of its level', () => {
    const region = sourceRegionOf(geometry, { micronsPerPixel: 1.3, patchSizePx: 256 }, 1001, 2003);
    // 256 px at 1.3 um are 1331.2 px of level 0 and 332.8 of level 1.
    assert.equal(region.level, 1);
    assert.equal(region.x, 1000);
    assert.ok(Math.abs(region.left - (1001 / 4.0001 - 250)) < 1e-9);
    assert.ok(region.left + 256 * region.scaleX <= region.width && region.width <= 335);
    assert.ok(Math.abs(region.scaleX - 1.3) < 1e-4);
  });
});

describe('resampling', () => {
  test('is the mean over the area of a pixel, with fractions', () => {
    const source = { data: Buffer.from([0, 30, 60, 90, 120].flatMap((v) => [v, v, v])), width: 5, height: 1 };
    // 2.5 source pixels for each: (0 + 30 + 60 / 2) / 2.5 and (60 / 2 + 90 + 120) / 2.5.
    const { data } = resample(source, { left: 0, top: 0, scaleX: 2.5, scaleY: 1 }, 2, 1);
    assert.deepEqual([...data], [24, 24, 24, 96, 96, 96]);
    const shifted = resample(source, { left: 0.5, top: 0, scaleX: 2, scaleY: 1 }, 2, 1);
    assert.deepEqual([...shifted.data], [30, 30, 30, 90, 90, 90]);
  });

  test('of equal size changes nothing', () => {
    const data = Buffer.from(Array.from({ length: 48 }, (_, index) => (index * 37) % 256));
    assert.deepEqual(
      resample({ data, width: 4, height: 4 }, { left: 0, top: 0, scaleX: 1, scaleY: 1 }, 4, 4).data,
      data,
    );
  });

  test('that enlarges is linear between the centres of pixels', () => {
    const source = { data: Buffer.from([0, 0, 0, 100, 100, 100]), width: 2, height: 1 };
    const { data } = resample(source, { left: 0, top: 0, scaleX: 0.5, scaleY: 1 }, 4, 1);
    // Centres at 0.25, 0.75, 1.25 and 1.75 between the centres 0.5 and 1.5.
    assert.deepEqual([data[0], data[3], data[6], data[9]], [0, 25, 75, 100]);
  });
});
