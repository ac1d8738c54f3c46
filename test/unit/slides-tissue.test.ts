/** Tissue on drawn overviews, and what is wrong with drawn patches. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { SLIDE_OPTION_DEFAULTS } from '../../src/protocol/slide-options.ts';
import { drawEvenly, patchesOn } from '../../workers/imaging/slides/patch-grid.ts';
import { flawOf, measureInScript } from '../../workers/imaging/slides/patch-quality.ts';
import { findTissue, otsu } from '../../workers/imaging/slides/tissue.ts';
import type { Pixels } from '../../workers/imaging/pixels.ts';

type Rgb = readonly [number, number, number];
const GLASS: Rgb = [243, 242, 244];
const PINK: Rgb = [225, 150, 190];
const PALE: Rgb = [236, 208, 224];
const VIOLET: Rgb = [120, 80, 150];

/** The same noise at every call: +-2 in each channel, as JPEG leaves on glass. */
function picture(width: number, height: number, colourAt: (x: number, y: number) => Rgb): Pixels {
  const data = Buffer.alloc(width * height * 3);
  let state = 12345;
  for (let y = 0, at = 0; y < height; y += 1)
    for (let x = 0; x < width; x += 1)
      for (const value of colourAt(x, y)) {
        state = (state * 1103515245 + 12345) % 2 ** 31;
        data[at] = Math.min(255, Math.max(0, value + (Math.floor(state / 65536) % 5) - 2));
        at += 1;
      }
  return { data, width, height };
}

const disc = (x: number, y: number, cx: number, cy: number, radius: number): boolean =>
  (x - cx) ** 2 + (y - cy) ** 2 <= radius ** 2;

/** Intersection over union with what was drawn. */
function overlapWith(
  mask: { readonly data: Uint8Array; readonly width: number },
  isDrawn: (x: number, y: number) => boolean,
) {
  let [both, either] = [0, 0];
  for (const [pixel, value] of mask.data.entries()) {
    const drawn = isDrawn(pixel % mask.width, Math.floor(pixel / mask.width));
    if (drawn && value === 1) both += 1;
    if (drawn || value === 1) either += 1;
  }
  return both / either;
}

describe('tissue', () => {
  const isTissue = (x: number, y: number): boolean => disc(x, y, 150, 120, 70);

  test('is found beside ink of four colours, an air bubble, a coverslip edge and dust', () => {
    const inks: readonly Rgb[] = [
      [30, 60, 170],
      [20, 130, 70],
      [205, 30, 45],
      [25, 25, 28],
    ];
    const mask = findTissue(
      picture(400, 300, (x, y) => {
        if (isTissue(x, y)) return (x + y) % 7 === 0 ? VIOLET : PINK;
        const ink = inks[Math.floor(y / 75)];
        if (ink !== undefined && x >= 300 && x < 330 && y % 75 < 50) return ink;
        // The dark rim of a bubble, and the shadow of the coverslip's edge.
        if (disc(x, y, 260, 240, 26) && !disc(x, y, 260, 240, 22)) return [120, 118, 119];
        if (x > 370 && x < 376) return [150, 150, 151];
        return disc(x, y, 40, 250, 2) ? PINK : GLASS;
      }),
    );
    assert.ok(overlapWith(mask, isTissue) > 0.97);
    assert.ok(mask.penFraction > 0.04 && mask.penFraction < 0.1, String(mask.penFraction));
  });

  test('that is pale is found beside strong stain', () => {
    const isPale = (x: number, y: number): boolean => disc(x, y, 300, 150, 60);
    const drawn = (x: number, y: number): boolean => isTissue(x, y) || isPale(x, y);
    const mask = findTissue(picture(400, 300, (x, y) => (isTissue(x, y) ? VIOLET : isPale(x, y) ? PALE : GLASS)));
    assert.ok(overlapWith(mask, drawn) > 0.97);
  });

  test('is nothing on empty glass, white or yellowish, and everything on a full slide', () => {
    for (const glass of [GLASS, [255, 255, 255], [240, 236, 220]] as const)
      assert.equal(findTissue(picture(300, 200, () => glass)).tissueFraction, 0);
    const full = findTissue(picture(300, 200, (x, y) => (((x >> 2) + (y >> 2)) % 3 === 0 ? VIOLET : PINK)));
    assert.ok(full.tissueFraction > 0.99);
  });

  test('of a small biopsy on an almost empty slide is found', () => {
    const isBiopsy = (x: number, y: number): boolean => x > 500 && x < 540 && y > 300 && y < 420;
    const mask = findTissue(picture(1200, 700, (x, y) => (isBiopsy(x, y) ? PINK : GLASS)));
    assert.ok(overlapWith(mask, isBiopsy) > 0.93);
  });

  test('holes of lumina are filled, and large ones stay open', () => {
    const isRing = (x: number, y: number): boolean => disc(x, y, 150, 150, 120) && !disc(x, y, 150, 150, 60);
    const mask = findTissue(picture(300, 300, (x, y) => (isRing(x, y) && !disc(x, y, 150, 60, 8) ? PINK : GLASS)));
    assert.ok(overlapWith(mask, isRing) > 0.97);
  });

  test('on six megapixels is looked for in a heap of 32 MB, so that a whole slide fits into that of a reader', async () => {
    const program = `
      import { findTissue } from ${JSON.stringify(import.meta.resolve('../../workers/imaging/slides/tissue.ts'))};
      const [width, height] = [3000, 2000];
      console.log(findTissue({ data: Buffer.alloc(width * height * 3, 242), width, height }).tissueFraction);`;
    const flags = ['--max-old-space-size=32', '--disable-warning=ExperimentalWarning', '--input-type=module'];
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, '-e', program]);
    assert.equal(stdout, '0\n');
  });

  test("Otsu's threshold lies between two peaks", () => {
    const counts = new Float64Array(256);
    for (const [bin, count] of [
      [10, 500],
      [12, 700],
      [90, 40],
      [95, 60],
    ] as const)
      counts[bin] = count;
    const threshold = otsu(counts, 256);
    assert.ok(threshold > 12 && threshold <= 90);
  });
});

