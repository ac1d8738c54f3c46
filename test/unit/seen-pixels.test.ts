/** The memory of an import for pixels that it has seen. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { createSeenPixels, pixelsName } from '../../workers/imaging/seen-pixels.ts';
import { createRandom } from '../../workers/engine/rng.ts';

const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest();

describe('the first image with its pixels', () => {
  test('is that of a Map, however many images come', () => {
    const random = createRandom(31);
    const seen = createSeenPixels(10);
    const expected = new Map<string, number>();
    for (let place = 0; place < 20_000; place += 1) {
      const [width, digest] = [64 + random.integer(3), digestOf(`${random.integer(5000)}`)];
      const name = `${width} ${digest.toString('hex')}`;
      assert.equal(seen.firstPlace(width, digest, place), expected.get(name));
      if (!expected.has(name)) expected.set(name, place);
    }
    assert.ok(expected.size > 10_000 && expected.size < 15_001);
  });

  test('has the same width: plain images of equal area have equal digests', () => {
    const seen = createSeenPixels(0);
    const digest = digestOf('plain');
    assert.equal(seen.firstPlace(10, digest, 0), undefined);
    assert.equal(seen.firstPlace(20, digest, 1), undefined);
    assert.equal(seen.firstPlace(10, digest, 2), 0);
    assert.notEqual(pixelsName(10, digest), pixelsName(20, digest));
  });

  test('is found by a digest at any place in memory', () => {
    const seen = createSeenPixels(0);
    const digest = digestOf('shifted');
    const shifted = Buffer.concat([Buffer.alloc(3), digest]).subarray(3);
    seen.firstPlace(10, digest, 7);
    assert.equal(seen.firstPlace(10, shifted, 8), 7);
  });
});
