import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { renderViews } from '../../workers/engine/augment/augmenter.ts';
import { gaussianBlur } from '../../workers/engine/augment/blur.ts';
import { greyOut, jitterColours, solarise } from '../../workers/engine/augment/colour.ts';
import { resampleViews } from '../../workers/engine/augment/geometry.ts';
import type { ViewColour, ViewGeometry } from '../../workers/engine/augment/parameters.ts';
import { asRank4, readFloats, scoped, tf, type Tensor4D } from '../../workers/engine/tensorflow.ts';

const numbers = z.array(z.number());
const colour = z.object({ brightness: z.number(), contrast: z.number(), saturation: z.number(), hue: z.number() });
const golden = z
  .object({
    geometries: z.array(z.object({ parameters: numbers, view: numbers })),
    colours: z.array(
      z.object({
        op: z.enum(['brightness', 'contrast', 'saturation', 'hue']),
        factors: numbers,
        views: z.array(numbers),
      }),
    ),
    grey: z.array(numbers),
    solarised: z.array(numbers),
    blur: z.object({ kernelSizePx: z.number(), sigmasPx: numbers, views: z.array(numbers) }),
    wholes: z.array(z.object({ geometry: numbers, colour, grey: z.boolean(), sigmaPx: z.number(), view: numbers })),
  })
  .parse(JSON.parse(readFileSync(new URL('./augment-expected.json', import.meta.url), 'utf8')));

const SOURCE_SIZE_PX = 24;
const VIEW_SIZE_PX = 12;
/** Bytes `[count, 24, 24, 3]` by the formula of augment_oracle.py. */
function sources(count: number): Tensor4D {
  const bytes = Array.from({ length: count * SOURCE_SIZE_PX ** 2 * 3 }, (_, index) => {
    const c = index % 3;
    const x = Math.floor(index / 3) % SOURCE_SIZE_PX;
    const y = Math.floor(index / 3 / SOURCE_SIZE_PX) % SOURCE_SIZE_PX;
    const n = Math.floor(index / 3 / SOURCE_SIZE_PX ** 2);
    return (40 * n + 7 * y * (c + 1) + 11 * x + ((x * y) % 17) * 5 + 60 * c) % 256;
  });
  return tf.tensor4d(bytes, [count, SOURCE_SIZE_PX, SOURCE_SIZE_PX, 3], 'int32');
}

function geometryOf([
  left = 0,
  top = 0,
  width = 0,
  height = 0,
  flipped = 0,
  turns = 0,
]: readonly number[]): ViewGeometry {
  const quarterTurnCount = ([0, 1, 2, 3] as const).find((count) => count === turns) ?? 0;
  return { crop: { left, top, width, height }, flipped: flipped === 1, quarterTurnCount };
}

const WHOLE: ViewGeometry = geometryOf([0, 0, SOURCE_SIZE_PX, SOURCE_SIZE_PX, 0, 0]);
const UNCHANGED: ViewColour = { brightness: 1, contrast: 1, saturation: 1, hue: 0 };

/** Three plain views in 0..1. */
function baseViews(): Tensor4D {
  return asRank4(tf.div(resampleViews(tf.cast(sources(3), 'float32'), [WHOLE, WHOLE, WHOLE], VIEW_SIZE_PX), 255));
}

function assertViews(make: () => Tensor4D, expected: readonly number[], tolerance: number): void {
  const views = scoped(make);
  const actual = readFloats(views);
  views.dispose();
  assert.equal(actual.length, expected.length);
  const worst = actual.reduce((most, value, index) => Math.max(most, Math.abs(value - (expected[index] ?? NaN))), 0);
  assert.ok(worst <= tolerance, `largest difference ${worst}, allowed ${tolerance}`);
}

describe('views equal torchvision', () => {
  test('crop, mirror and quarter turns in one resampling', () => {
    const geometries = golden.geometries.map(({ parameters }) => geometryOf(parameters));
    const make = (): Tensor4D =>
      asRank4(tf.div(resampleViews(tf.cast(sources(geometries.length), 'float32'), geometries, VIEW_SIZE_PX), 255));
    assertViews(
      make,
      golden.geometries.flatMap(({ view }) => view),
      2e-5,
    );
  });

  for (const { op, factors, views } of golden.colours) {
    test(`${op}, a factor for each image`, () => {
      assertViews(
        () =>
          jitterColours(
            baseViews(),
            factors.map((factor) => ({ ...UNCHANGED, [op]: factor })),
          ),
        views.flat(),
        1e-5,
      );
    });
  }

  test('grey where asked', () => {
    assertViews(() => greyOut(baseViews(), [true, true, true]), golden.grey.flat(), 1e-5);
    assertViews(
      () => greyOut(baseViews(), [false, false, false]),
      Array.from(scoped(() => readFloats(baseViews()))),
      0,
    );
  });

  test('solarised where asked, others unchanged', () => {
    assertViews(() => solarise(baseViews(), [true, true, true]), golden.solarised.flat(), 1e-5);
    const plain = Array.from(scoped(() => readFloats(baseViews())));
    const size = plain.length / 3;
    assertViews(
      () => solarise(baseViews(), [false, true, false]),
      plain.map((value, index) =>
        Math.floor(index / size) === 1 ? (golden.solarised[1]?.[index - size] ?? NaN) : value,
      ),
      1e-5,
    );
  });

  test('blur with a sigma for each image', () => {
    const { sigmasPx, kernelSizePx, views } = golden.blur;
    assertViews(() => gaussianBlur(baseViews(), sigmasPx, kernelSizePx), views.flat(), 1e-5);
  });

  test('the whole pipeline, normalised', () => {
    const parameters = golden.wholes.map((whole) => ({
      geometry: geometryOf(whole.geometry),
      colour: whole.colour,
      grey: whole.grey,
      blurSigmaPx: whole.sigmaPx,
      stain: null,
      solarised: false,
    }));
    const first = parameters.slice(0, 2);
    // Both views of a pair get the same parameters here, so that the second half must repeat the first.
    const make = (): Tensor4D =>
      renderViews(sources(2), [...first, ...first], ['hue', 'contrast', 'saturation', 'brightness'], VIEW_SIZE_PX);
    const expected = golden.wholes.flatMap(({ view }) => view);
    assertViews(make, [...expected, ...expected], 5e-5);
  });
});