describe('patches', () => {
  const geometry = {
    levels: [{ width: 40_000, height: 20_000, downsample: 1 }],
    micronsPerPixel: { x: 0.25, y: 0.25 },
  };
  const mask = findTissue(picture(1250, 625, (x) => (x < 500 ? PINK : GLASS)));
  const options = { ...SLIDE_OPTION_DEFAULTS, micronsPerPixel: 0.5, patchesPerSlideMax: null };

  test('lie on a grid in level 0, with their share of tissue, and wholly on the slide', () => {
    // 256 px at 0.5 um are 512 px at 0.25: 78 columns fit, of which 31.25 are tissue (500 * 8 um / 128 um).
    const places = patchesOn(geometry, mask, 256, options);
    assert.equal(places.length, 31 * 39);
    assert.ok(places.every(({ x, y }) => x % 512 === 0 && y % 512 === 0 && y + 512 <= 20_000));
    assert.deepEqual(places[0], { x: 0, y: 0, tissueFraction: 1 });
    const any = patchesOn(geometry, mask, 256, { ...options, tissueShareMin: 0.2 });
    assert.equal(any.length, 32 * 39);
    assert.equal(patchesOn(geometry, mask, 256, { ...options, overlapPx: 128 })[1]?.x, 256);
  });

  test('are drawn evenly over the tissue, the same under the same seed', () => {
    const places = patchesOn(geometry, mask, 256, options);
    const drawn = drawEvenly(places, 100, 7, 'a.svs');
    assert.equal(drawn.length, 100);
    assert.equal(new Set(drawn.map(({ x, y }) => `${x} ${y}`)).size, 100);
    assert.deepEqual(drawn, drawEvenly(places, 100, 7, 'a.svs'));
    assert.notDeepEqual(drawn, drawEvenly(places, 100, 8, 'a.svs'));
    assert.notDeepEqual(drawn, drawEvenly(places, 100, 7, 'b.svs'));
    // Every eighth of the tissue has its share, within a third.
    for (let part = 0; part < 8; part += 1) {
      const [left, top] = [(part % 4) * 4000, Math.floor(part / 4) * 10_000];
      const count = drawn.filter(({ x, y }) => x >= left && x < left + 4000 && y >= top && y < top + 10_000).length;
      assert.ok(count >= 8 && count <= 17, `${count} in part ${part}`);
    }
    assert.equal(drawEvenly(places, null, 7, 'a.svs'), places);
  });

  test('with ink, out of focus or empty are told apart from good ones', () => {
    const cells = (x: number, y: number): Rgb => (disc(x % 24, y % 24, 12, 12, 6) ? VIOLET : PINK);
    const good = picture(256, 256, cells);
    assert.equal(flawOf(good, options), null);
    assert.equal(
      flawOf(
        picture(256, 256, () => GLASS),
        options,
      ),
      'BLANK',
    );
    const inked = picture(256, 256, (x, y) => (x > 200 ? [30, 60, 170] : cells(x, y)));
    assert.equal(flawOf(inked, options), 'PEN');
    assert.ok(Math.abs(measureInScript(inked).penCount / 256 ** 2 - 55 / 256) < 0.01);
    assert.equal(flawOf(inked, { ...options, penShareMax: 1 }), null);
    const soft: Pixels = { ...good, data: Buffer.from(good.data) };
    // Waves of 64 px without noise: what is left of cells far out of focus.
    for (let at = 0; at < soft.data.length; at += 1) {
      const x = Math.floor(at / 3) % 256;
      soft.data[at] = (PINK[at % 3] ?? 0) + Math.round(20 * Math.sin((x / 64) * 2 * Math.PI));
    }
    assert.equal(flawOf(soft, options), 'OUT_OF_FOCUS');
    assert.equal(flawOf(soft, { ...options, sharpnessMin: 0 }), null);
  });
});
