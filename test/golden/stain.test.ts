/** Stain normalisation against torchstain (Macenko) and HistomicsTK (Reinhard); stain jitter against scikit-image. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { jitterStains } from '../../workers/engine/augment/stain.ts';
import { readFloats, tf } from '../../workers/engine/tensorflow.ts';
import type { Pixels } from '../../workers/imaging/pixels.ts';
import { estimateStain, normaliseStain } from '../../workers/imaging/slides/stain.ts';

const numbers = z.array(z.number());
const triple = z.tuple([z.number(), z.number(), z.number()]);
const golden = z
  .object({
    images: z.array(
      z.object({ name: z.enum(['pale', 'strong']), sha256: z.string(), macenko: z.base64(), reinhard: z.base64() }),
    ),
    jitters: z.array(z.object({ factors: triple, shifts: triple, pixels: numbers, expected: numbers })),
  })
  .parse(JSON.parse(readFileSync(new URL('./stain-expected.json', import.meta.url), 'utf8')));

const SIDE = 64;
type Amounts = readonly [number, number, number];

/** By the formula of stain_oracle.py. */
function imageOf(first: Amounts, second: Amounts, scale: number): Pixels {
  const data = Buffer.alloc(SIDE * SIDE * 3);
  for (let y = 0; y < SIDE; y += 1)
    for (let x = 0; x < SIDE; x += 1) {
      const a = (x * 7 + y * 3) % 61;
      const b = (x * 5 + y * 11 + ((x * y) % 13)) % 53;
      for (let channel = 0; channel < 3; channel += 1) {
        const stained = 240 - Math.floor(((a * (first[channel] ?? 0) + b * (second[channel] ?? 0)) * scale) / 10_000);
        data[(y * SIDE + x) * 3 + channel] = x < 8 || y < 4 ? 243 + channel : Math.min(255, Math.max(2, stained));
      }
    }
  return { data, width: SIDE, height: SIDE };
}

const IMAGES = {
  pale: imageOf([110, 150, 60], [30, 170, 90], 80),
  strong: imageOf([170, 190, 70], [60, 200, 150], 100),
} as const;

describe('stain normalisation', () => {
  for (const { name, sha256, ...expected } of golden.images) {
    const image = IMAGES[name];
    for (const [method, bytes] of [
      ['MACENKO', expected.macenko],
      ['REINHARD', expected.reinhard],
    ] as const)
      test(`${method} of the ${name} image is the reference's`, () => {
        assert.equal(createHash('sha256').update(image.data).digest('hex'), sha256);
        const stain = estimateStain(method, [image]);
        assert.ok(stain !== null);
        const normalised = normaliseStain(image, stain).data;
        const reference = Buffer.from(bytes, 'base64');
        const differences = Array.from(normalised, (value, at) => value - (reference[at] ?? NaN));
        // The references cut decimals off where we round.
        assert.deepEqual(new Set(differences.filter((difference) => difference !== 0 && difference !== 1)), new Set());
        assert.ok(differences.some((difference) => difference === 0));
        assert.ok(!normalised.equals(image.data));
      });
  }

  test('of several samples is that of all of their pixels', () => {
    const { data } = IMAGES.strong;
    const halves = [data.subarray(0, data.length / 2), data.subarray(data.length / 2)].map((half) => ({
      ...{ data: half, width: SIDE, height: SIDE / 2 },
    }));
    for (const method of ['MACENKO', 'REINHARD'] as const)
      assert.deepEqual(estimateStain(method, halves), estimateStain(method, [IMAGES.strong]));
  });

  test('is refused for glass, for one colour, for too little tissue and for nothing', () => {
    const flat = (red: number, green: number, blue: number): Pixels => ({
      ...{ width: SIDE, height: SIDE },
      data: Buffer.from(Array.from({ length: SIDE * SIDE }, () => [red, green, blue]).flat()),
    });
    const few = {
      ...{ width: 30, height: 30 },
      data: IMAGES.strong.data.subarray(SIDE * 3 * 10, SIDE * 3 * 10 + 2700),
    };
    for (const method of ['MACENKO', 'REINHARD'] as const)
      for (const samples of [[flat(243, 244, 245)], [flat(120, 60, 150)], [few], []])
        assert.equal(estimateStain(method, samples), null);
  });
});

describe('stain jitter', () => {
  test("is scikit-image's separation, jitter and combination", () => {
    const pixels = tf.tensor4d(
      golden.jitters.flatMap((each) => each.pixels),
      [golden.jitters.length, 4, 4, 3],
    );
    const jittered = jitterStains(pixels, golden.jitters);
    const values = readFloats(jittered);
    for (const [at, expected] of golden.jitters.flatMap((each) => each.expected).entries())
      assert.ok(Math.abs((values[at] ?? NaN) - expected) < 2e-6, `${at}: ${values[at] ?? NaN}, not ${expected}`);
    tf.dispose([pixels, jittered]);
  });

  test('leaves images without it as they are, black and white too', () => {
    const images = tf.tensor4d([0, 0, 0, 1, 1, 1, 0.2, 0.9, 0.4, 0.5, 0.5, 0.5], [2, 1, 2, 3]);
    const before = [...readFloats(images)];
    const none = jitterStains(images, [null, null]);
    assert.deepEqual([...readFloats(none)], before);
    const one = jitterStains(images, [null, { factors: [1.5, 1, 1], shifts: [0, 0, 0] }]);
    const after = readFloats(one);
    for (const [at, value] of before.slice(0, 6).entries()) assert.ok(Math.abs((after[at] ?? NaN) - value) < 2e-6);
    assert.ok(before.slice(6).some((value, at) => Math.abs((after[6 + at] ?? NaN) - value) > 0.01));
    tf.dispose([images, none, one]);
  });
});
