/** Slides in the formats of several scanners, drawn with known places and colours, as the reader reads them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import sharp from 'sharp';
import { z } from 'zod';
import { openFolder } from '../../src/platform/open-folder.ts';
import { SLIDE_OPTION_DEFAULTS, type SlideOptions } from '../../src/protocol/slide-options.ts';
import { openSlideReader, type SlideReader } from '../../workers/imaging/slides/slide-process.ts';
import { temporaryFolder } from '../support/shards.ts';
import { aperioDescription, tiffOf, type Rgb } from '../support/slide-files.ts';
import { slideLibrary } from '../support/slide-library.ts';
import { drawDicom, drawMirax, drawNdpi, drawScn, type VendorSlide } from '../support/slide-vendors.ts';

const golden = z
  .object({
    ...{ width: z.int(), height: z.int() },
    square: z.object({ left: z.int(), top: z.int(), side: z.int() }),
    levels: z.record(z.enum(['33003', '33005']), z.array(z.array(z.base64()))),
  })
  .parse(JSON.parse(readFileSync(new URL('../golden/jpeg2000-tiles-expected.json', import.meta.url), 'utf8')));

const MICRONS_PER_PIXEL = 0.25;
const TISSUE: Rgb = [190, 110, 170];
const GLASS: Rgb = [242, 242, 242];
const { square } = golden;
const SLIDE: VendorSlide = {
  ...{ width: golden.width, height: golden.height, micronsPerPixel: MICRONS_PER_PIXEL },
  paint: (x, y) => {
    const isIn = (at: number, start: number): boolean => at >= start && at < start + square.side;
    if (isIn(x, square.left) && isIn(y, square.top)) return [0, 0, 0];
    return x < (golden.width * 2) / 3 ? TISSUE : GLASS;
  },
};

async function drawJpeg2000(file: string, compression: '33003' | '33005'): Promise<void> {
  const { width, height } = golden;
  const directories = golden.levels[compression].map((tiles, level) => ({
    ...{ width: width / 4 ** level, height: height / 4 ** level, compression: Number(compression), photometric: 2 },
    ...{ tiles: tiles.map((tile) => Buffer.from(tile, 'base64')), isTiled: true, pixelsPerCm: null },
    description: aperioDescription(width, height, `AppMag = 40|MPP = ${MICRONS_PER_PIXEL}`),
  }));
  await writeFile(file, tiffOf(directories));
}

async function read(context: TestContext, name: string, draw: (file: string) => Promise<void>): Promise<SlideReader> {
  const dataDir = await temporaryFolder(context);
  // Others may enter it, as the process that reads does, which has no rights of root.
  const folderPath = path.join(await temporaryFolder(context), 'slides');
  await mkdir(folderPath);
  await draw(path.join(folderPath, name));
  const folder = await openFolder(folderPath);
  const reader = await openSlideReader({
    ...{ folder, relativePath: name, micronsPerPixel: null, hiddenFolder: dataDir },
    libraryFile: await slideLibrary(),
  });
  context.after(async () => {
    await reader[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });
  return reader;
}

const optionsAt = (micronsPerPixel: number): SlideOptions => ({
  ...{ ...SLIDE_OPTION_DEFAULTS, micronsPerPixel, penShareMax: 1, sharpnessMin: 0 },
});

/** The centre of the dark square in a patch, and the colour of its corner. */
async function look(png: Buffer) {
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
  let [sum, sumX, sumY] = [0, 0, 0];
  for (let y = 0; y < info.height; y += 1)
    for (let x = 0; x < info.width; x += 1) {
      const darkness = Math.max(0, TISSUE[1] - (data[(y * info.width + x) * 3 + 1] ?? 0) - 8);
      sum += darkness;
      sumX += darkness * (x + 0.5);
      sumY += darkness * (y + 0.5);
    }
  return { x: sumX / sum, y: sumY / sum, corner: [...data.subarray(0, 3)] };
}

for (const { name, vendor, source, draw, colourError } of [
  ...(['33003', '33005'] as const).map((compression) => ({
    ...{ name: `${compression}.svs`, vendor: 'aperio', source: 'openslide.mpp-x', colourError: 2 },
    draw: (file: string) => drawJpeg2000(file, compression),
  })),
  ...[
    { name: 'drawn.ndpi', vendor: 'hamamatsu', draw: (file: string) => drawNdpi(file, SLIDE) },
    { name: 'level-0.dcm', vendor: 'dicom', draw: (file: string) => drawDicom(path.dirname(file), SLIDE) },
    { name: 'drawn.mrxs', vendor: 'mirax', draw: (file: string) => drawMirax(file, SLIDE) },
    { name: 'drawn.scn', vendor: 'leica', draw: (file: string) => drawScn(file, SLIDE) },
  ].map((each) => ({ ...each, source: 'openslide.mpp-x', colourError: 4 })),
])
  test(`${name}: um/px, places within half a pixel, and colours`, async (context) => {
    const reader = await read(context, name, draw);
    const { facts } = reader;
    assert.equal(facts.vendor, vendor);
    assert.ok(facts.micronsPerPixel.outcome === 'FOUND', JSON.stringify(facts.micronsPerPixel));
    assert.equal(facts.micronsPerPixel.property, source);
    assert.ok(Math.abs(facts.micronsPerPixel.x - MICRONS_PER_PIXEL) < 1e-3, String(facts.micronsPerPixel.x));
    for (const micronsPerPixel of [0.25, 0.37, 0.5, 1]) {
      const scale = MICRONS_PER_PIXEL / micronsPerPixel;
      const place = { x: square.left - 50, y: square.top - 40, tissueFraction: 1 };
      const [patch] = await reader.cut([place], 64, optionsAt(micronsPerPixel));
      assert.ok(patch?.outcome === 'PATCH', `${micronsPerPixel} ${JSON.stringify(patch)}`);
      const seen = await look(patch.bytes);
      const what = `at ${micronsPerPixel} um: ${JSON.stringify(seen)}`;
      // A patch of 64 px at 0.25 um ends within the square.
      const width = Math.min(square.side, 64 / scale - 50);
      const height = Math.min(square.side, 64 / scale - 40);
      assert.ok(Math.abs(seen.x - (50 + width / 2) * scale) < 0.5, what);
      assert.ok(Math.abs(seen.y - (40 + height / 2) * scale) < 0.5, what);
      for (const [channel, value] of TISSUE.entries())
        assert.ok(Math.abs((seen.corner[channel] ?? 0) - value) <= colourError, what);
    }
  });
