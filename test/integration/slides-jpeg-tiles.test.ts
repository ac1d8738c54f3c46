/** Tiles that are read past OpenSlide have the pixels of OpenSlide; what is not understood, OpenSlide reads. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import sharp, { type JpegOptions } from 'sharp';
import { ensureImageDecoder, imageDecoderAddon } from '../../src/platform/engine/image-decoder.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { loadNativeDecoder, type NativeDecoder } from '../../workers/imaging/decoder/native-decoder.ts';
import { withJpegTiles } from '../../workers/imaging/slides/jpeg-tiles.ts';
import { loadOpenSlide, SlideFault, type OpenedSlide } from '../../workers/imaging/slides/openslide.ts';
import { tissuePixels } from '../fixtures/hostile-images.ts';
import { temporaryFolder } from '../support/shards.ts';
import { aperioDescription, TILE_PX, tiffOf, type TiffDirectory } from '../support/slide-files.ts';
import { slideLibrary } from '../support/slide-library.ts';

await ensureImageDecoder(() => undefined);
const native = loadNativeDecoder(imageDecoderAddon());
const library = loadOpenSlide(await slideLibrary());
const REAL_SLIDES = path.resolve(import.meta.dirname, '../../../shared/data/histology-mini/wsi');

interface Picture {
  readonly data: Buffer;
  readonly width: number;
  readonly height: number;
}

/** With as much detail as tissue. */
async function picture(width: number, height: number): Promise<Picture> {
  const side = Math.max(width, height);
  const whole = sharp(tissuePixels(side, width), { raw: { width: side, height: side, channels: 3 } });
  const data = await whole.extract({ left: 0, top: 0, width, height }).raw().toBuffer();
  return { data, width, height };
}

async function jpegTilesOf({ data, width, height }: Picture, options: JpegOptions): Promise<Buffer[]> {
  const [across, down] = [width, height].map((side) => Math.ceil(side / TILE_PX));
  assert.ok(across !== undefined && down !== undefined);
  const [paddedWidth, paddedHeight] = [across * TILE_PX, down * TILE_PX];
  const padded = await sharp(data, { raw: { width, height, channels: 3 } })
    .extend({ right: paddedWidth - width, bottom: paddedHeight - height, background: 'green' })
    .raw()
    .toBuffer();
  const tiles: Buffer[] = [];
  for (let top = 0; top < paddedHeight; top += TILE_PX)
    for (let left = 0; left < paddedWidth; left += TILE_PX)
      tiles.push(
        await sharp(padded, { raw: { width: paddedWidth, height: paddedHeight, channels: 3 } })
          .extract({ left, top, width: TILE_PX, height: TILE_PX })
          .jpeg(options)
          .toBuffer(),
      );
  return tiles;
}

const [DQT, DHT, APP0, SOS] = [0xdb, 0xc4, 0xe0, 0xda];

/** A JPEG without its tables, and the tables, as libtiff divides it; no marker says what its components are. */
function abbreviated(jpeg: Buffer): { readonly tables: Buffer; readonly tile: Buffer } {
  const [tables, rest]: [Buffer[], Buffer[]] = [[], []];
  let at = 2;
  for (let marker = 0; marker !== SOS;) {
    marker = jpeg[at + 1] ?? SOS;
    const end = at + 2 + jpeg.readUInt16BE(at + 2);
    if (marker === DQT || marker === DHT) tables.push(jpeg.subarray(at, end));
    else if (marker !== APP0) rest.push(jpeg.subarray(at, end));
    at = end;
  }
  const [start, finish] = [Buffer.of(0xff, 0xd8), Buffer.of(0xff, 0xd9)];
  return {
    tables: Buffer.concat([start, ...tables, finish]),
    tile: Buffer.concat([start, ...rest, jpeg.subarray(at)]),
  };
}

interface LevelToDraw extends Pick<TiffDirectory, 'tiles' | 'furtherEntries'> {
  readonly width: number;
  readonly height: number;
  readonly photometric?: number;
}

