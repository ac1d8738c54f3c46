/** The process that reads a slide: positions, resolutions and colours of drawn slides, and files that are wrong. */
import assert from 'node:assert/strict';
import { ChildProcess } from 'node:child_process';
import diagnostics from 'node:diagnostics_channel';
import { copyFile, mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import sharp from 'sharp';
import { openFolder } from '../../src/platform/open-folder.ts';
import { SANDBOX_KINDS, sandboxKind, supportsSandbox } from '../../src/platform/sandbox.ts';
import { SLIDE_OPTION_DEFAULTS, type SlideOptions } from '../../src/protocol/slide-options.ts';
import {
  openSlideReader,
  SlideReaderError,
  type SlideProcessOptions,
  type SlideReader,
} from '../../workers/imaging/slides/slide-process.ts';
import { openSlideReaders } from '../../workers/imaging/slides/slide-readers.ts';
import { temporaryFolder } from '../support/shards.ts';
import { aperioDescription, drawSlide, TILE_PX, tiffOf, type DrawnSlide, type Rgb } from '../support/slide-files.ts';
import { slideLibrary } from '../support/slide-library.ts';

const FAULTY = path.resolve(import.meta.dirname, '../support/faulty-slide-reader.ts');
const [WIDTH, HEIGHT] = [2600, 2000];
const SECRET = 'Smith^Jane 1951-04-23';
const GLASS: Rgb = [242, 242, 242];
const TISSUE: Rgb = [190, 110, 170];
/** A black square in level 0, from which positions are measured. */
const SQUARE = { left: 1203, top: 905, side: 40 };

function isSquare(x: number, y: number): boolean {
  return x >= SQUARE.left && x < SQUARE.left + SQUARE.side && y >= SQUARE.top && y < SQUARE.top + SQUARE.side;
}

const SVS: DrawnSlide = {
  ...{ width: WIDTH, height: HEIGHT, downsamples: [1, 4], compression: 'JPEG' },
  paint: (x, y) => (isSquare(x, y) ? [0, 0, 0] : x < 1800 && y < 1500 ? TISSUE : GLASS),
  description: aperioDescription(WIDTH, HEIGHT, `AppMag = 40|MPP = 0.2527|Filename = ${SECRET}|Patient = ${SECRET}`),
  labelDescription: `Aperio Image Library v12.0.15\r\nlabel 64x64 ${SECRET}`,
};
/** 0.25 um/px as pixels per centimetre. */
const GENERIC: DrawnSlide = {
  ...{ ...SVS, compression: 'DEFLATE', description: null, pixelsPerCm: 40_000, downsamples: [1, 2, 4] },
};

interface Drawn {
  readonly folder: string;
  readonly open: (file: string, options?: Partial<SlideProcessOptions>) => Promise<SlideReader>;
}

async function drawnFolder(context: TestContext, slides: Readonly<Record<string, DrawnSlide>>): Promise<Drawn> {
  const dataDir = await temporaryFolder(context);
  // Inside the data directory, as the default folder for imports is.
  const folder = path.join(dataDir, 'imports');
  await mkdir(folder);
  for (const [name, slide] of Object.entries(slides)) await drawSlide(path.join(folder, name), slide);
  const opened = await openFolder(folder);
  context.after(() => opened[Symbol.asyncDispose]());
  const libraryFile = await slideLibrary();
  return {
    folder,
    open: async (relativePath, options = {}) => {
      const reader = await openSlideReader({
        ...{ folder: opened, relativePath, micronsPerPixel: null, libraryFile, hiddenFolder: dataDir },
        ...options,
      });
      context.after(() => reader[Symbol.asyncDispose]());
      return reader;
    },
  };
}

async function refusalOf(opening: Promise<unknown>) {
  const error = await opening.then(
    () => 'It was not refused.',
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof SlideReaderError, String(error));
  return error.refusal;
}

const options = (micronsPerPixel: number): SlideOptions => ({
  ...{ ...SLIDE_OPTION_DEFAULTS, micronsPerPixel, penShareMax: 1, sharpnessMin: 0 },
});

/** Centre of the dark square in the patch, and the colour beside it. */
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
  return { x: sumX / sum, y: sumY / sum, area: sum / (TISSUE[1] - 8), corner: [...data.subarray(0, 3)] };
}

