/** Our own decoder makes the pixels that sharp makes, or leaves the image to sharp. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import sharp, { type Sharp } from 'sharp';
import { ensureImageDecoder, imageDecoderAddon } from '../../src/platform/engine/image-decoder.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import type { SquareRule } from '../../workers/engine/data/stored-decoder.ts';
import { decodeSquare } from '../../workers/imaging/decoder/decode-square.ts';
import { loadNativeDecoder, type NativeDecoder } from '../../workers/imaging/decoder/native-decoder.ts';
import { tissuePixels } from '../fixtures/hostile-images.ts';
import { temporaryFolder } from '../support/shards.ts';

const note = await ensureImageDecoder(() => undefined);
const native = loadNativeDecoder(imageDecoderAddon());

test('it is compiled where the headers of its libraries are, and named as missing elsewhere', () => {
  const hasHeaders = ['jpeglib.h', 'png.h'].every((name) => existsSync(`/usr/include/${name}`));
  if (hasHeaders) assert.equal(note, null);
  if (note === null) assert.ok(native !== null);
  else assert.match(note, /apt-get install g\+\+ libjpeg62-turbo-dev libpng-dev/);
});

test('an addon that cannot be loaded is as good as none', async (context) => {
  const file = path.join(await temporaryFolder(context), 'addon.node');
  await (await open(file, 'w')).close();
  assert.equal(loadNativeDecoder(file), null);
  assert.equal(loadNativeDecoder(null), null);
});

/** Pixels with as much detail as tissue. */
function picture(width: number, height: number): Sharp {
  const side = Math.max(width, height);
  return sharp(tissuePixels(side, width), { raw: { width: side, height: side, channels: 3 } }).extract({
    ...{ left: 0, top: 0, width, height },
  });
}

interface Squares {
  /** Null if our decoder leaves the image to sharp. */
  of(bytes: Buffer, rule: SquareRule): Promise<Buffer | null>;
}

async function openSquares(context: TestContext, decoder: Pick<NativeDecoder, 'decodeSquare'>): Promise<Squares> {
  const folder = await temporaryFolder(context);
  const files: FileHandle[] = [];
  for (const name of ['encoded', 'pixels']) files.push(await open(path.join(folder, name), 'w+'));
  context.after(() => Promise.all(files.map((file) => file.close())));
  const [encoded, pixels] = files;
  assert.ok(encoded !== undefined && pixels !== undefined);
  return {
    of: async (bytes, { sizePx, quality, resizeRule }) => {
      const [byteOffset, position] = [7, 11];
      await encoded.write(bytes, 0, bytes.length, byteOffset);
      const isDone = await decoder.decodeSquare(
        ...([encoded.fd, byteOffset, bytes.length, pixels.fd, position] as const),
        ...([sizePx, quality === 'FAST', resizeRule === 'STRETCH'] as const),
      );
      const square = Buffer.alloc(sizePx * sizePx * 3);
      await pixels.read(square, 0, square.length, position);
      return isDone ? square : null;
    },
  };
}

/** Without the addon every image is left to sharp, and the tests below say so. */
const decoder: Pick<NativeDecoder, 'decodeSquare' | 'decodeJpeg'> = native ?? {
  decodeSquare: () => Promise.resolve(false),
  decodeJpeg: () => false,
};
const isCompiled = native !== null;

const RULES = (['FAST', 'EXACT'] as const).flatMap((quality) =>
  (['SHORT_SIDE_THEN_CENTRE_CROP', 'STRETCH'] as const).map((resizeRule) => ({ quality, resizeRule })),
);

/** Of both ways of subsampling that sharp writes, and PNG. */
async function plainImages(width: number, height: number): Promise<Record<string, Buffer>> {
  const image = picture(width, height);
  return {
    '4:2:0': await image.clone().jpeg({ quality: 90 }).toBuffer(),
    '4:4:4': await image.clone().jpeg({ quality: 95, chromaSubsampling: '4:4:4' }).toBuffer(),
    PNG: await image.clone().png().toBuffer(),
  };
}