/** A file of JPEG tiles. @param isAperio otherwise a generic TIFF. */
async function drawn(context: TestContext, levels: readonly LevelToDraw[], isAperio: boolean): Promise<string> {
  const file = path.join(await temporaryFolder(context), isAperio ? 'a.svs' : 'a.tiff');
  const directories = levels.map(({ photometric = 6, ...level }): TiffDirectory => ({
    ...{ ...level, photometric, compression: 7, isTiled: true, pixelsPerCm: isAperio ? null : 40_000 },
    description: isAperio ? aperioDescription(level.width, level.height, 'AppMag = 40|MPP = 0.25') : null,
  }));
  await writeFile(file, tiffOf(directories));
  return file;
}

interface Opened {
  /** By OpenSlide alone. */
  readonly expected: OpenedSlide;
  readonly found: OpenedSlide;
  /** How often OpenSlide has painted a region for `found`, and how many tiles were decoded. */
  readonly counts: { painted: number; decoded: number };
}

function openBoth(context: TestContext, file: string, decoder: NativeDecoder): Opened {
  const counts = { painted: 0, decoded: 0 };
  const counting = {
    ...library,
    open: (name: string): OpenedSlide => {
      const slide = library.open(name);
      const readRegion: OpenedSlide['readRegion'] = (...region) => {
        counts.painted += 1;
        return slide.readRegion(...region);
      };
      return { ...slide, readRegion };
    },
  };
  const expected = library.open(file);
  const found = withJpegTiles(counting, (...tile) => {
    counts.decoded += 1;
    return decoder.decodeJpegTile(...tile);
  }).open(file);
  context.after(() => {
    expected.close();
    found.close();
  });
  return { expected, found, counts };
}

type Region = readonly [level: number, x: number, y: number, width: number, height: number];

function assertSame({ expected, found }: Opened, ...region: Region): void {
  const painted = Buffer.from(expected.readRegion(...region).data);
  const { data, width, height } = found.readRegion(...region);
  assert.deepEqual([width, height], region.slice(3));
  assert.ok(data.equals(painted), `level, x, y, width, height: ${region.join(', ')}`);
}

/** Regions of a level at whole pixels, its corners and all of it among them. */
function regionsOn({ levels }: OpenedSlide, level: number, count: number): Region[] {
  const random = createRandom(level + 7);
  const { width = 1, height = 1, downsample = 1 } = levels[level] ?? {};
  const scale = Math.round(downsample);
  const drawnRegions = Array.from({ length: count }, (): Region => {
    const [left, top] = [random.integer(width), random.integer(height)];
    const size = [Math.min(width - left, 1 + random.integer(600)), Math.min(height - top, 1 + random.integer(600))];
    return [level, left * scale, top * scale, size[0] ?? 1, size[1] ?? 1];
  });
  return [[level, 0, 0, width, height], [level, (width - 1) * scale, (height - 1) * scale, 1, 1], ...drawnRegions];
}

/** For tests of the addon, without which there is nothing to test. */
function withAddon(run: (context: TestContext, decoder: NativeDecoder) => Promise<void>) {
  return async (context: TestContext): Promise<void> => {
    if (native === null) return context.skip('The addon is not compiled.');
    await run(context, native);
  };
}