describe('a drawn slide', () => {
  test('is what was drawn, and its names leave the reader nowhere', async (context) => {
    const { open } = await drawnFolder(context, { 'a.svs': SVS, 'ü b.tiff': GENERIC });
    const svs = await open('a.svs');
    assert.equal(svs.facts.vendor, 'aperio');
    assert.deepEqual(
      svs.facts.levels.map(({ width, height }) => [width, height]),
      [
        [WIDTH, HEIGHT],
        [650, 500],
      ],
    );
    assert.equal(svs.facts.objective, 40);
    assert.deepEqual(svs.facts.micronsPerPixel, {
      ...{ outcome: 'FOUND', x: 0.2527, y: 0.2527, source: 'OPENSLIDE', property: 'openslide.mpp-x' },
      disagreesWithObjective: false,
    });
    assert.ok(!JSON.stringify(svs.facts).includes('Smith'));
    const { facts } = await open('ü b.tiff');
    assert.ok(facts.vendor === 'generic-tiff' && facts.micronsPerPixel.outcome === 'FOUND');
    assert.ok(Math.abs(facts.micronsPerPixel.x - 0.25) < 1e-6);
  });

  test('gives patches at the asked resolution, within half a pixel of their place', async (context) => {
    const { open } = await drawnFolder(context, { 'a.svs': SVS, 'b.tiff': GENERIC });
    for (const file of ['a.svs', 'b.tiff']) {
      const reader = await open(file);
      const micronsPerPixel0 = file === 'a.svs' ? 0.2527 : 0.25;
      for (const micronsPerPixel of [0.25, 0.37, 0.5, 0.9, 1.03, 1.7]) {
        // The square lies off the centre, at another place for each resolution.
        const before = (px: number): number => Math.floor(px * (micronsPerPixel / micronsPerPixel0));
        const place = { x: SQUARE.left - before(61), y: SQUARE.top - before(43), tissueFraction: 1 };
        const [patch] = await reader.cut([place], 128, options(micronsPerPixel));
        assert.ok(patch?.outcome === 'PATCH', `${file} ${micronsPerPixel} ${JSON.stringify(patch)}`);
        const seen = await look(patch.bytes);
        const scale = micronsPerPixel0 / micronsPerPixel;
        const expected = (from: number, origin: number): number => (from + SQUARE.side / 2 - origin) * scale;
        const what = `${file} at ${micronsPerPixel} um: ${JSON.stringify(seen)}`;
        assert.ok(Math.abs(seen.x - expected(SQUARE.left, place.x)) < 0.5, what);
        assert.ok(Math.abs(seen.y - expected(SQUARE.top, place.y)) < 0.5, what);
        assert.ok(Math.abs(Math.sqrt(seen.area) - SQUARE.side * scale) < 1, what);
        for (const [channel, value] of TISSUE.entries())
          assert.ok(Math.abs((seen.corner[channel] ?? 0) - value) <= 3, what);
      }
    }
  });

  test('has its patches on tissue', async (context) => {
    const { open } = await drawnFolder(context, { 'a.svs': SVS });
    const { places, tissueFraction } = await (await open('a.svs')).survey(128, options(0.5));
    const drawnShare = (1800 * 1500) / (WIDTH * HEIGHT);
    assert.ok(Math.abs(tissueFraction - drawnShare) < 0.03, String(tissueFraction));
    // 128 px at 0.5 um are 253.3 px of level 0: 7 columns and 5 rows with half of their area on tissue, or one more.
    assert.ok(places.length >= 35 && places.length <= 48, String(places.length));
    assert.ok(places.every(({ x, y }) => x < 1800 && y < 1500));
  });

  test('is read in each sandbox, below the hidden data directory', async (context) => {
    const { open } = await drawnFolder(context, { 'a.svs': SVS });
    for (const kind of SANDBOX_KINDS) {
      if (!(await supportsSandbox(kind))) continue;
      assert.equal((await open('a.svs', { kind })).facts.vendor, 'aperio', kind);
    }
  });
});