describe('squares', () => {
  for (const [width, height, sizes, taken] of [
    [224, 224, [224, 128, 64, 96, 192, 150], ['224', '128', '64', '96', '192', '150']],
    [256, 256, [128, 224, 32], ['128', '224']],
    [512, 512, [224, 128, 64], ['224']],
    // Its long side becomes a whole number of pixels at 128, which libvips crops.
    [300, 200, [128], ['128']],
    // A last column or row that is not whole; enlarging; places that fall between two roundings.
    [257, 263, [64, 128, 192, 300], []],
    [48, 40, [64], []],
  ] as const)
    test(`${width} x ${height} px: byte by byte those of sharp, or left to it`, async (context) => {
      const squares = await openSquares(context, decoder);
      const always = new Set(sizes.map(String));
      for (const [kind, bytes] of Object.entries(await plainImages(width, height)))
        for (const sizePx of sizes)
          for (const rule of RULES) {
            const square = await squares.of(bytes, { sizePx, ...rule });
            if (square === null) always.delete(String(sizePx));
            else
              assert.deepEqual(
                square,
                Buffer.from(await decodeSquare(bytes, { sizePx, ...rule })),
                `${kind} ${sizePx}`,
              );
          }
      for (const size of taken) assert.equal(always.has(size), isCompiled, `${size} px must not be left to sharp`);
    });
});

test('pixels of a whole JPEG are byte by byte those of sharp', async () => {
  for (const [width, height] of [
    [224, 224],
    [257, 131],
    [16, 16],
    [1, 1],
  ] as const)
    for (const [kind, bytes] of Object.entries(await plainImages(width, height))) {
      const target = Buffer.alloc(width * height * 3);
      assert.equal(decoder.decodeJpeg(bytes, width, height, target), isCompiled && kind !== 'PNG', kind);
      if (isCompiled && kind !== 'PNG') assert.deepEqual(target, await sharp(bytes).raw().toBuffer(), kind);
    }
});

test('a target of another size is refused before anything is written', () => {
  const bytes = Buffer.of(0xff, 0xd8);
  if (native === null) return assert.equal(decoder.decodeJpeg(bytes, 2, 2, Buffer.alloc(12)), false);
  for (const [width, height, byteSize] of [
    [2, 2, 11],
    [0, 2, 0],
    [-1, -1, 3],
  ] as const)
    assert.throws(() => decoder.decodeJpeg(bytes, width, height, Buffer.alloc(byteSize)), TypeError);
});

describe('left to sharp', () => {
  const image = picture(64, 64);
  for (const [what, make] of [
    ['a progressive JPEG', () => image.clone().jpeg({ progressive: true }).toBuffer()],
    ['a grey JPEG', () => image.clone().greyscale().toColourspace('b-w').jpeg().toBuffer()],
    ['a CMYK JPEG', () => image.clone().toColourspace('cmyk').jpeg().toBuffer()],
    ['a JPEG with a colour profile', () => image.clone().withIccProfile('p3').jpeg().toBuffer()],
    ['a PNG with a colour profile', () => image.clone().withIccProfile('p3').png().toBuffer()],
    ['a PNG with transparency', () => image.clone().ensureAlpha(0.5).png().toBuffer()],
    ['a PNG of 16 bits', () => image.clone().toColourspace('rgb16').png().toBuffer()],
    ['a grey PNG', () => image.clone().greyscale().toColourspace('b-w').png().toBuffer()],
    ['a PNG with a palette', () => image.clone().png({ palette: true }).toBuffer()],
    ['an interlaced PNG', () => image.clone().png({ progressive: true }).toBuffer()],
    ['a WebP', () => image.clone().webp().toBuffer()],
    ['an empty file', () => Promise.resolve(Buffer.alloc(0))],
    ['text', () => Promise.resolve(Buffer.from('not an image'))],
    ['the first two bytes of a JPEG', () => Promise.resolve(Buffer.of(0xff, 0xd8))],
  ] as const)
    test(what, async (context) => {
      const squares = await openSquares(context, decoder);
      const bytes = await make();
      assert.ok((await squares.of(bytes, { sizePx: 64, quality: 'FAST', resizeRule: 'STRETCH' })) === null);
      assert.equal(decoder.decodeJpeg(bytes, 64, 64, Buffer.alloc(64 * 64 * 3)), false);
    });
});

test('a damaged image is left to sharp, or both make the same pixels of it', async (context) => {
  const squares = await openSquares(context, decoder);
  const rule = { sizePx: 32, quality: 'FAST', resizeRule: 'STRETCH' } as const;
  const random = createRandom(5);
  let leftCount = 0;
  for (const [kind, bytes] of Object.entries(await plainImages(32, 32)))
    for (let trial = 0; trial < 120; trial += 1) {
      const damaged = Buffer.from(bytes.subarray(0, trial % 2 === 0 ? bytes.length : random.integer(bytes.length)));
      if (trial % 2 === 0) damaged[random.integer(damaged.length)] = random.integer(256);
      const square = await squares.of(damaged, rule);
      if (square === null) leftCount += 1;
      else assert.deepEqual(square, Buffer.from(await decodeSquare(damaged, rule)), `${kind}, trial ${trial}`);
    }
  // Every one that is cut short, at least.
  assert.ok(leftCount >= 180, String(leftCount));
});