describe('regions of JPEG tiles are those of OpenSlide, which paints none of them', () => {
  for (const [name, chromaSubsampling, isAperio] of [
    ['SVS with 4:2:0', '4:2:0', true],
    ['SVS with 4:4:4', '4:4:4', true],
    ['TIFF with 4:2:0', '4:2:0', false],
  ] as const)
    test(
      name,
      withAddon(async (context, decoder) => {
        const sizes = [
          [1100, 900],
          [275, 225],
        ] as const;
        const levels: LevelToDraw[] = [];
        for (const [width, height] of sizes)
          levels.push({
            ...{ width, height },
            tiles: await jpegTilesOf(await picture(width, height), { quality: 80, chromaSubsampling }),
          });
        const both = openBoth(context, await drawn(context, levels, isAperio), decoder);
        assert.equal(both.found.vendor, isAperio ? 'aperio' : 'generic-tiff');
        for (const level of [0, 1]) for (const region of regionsOn(both.found, level, 60)) assertSame(both, ...region);
        // Each tile once: they all fit in the cache.
        assert.deepEqual(both.counts, { painted: 0, decoded: 5 * 4 + 2 });
      }),
    );

  for (const [name, photometric] of [
    ['tables beside the tiles, and components that the TIFF says are RGB', 2],
    ['tables beside the tiles, and components that the TIFF says are YCbCr', 6],
  ] as const)
    test(
      name,
      withAddon(async (context, decoder) => {
        const [width, height] = [700, 500];
        const jpegs = await jpegTilesOf(await picture(width, height), {
          ...{ quality: 85, chromaSubsampling: '4:4:4', optimiseCoding: false },
        });
        const tiles = jpegs.map((jpeg) => abbreviated(jpeg).tile);
        const tables = abbreviated(jpegs[0] ?? Buffer.alloc(0)).tables;
        const furtherEntries = [[347, 7, tables.toString('latin1')]] as const;
        const file = await drawn(context, [{ width, height, tiles, photometric, furtherEntries }], true);
        const both = openBoth(context, file, decoder);
        for (const region of regionsOn(both.found, 0, 40)) assertSame(both, ...region);
        assert.deepEqual(both.counts, { painted: 0, decoded: 3 * 2 });
      }),
    );

  test(
    'a BigTIFF pyramid that libvips and libtiff wrote',
    withAddon(async (context, decoder) => {
      const { data, width, height } = await picture(1024, 768);
      const file = path.join(await temporaryFolder(context), 'vips.tiff');
      await sharp(data, { raw: { width, height, channels: 3 } })
        .tiff({
          ...{ tile: true, tileWidth: 128, tileHeight: 64, pyramid: true, bigtiff: true },
          ...{ compression: 'jpeg', quality: 75, xres: 4000, yres: 4000 },
        })
        .toFile(file);
      const both = openBoth(context, file, decoder);
      assert.equal(both.found.vendor, 'generic-tiff');
      assert.ok(both.found.levels.length > 2);
      for (const level of both.found.levels.keys())
        for (const region of regionsOn(both.found, level, 20)) assertSame(both, ...region);
      assert.equal(both.counts.painted, 0);
      assert.ok(both.counts.decoded > 0);
    }),
  );

  test(
    'more tiles than are kept, in any order',
    withAddon(async (context, decoder) => {
      const side = 20 * TILE_PX;
      const few = await jpegTilesOf(await picture(7 * TILE_PX, TILE_PX), { quality: 80 });
      const tiles = Array.from({ length: 400 }, (_, index) => few[(index * 3) % 7] ?? Buffer.alloc(0));
      const both = openBoth(context, await drawn(context, [{ width: side, height: side, tiles }], true), decoder);
      for (const region of regionsOn(both.found, 0, 120)) assertSame(both, ...region);
      assert.equal(both.counts.painted, 0);
      assert.ok(both.counts.decoded > 400);
    }),
  );

  test(
    'real slides of Aperio, with JPEG and with JPEG 2000',
    withAddon(async (context, decoder) => {
      if (!existsSync(REAL_SLIDES)) return context.skip('The slides are not on this machine.');
      for (const [name, isJpeg] of [
        ['cmu-1-small-region.svs', true],
        ['tcga-cr-7395-01a-01-ts1.svs', false],
      ] as const) {
        const both = openBoth(context, path.join(REAL_SLIDES, name), decoder);
        for (const region of regionsOn(both.found, 0, 30)) assertSame(both, ...region);
        assert.equal(both.counts.painted === 0, isJpeg, name);
      }
    }),
  );
});