describe('what is wrong with a file', () => {
  test('is told, for a JPEG, a truncated slide, an .mrxs without its folder and a TIFF without tiles', async (context) => {
    const { open, folder } = await drawnFolder(context, { 'a.svs': SVS });
    const jpeg = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } })
      .jpeg()
      .toBuffer();
    await writeFile(path.join(folder, 'jpeg.svs'), jpeg);
    await writeFile(path.join(folder, 'alone.mrxs'), jpeg);
    await copyFile(path.join(folder, 'a.svs'), path.join(folder, 'short.svs'));
    const { size } = await stat(path.join(folder, 'short.svs'));
    await truncate(path.join(folder, 'short.svs'), Math.floor(size / 2));
    await sharp(jpeg).tiff().toFile(path.join(folder, 'strips.tiff'));
    await writeFile(path.join(folder, 'empty.svs'), '');
    for (const file of ['jpeg.svs', 'alone.mrxs', 'short.svs', 'strips.tiff', 'empty.svs', 'missing.svs']) {
      const { code, reason } = await refusalOf(open(file));
      assert.match(code, /NOT_A_SLIDE|UNREADABLE/, file);
      assert.ok(reason.length > 10 && !reason.includes(folder), reason);
    }
  });

  test('is told for a TIFF whose directories loop or that lies about its size', async (context) => {
    const { open, folder } = await drawnFolder(context, { 'a.tiff': GENERIC });
    const bytes = await readFile(path.join(folder, 'a.tiff'));
    const first = bytes.readUInt32LE(4);
    const loop = Buffer.from(bytes);
    loop.writeUInt32LE(first, first + 2 + loop.readUInt16LE(first) * 12);
    await writeFile(path.join(folder, 'loop.tiff'), loop);
    const huge = Buffer.from(bytes);
    // Width and height of level 0: two billion pixels across, for which there are no tiles.
    huge.writeUInt32LE(2 ** 31 - 1, first + 2 + 8);
    await writeFile(path.join(folder, 'huge.tiff'), huge);
    for (const file of ['loop.tiff', 'huge.tiff']) {
      const error = await open(file)
        .then((reader) => reader.survey(128, options(0.5)))
        .then(
          () => null,
          (reason: unknown) => reason,
        );
      assert.ok(error instanceof SlideReaderError, `${file}: ${String(error)}`);
    }
  });

  test('is told for hostile directories, or the slide is read as if nothing were', async (context) => {
    const { open, folder } = await drawnFolder(context, { 'a.tiff': GENERIC });
    const bytes = await readFile(path.join(folder, 'a.tiff'));
    const first = bytes.readUInt32LE(4);
    const entryAt = (tag: number): number => {
      for (let at = first + 2; at < first + 2 + bytes.readUInt16LE(first) * 12; at += 12)
        if (bytes.readUInt16LE(at) === tag) return at;
      throw new Error(`No entry ${tag}.`);
    };
    const [IMAGE_LENGTH, SAMPLES, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES] = [257, 277, 322, 323, 324, 325];
    const most = 2 ** 32 - 1;
    const hostile: Readonly<Record<string, (file: Buffer) => void>> = {
      'first directory beyond the end': (file) => file.writeUInt32LE(most, 4),
      'first directory at the header': (file) => file.writeUInt32LE(0, 4),
      'more entries than bytes': (file) => file.writeUInt16LE(65_535, first),
      'no rows': (file) => file.writeUInt32LE(0, entryAt(IMAGE_LENGTH) + 8),
      'no samples': (file) => file.writeUInt16LE(0, entryAt(SAMPLES) + 8),
      'tiles of no width': (file) => file.writeUInt32LE(0, entryAt(TILE_WIDTH) + 8),
      'tiles of two billion pixels': (file) => {
        file.writeUInt32LE(2 ** 31 - 1, entryAt(TILE_WIDTH) + 8);
        file.writeUInt32LE(2 ** 31 - 1, entryAt(TILE_LENGTH) + 8);
      },
      'four billion tiles': (file) => file.writeUInt32LE(most, entryAt(TILE_OFFSETS) + 4),
      'places of tiles beyond the end': (file) => file.writeUInt32LE(most - 8, entryAt(TILE_OFFSETS) + 8),
      'sizes of tiles beyond the end': (file) => file.writeUInt32LE(most - 8, entryAt(TILE_BYTES) + 8),
    };
    for (const [what, change] of Object.entries(hostile)) {
      const file = Buffer.from(bytes);
      change(file);
      await writeFile(path.join(folder, 'hostile.tiff'), file);
      const found = await open('hostile.tiff')
        .then(async (reader) => {
          const { places } = await reader.survey(128, options(0.5));
          return reader.cut(places.slice(0, 8), 128, options(0.5));
        })
        .catch((error: unknown) => error);
      // An array: patches, each read or with a reason of its own.
      assert.ok(found instanceof SlideReaderError || Array.isArray(found), `${what}: ${String(found)}`);
      if (found instanceof SlideReaderError) {
        assert.ok(!found.isCrash, `${what}: ${found.message}`);
        assert.ok(found.refusal.reason.length > 10 && !found.refusal.reason.includes(folder), found.refusal.reason);
      }
    }
    assert.equal((await open('a.tiff')).facts.vendor, 'generic-tiff');
  });

  test('is told for a level that lies about its size, which would move every patch', async (context) => {
    const lies = { ...GENERIC, downsamples: [1, 4], statedLevel1: [650, 400] } as const;
    const { open } = await drawnFolder(context, { 'lies.tiff': lies });
    const { code, reason } = await refusalOf(open('lies.tiff'));
    assert.equal(code, 'UNREADABLE');
    assert.match(reason, /^Level 1 states 650 x 400 px, which is not the shape of level 0, 2600 x 2000 px\./);
  });

  test('costs the patches of a broken tile, and no other', async (context) => {
    // Columns of tiles: 11. Tile 12 covers 256..511 across and down.
    const paint = (x: number, y: number): Rgb => (((x >> 3) + (y >> 3)) % 2 === 0 ? TISSUE : [120, 60, 120]);
    const { open } = await drawnFolder(context, { 'a.svs': { ...SVS, paint, brokenTile: { index: 12 } } });
    const reader = await open('a.svs');
    const places = [0, 300, 1000].map((x) => ({ x, y: 300, tissueFraction: 1 }));
    const patches = await reader.cut(places, 64, options(0.2527));
    assert.deepEqual(
      patches.map(({ outcome }) => outcome),
      ['PATCH', 'REGION_UNREADABLE', 'PATCH'],
    );
  });

  test('costs the patches of a tile of another size than it should have', async (context) => {
    const small = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'purple' } })
      .jpeg()
      .toBuffer();
    const { open } = await drawnFolder(context, { 'a.svs': { ...SVS, brokenTile: { index: 0, bytes: small } } });
    const places = [0, 1000].map((x) => ({ x, y: 0, tissueFraction: 1 }));
    const patches = await (await open('a.svs')).cut(places, 64, { ...options(0.2527), tissueShareMin: 0 });
    assert.equal(patches[0]?.outcome, 'REGION_UNREADABLE');
    assert.notEqual(patches[1]?.outcome, 'REGION_UNREADABLE');
  });

  test('ends only its own process when the library crashes', async (context) => {
    const { open } = await drawnFolder(context, { 'a.svs': SVS });
    const reader = await open('a.svs', { program: FAULTY });
    const { code, reason } = await refusalOf(reader.survey(128, options(0.5)));
    assert.equal(code, 'READER_FAILED');
    assert.match(reason, /SIGABRT|code 134/);
    assert.equal((await open('a.svs')).facts.vendor, 'aperio');
  });
});

