/** Perceptual hashes of pictures. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import sharp, { type Sharp } from 'sharp';
import { findNearDuplicates } from '../../workers/imaging/near-duplicates.ts';
import { hashDistance, orientationsOf, perceptualHash } from '../../workers/imaging/perceptual-hash.ts';
import { createRandom } from '../../workers/engine/rng.ts';

const SIDE_PX = 96;

/** Soft blobs on a pale background, drawn from a seed. */
function picture(seed: number): Sharp {
  const random = createRandom(seed);
  const blobs = Array.from({ length: 14 }, () => ({
    x: random.uniform() * SIDE_PX,
    y: random.uniform() * SIDE_PX,
    radius: random.between(5, 20),
    depth: random.between(30, 120),
  }));
  const data = Buffer.alloc(SIDE_PX * SIDE_PX * 3);
  for (let y = 0; y < SIDE_PX; y += 1) {
    for (let x = 0; x < SIDE_PX; x += 1) {
      const dark = blobs.reduce(
        (sum, blob) => sum + blob.depth * Math.exp(-((x - blob.x) ** 2 + (y - blob.y) ** 2) / (2 * blob.radius ** 2)),
        0,
      );
      data.set(
        [230 - dark * 0.6, 210 - dark, 225 - dark * 0.5].map((value) => Math.max(0, Math.round(value))),
        (y * SIDE_PX + x) * 3,
      );
    }
  }
  return sharp(data, { raw: { width: SIDE_PX, height: SIDE_PX, channels: 3 } });
}

async function hashOf(image: Sharp): Promise<Uint8Array> {
  const { data, info } = await sharp(await image.png().toBuffer())
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  return perceptualHash({ data, width: info.width, height: info.height });
}

describe('a perceptual hash', () => {
  const changes: readonly [string, (image: Sharp) => Sharp | Promise<Sharp>][] = [
    ['recompression', async (image) => sharp(await image.jpeg({ quality: 60 }).toBuffer())],
    ['half the size', (image) => image.resize(48, 48)],
    ['twice the size', (image) => image.resize(192, 192)],
    ['brighter colours', (image) => image.linear(1.08, 4)],
    ['a turn', (image) => image.rotate(90)],
    ['half a turn', (image) => image.rotate(180)],
    ['a mirror', (image) => image.flop()],
    ['a mirror and a turn', async (image) => sharp(await image.flip().png().toBuffer()).rotate(270)],
  ];
  for (const [what, change] of changes) {
    test(`finds a picture again after ${what}, and no other one`, async () => {
      const seen = Buffer.concat([await hashOf(picture(2)), await hashOf(picture(1)), await hashOf(picture(3))]);
      const tested = Buffer.concat([await hashOf(await change(picture(1))), await hashOf(await change(picture(4)))]);
      const turns = { throwIfStopped: () => undefined, onProgress: () => Promise.resolve() };
      assert.deepEqual([...(await findNearDuplicates(tested, seen, turns))], [1, 0]);
    });
  }

  test('of an orientation is the hash of the turned picture', async () => {
    const own = await hashOf(picture(5));
    for (const turned of [
      picture(5).rotate(90),
      picture(5).rotate(180),
      picture(5).rotate(270),
      picture(5).flop(),
      picture(5).flip(),
    ]) {
      const hash = await hashOf(turned);
      assert.ok(orientationsOf(own).some((orientation) => hashDistance(orientation, hash) <= 1));
    }
    assert.equal(new Set(orientationsOf(own).map((hash) => Buffer.from(hash).toString('hex'))).size, 8);
  });
});