describe('OpenSlide reads', () => {
  /** Of 1100 x 900 px: 5 x 4 tiles. */
  const SIZE = { width: 1100, height: 900 };
  const BROKEN = 7;
  const slideWith = async (context: TestContext, brokenTile: Buffer | null, isAperio: boolean): Promise<string> => {
    const tiles = await jpegTilesOf(await picture(SIZE.width, SIZE.height), { quality: 80 });
    if (brokenTile !== null) tiles[BROKEN] = brokenTile;
    const coarse = await jpegTilesOf(await picture(275, 225), { quality: 80 });
    return drawn(
      context,
      [
        { ...SIZE, tiles },
        { width: 275, height: 225, tiles: coarse },
      ],
      isAperio,
    );
  };

  test(
    'regions that reach beyond the level, and those between its pixels',
    withAddon(async (context, decoder) => {
      const both = openBoth(context, await slideWith(context, null, true), decoder);
      const regions: readonly Region[] = [
        [0, -10, 0, 100, 100],
        [0, 0, -1, 10, 10],
        [0, 1050, 100, 51, 10],
        [0, 100, 890, 10, 11],
        [1, 6, 8, 100, 100],
        [5, 0, 0, 10, 10],
      ];
      for (const region of regions) assertSame(both, ...region);
      assert.deepEqual(both.counts, { painted: regions.length, decoded: 0 });
    }),
  );

  test(
    'regions of a level that is not a whole multiple smaller, but where both have a pixel',
    withAddon(async (context, decoder) => {
      const levels: LevelToDraw[] = [];
      for (const [width, height] of [
        [1101, 903],
        [275, 225],
      ] as const)
        levels.push({ width, height, tiles: await jpegTilesOf(await picture(width, height), { quality: 80 }) });
      const both = openBoth(context, await drawn(context, levels, false), decoder);
      assertSame(both, 1, 0, 0, 275, 225);
      assert.equal(both.counts.painted, 0);
      for (const left of [40, 80, 400]) assertSame(both, 1, left, left, 100, 100);
      assert.equal(both.counts.painted, 3);
    }),
  );

  test(
    'all of an SVS that lacks a tile, and of a TIFF the regions with that tile',
    withAddon(async (context, decoder) => {
      for (const isAperio of [true, false]) {
        const both = openBoth(context, await slideWith(context, Buffer.alloc(0), isAperio), decoder);
        // Tile 7: column 2 and row 1.
        for (const left of [0, 2 * TILE_PX - 20, 3 * TILE_PX]) assertSame(both, 0, left, TILE_PX + 5, 60, 60);
        assertSame(both, 1, 0, 0, 275, 225);
        assert.equal(both.counts.painted, isAperio ? 4 : 1);
      }
    }),
  );

  test(
    'tiles that do not decode, and says what is wrong with them',
    withAddon(async (context, decoder) => {
      const small = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } })
        .jpeg()
        .toBuffer();
      const [whole] = await jpegTilesOf(await picture(TILE_PX, TILE_PX), { quality: 80 });
      assert.ok(whole !== undefined);
      for (const broken of [Buffer.from('not a tile'), small, whole.subarray(0, whole.length / 2)]) {
        const { found, counts } = openBoth(context, await slideWith(context, broken, true), decoder);
        found.readRegion(0, 0, 0, 300, 300);
        assert.equal(counts.painted, 0);
        assert.throws(
          () => found.readRegion(0, 2 * TILE_PX, TILE_PX, 100, 100),
          (error) => error instanceof SlideFault && error.code === 'REGION_UNREADABLE',
        );
        assert.equal(counts.painted, 1);
      }
    }),
  );

  test(
    'a slide whose levels cannot be told apart by their size',
    withAddon(async (context, decoder) => {
      const tiles = await jpegTilesOf(await picture(600, 600), { quality: 80 });
      const others = await jpegTilesOf(await picture(600, 599), { quality: 80 });
      const level = { width: 600, height: 600 };
      const both = openBoth(
        context,
        await drawn(
          context,
          [
            { ...level, tiles },
            { ...level, tiles: others },
          ],
          true,
        ),
        decoder,
      );
      for (const index of [0, 1]) assertSame(both, index, 0, 0, 600, 600);
      assert.equal(both.counts.decoded, 0);
    }),
  );
});

test(
  'the addon refuses room of another size than the tile',
  withAddon(async (_context, decoder) => {
    const [tile] = await jpegTilesOf(await picture(TILE_PX, TILE_PX), { quality: 80 });
    assert.ok(tile !== undefined);
    const [none, byteSize] = [Buffer.alloc(0), TILE_PX * TILE_PX * 3];
    const decodeInto = (room: Buffer, side = TILE_PX) => decoder.decodeJpegTile(none, tile, true, side, side, room);
    assert.equal(decodeInto(Buffer.alloc(byteSize)), true);
    for (const wrong of [byteSize - 1, byteSize + 3, 0])
      assert.throws(() => decodeInto(Buffer.alloc(wrong)), TypeError, String(wrong));
    assert.equal(decodeInto(Buffer.alloc(128 * 128 * 3), 128), false);
    // Tables that are not tables alone.
    assert.equal(decoder.decodeJpegTile(tile, tile, true, TILE_PX, TILE_PX, Buffer.alloc(byteSize)), false);
  }),
);