describe('a slide of 200,000 x 200,000 px', () => {
  const SIDE = 200_000;
  /** Tissue lies beyond it; a whole number of tiles of every level. */
  const EDGE = 7 * TILE_PX * 64;
  const wide = async (downsamples: readonly number[]) => {
    const tileOf = async ([r, g, b]: Rgb): Promise<Buffer> =>
      sharp({ create: { width: TILE_PX, height: TILE_PX, channels: 3, background: { r, g, b } } })
        .jpeg()
        .toBuffer();
    const [glass, tissue] = [await tileOf(GLASS), await tileOf(TISSUE)];
    return tiffOf(
      downsamples.map((downsample) => {
        const side = Math.floor(SIDE / downsample);
        const across = Math.ceil(side / TILE_PX);
        const isTissue = (index: number): boolean =>
          Math.min(index % across, Math.floor(index / across)) * TILE_PX * downsample >= EDGE;
        return {
          ...{ width: side, height: side, compression: 7, photometric: 6, isTiled: true },
          tiles: Array.from({ length: across ** 2 }, (_, index) => (isTissue(index) ? tissue : glass)),
          ...{ description: null, pixelsPerCm: 40_000 },
        };
      }),
    );
  };

  test('is surveyed and cut to its far corner, and without a pyramid refused', async (context) => {
    const { open, folder } = await drawnFolder(context, {});
    await writeFile(path.join(folder, 'wide.tiff'), await wide([1, 4, 16, 64]));
    await writeFile(path.join(folder, 'flat.tiff'), await wide([1]));
    // At 0.05 um/px the overview is small enough for a test; patches at 0.4 um/px come from the second level.
    const given = { micronsPerPixel: 0.05 };
    const reader = await open('wide.tiff', given);
    const wanted = { ...options(0.4), patchesPerSlideMax: 50 };
    const { tissueFraction, places } = await reader.survey(256, wanted);
    assert.ok(Math.abs(tissueFraction - ((SIDE - EDGE) / SIDE) ** 2) < 0.005, String(tissueFraction));
    assert.equal(places.length, 50);
    assert.ok(places.every(({ x, y }) => Math.min(x, y) > EDGE - 2048));
    const [last] = await reader.cut([{ x: SIDE - 2048, y: SIDE - 2048, tissueFraction: 1 }], 256, wanted);
    // Of one colour, so that it counts as blank; it was read.
    assert.deepEqual(last, { outcome: 'FLAWED', place: last?.place, flaw: 'BLANK' });
    const { code, reason } = await refusalOf((await open('flat.tiff', given)).survey(256, wanted));
    assert.equal(code, 'UNREADABLE');
    assert.match(reason, /200000 x 200000 px\. Convert the slide to a pyramidal TIFF/);
  });
});

describe('the processes of an import', () => {
  /** Every process that this one starts until the test ends, and how many of them lived at once. */
  function countProcesses(context: TestContext) {
    const counted = { started: 0, most: 0 };
    let living = 0;
    const onProcess = (message: unknown): void => {
      if (typeof message !== 'object' || message === null || !('process' in message)) return;
      assert.ok(message.process instanceof ChildProcess);
      counted.started += 1;
      living += 1;
      counted.most = Math.max(counted.most, living);
      message.process.once('exit', () => (living -= 1));
    };
    diagnostics.subscribe('child_process', onProcess);
    context.after(() => diagnostics.unsubscribe('child_process', onProcess));
    return counted;
  }

  async function faultyReaders(context: TestContext, limits: { processCount: number; timeoutMs?: number }) {
    const dataDir = await temporaryFolder(context);
    const folder = await openFolder(dataDir);
    // Found first, because the search starts processes too.
    const kind = await sandboxKind();
    const counted = countProcesses(context);
    const readers = openSlideReaders({ program: FAULTY, libraryFile: '', hiddenFolder: dataDir, kind, ...limits });
    context.after(async () => {
      await readers[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    });
    const survey = (relativePath: string, isUsable: boolean) =>
      readers.survey({ folder, relativePath, givenMicronsPerPixel: null }, 128, options(0.5), () => isUsable);
    return { counted, survey };
  }

  test('are never more than allowed, also when each slide is another one', async (context) => {
    const { counted, survey } = await faultyReaders(context, { processCount: 2 });
    for (const slides of [
      ['a.svs', 'b.svs'],
      ['c.svs', 'd.svs'],
      ['d.svs', 'e.svs'],
    ])
      await Promise.all(slides.map((slide) => survey(slide, false)));
    assert.deepEqual(counted, { started: 5, most: 2 });
  });

  test('are two for a slide on which each crashes, and one for a slide that takes too long', async (context) => {
    const crashing = await faultyReaders(context, { processCount: 1 });
    assert.match((await refusalOf(crashing.survey('a.svs', true))).reason, /SIGABRT|code 134/);
    assert.equal(crashing.counted.started, 2);
    const slow = await faultyReaders(context, { processCount: 1, timeoutMs: 500 });
    assert.match((await refusalOf(slow.survey('hanging.svs', false))).reason, /took more than 0\.5 s/);
    assert.equal(slow.counted.started, 1);
  });
});
