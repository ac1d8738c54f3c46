/** Decoding: every accepted format gives the same pixels, and every damaged file is refused with its own issue. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import sharp from 'sharp';
import { isNearlyBlank } from '../../workers/imaging/blankness.ts';
import { decodeImage } from '../../workers/imaging/decoder/decode.ts';
import { encodePng } from '../../workers/imaging/decoder/encode-png.ts';
import type { ImageFormat } from '../../workers/imaging/formats/image-header.ts';
import { formatOf, readImageHeader } from '../../workers/imaging/formats/index.ts';
import {
  bmpOf,
  glassPixels,
  picture,
  pngThatClaims,
  tissueJpeg,
  tissuePixels,
  tissuePng,
  withPenStroke,
} from '../fixtures/hostile-images.ts';
import { prepare } from '../support/prepared-image.ts';

const SIZE_PX = 48;
const PIXELS = tissuePixels(SIZE_PX, 1);

async function decoded(
  bytes: Buffer,
): Promise<{ format: ImageFormat; plain: boolean; width: number; height: number; data: Buffer }> {
  const format = formatOf(bytes);
  assert.ok(format !== undefined);
  const header = readImageHeader(bytes, format);
  assert.ok(header !== null && !('issue' in header));
  const result = await decodeImage(bytes, header);
  assert.ok('pixels' in result, 'issue' in result ? result.issue : '');
  return { format, plain: header.isPlain, ...result.pixels };
}

async function issueOf(bytes: Buffer, patchSizePx: number | null = null): Promise<string> {
  const prepared = await prepare(bytes, patchSizePx);
  return prepared.outcome === 'REFUSED' ? prepared.finding.issue : 'IMAGES';
}

describe('formats', () => {
  test('lossless formats return the same pixels', async () => {
    const files: [ImageFormat, Buffer][] = [
      ['PNG', await picture(PIXELS, SIZE_PX).png().toBuffer()],
      ['TIFF', await picture(PIXELS, SIZE_PX).tiff({ compression: 'lzw' }).toBuffer()],
      ['TIFF', await picture(PIXELS, SIZE_PX).tiff({ compression: 'none' }).toBuffer()],
      ['WEBP', await picture(PIXELS, SIZE_PX).webp({ lossless: true }).toBuffer()],
      ['BMP', bmpOf(PIXELS, SIZE_PX, SIZE_PX, { bitsPerPixel: 24 })],
      ['BMP', bmpOf(PIXELS, SIZE_PX, SIZE_PX, { bitsPerPixel: 24, topDown: true })],
      ['BMP', bmpOf(PIXELS, SIZE_PX, SIZE_PX, { bitsPerPixel: 32 })],
    ];
    for (const [format, bytes] of files) {
      const image = await decoded(bytes);
      assert.equal(image.format, format);
      assert.deepEqual([image.width, image.height], [SIZE_PX, SIZE_PX]);
      assert.ok(image.data.equals(PIXELS), format);
    }
  });

  test('a bitmap whose rows are padded, and one with a palette', async () => {
    const pixels = tissuePixels(33, 2);
    assert.ok((await decoded(bmpOf(pixels, 33, 33, { bitsPerPixel: 24 }))).data.equals(pixels));
    const grey = await decoded(bmpOf(pixels, 33, 33, { bitsPerPixel: 8 }));
    assert.ok(grey.data.every((value, index) => value === pixels[index - (index % 3)]));
  });

  test('grey, 16-bit, transparent, CMYK and rotated images become upright 8-bit sRGB on white', async () => {
    const grey = await decoded(await picture(PIXELS, SIZE_PX).greyscale().png().toBuffer());
    assert.equal(grey.data.length, PIXELS.length);
    assert.equal(grey.data[0], grey.data[1]);

    const deep = await decoded(await picture(PIXELS, SIZE_PX).toColourspace('rgb16').png().toBuffer());
    assert.equal(deep.plain, false);
    assert.ok(deep.data.every((value, index) => Math.abs(value - (PIXELS[index] ?? 0)) <= 1));

    const clear = await decoded(
      await sharp({ create: { width: 40, height: 40, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })
        .png()
        .toBuffer(),
    );
    assert.equal(clear.plain, false);
    assert.ok(clear.data.every((value) => value === 255));

    const cmyk = await decoded(await picture(PIXELS, SIZE_PX).toColourspace('cmyk').jpeg({ quality: 95 }).toBuffer());
    assert.equal(cmyk.plain, false);
    assert.equal(cmyk.data.length, PIXELS.length);

    const wide = await sharp(PIXELS, { raw: { width: SIZE_PX, height: SIZE_PX, channels: 3 } })
      .extract({ left: 0, top: 0, width: 48, height: 36 })
      .jpeg()
      .withMetadata({ orientation: 6 })
      .toBuffer();
    const turned = await decoded(wide);
    assert.equal(turned.plain, false);
    assert.deepEqual([turned.width, turned.height], [36, 48]);
  });

  test('plain images keep their bytes, the others become PNG', async () => {
    const jpeg = await tissueJpeg(SIZE_PX, 1);
    const kept = await prepare(jpeg);
    assert.ok(kept.outcome === 'PREPARED');
    assert.equal(kept.images[0]?.extension, 'jpg');
    assert.ok(kept.images[0]?.bytes.equals(jpeg));
    const tiff = await prepare(await picture(PIXELS, SIZE_PX).tiff().toBuffer());
    assert.ok(tiff.outcome === 'PREPARED');
    assert.equal(tiff.images[0]?.extension, 'png');
    const png = await prepare(await tissuePng(SIZE_PX, 1));
    assert.ok(png.outcome === 'PREPARED');
    const deep = await prepare(await picture(PIXELS, SIZE_PX).toColourspace('rgb16').png().toBuffer());
    assert.ok(deep.outcome === 'PREPARED');
    assert.equal(formatOf(deep.images[0]?.bytes ?? Buffer.alloc(0)), 'PNG');
    assert.equal((await sharp(deep.images[0]?.bytes).metadata()).depth, 'uchar');
  });

  test('the same picture in two formats has one pixel digest', async () => {
    const [png, bmp] = await Promise.all([
      prepare(await tissuePng(SIZE_PX, 1)),
      prepare(bmpOf(PIXELS, SIZE_PX, SIZE_PX, { bitsPerPixel: 24 })),
    ]);
    assert.ok(png.outcome === 'PREPARED' && bmp.outcome === 'PREPARED');
    assert.equal(png.images[0]?.pixelDigest.length, 32);
    assert.deepEqual(png.images[0]?.pixelDigest, bmp.images[0]?.pixelDigest);
  });
});

describe('what is wrong', () => {
  test('truncated files of every format', async () => {
    const files: [string, Buffer][] = [
      ['JPEG', await tissueJpeg(96, 3)],
      ['progressive JPEG', await picture(tissuePixels(96, 3), 96).jpeg({ progressive: true }).toBuffer()],
      ['PNG', await tissuePng(96, 3)],
      ['WebP', await picture(tissuePixels(96, 3), 96).webp().toBuffer()],
      ['lossless WebP', await picture(tissuePixels(96, 3), 96).webp({ lossless: true }).toBuffer()],
      ['TIFF', await picture(tissuePixels(96, 3), 96).tiff({ compression: 'none' }).toBuffer()],
      ['BMP', bmpOf(tissuePixels(96, 3), 96, 96, { bitsPerPixel: 24 })],
    ];
    for (const [name, bytes] of files) {
      assert.equal(await issueOf(bytes), 'IMAGES', name);
      for (const share of [0.95, 0.5]) {
        const issue = await issueOf(bytes.subarray(0, Math.floor(bytes.length * share)));
        assert.equal(issue, 'TRUNCATED', `${name} cut at ${share}`);
      }
      assert.notEqual(await issueOf(bytes.subarray(0, 20)), 'IMAGES', `${name} of 20 bytes`);
    }
  });

  test('a file truncated at any byte is never accepted as complete', async () => {
    for (const bytes of [
      await tissueJpeg(40, 3),
      await tissuePng(40, 3),
      bmpOf(tissuePixels(40, 3), 40, 40, { bitsPerPixel: 32 }),
    ]) {
      const lengths = Array.from({ length: 40 }, (_, index) => Math.floor(((index + 1) * (bytes.length - 16)) / 41));
      for (const length of lengths)
        assert.notEqual(await issueOf(bytes.subarray(0, length)), 'IMAGES', `${length} of ${bytes.length}`);
    }
  });

  test('a PNG that claims 100,000 x 100,000 pixels is refused from its header', async () => {
    let reservedBytes = 0;
    const prepared = await prepare(pngThatClaims(100_000, 100_000), null, {
      onReserve: (byteCount) => (reservedBytes += byteCount),
    });
    assert.ok(prepared.outcome === 'REFUSED');
    assert.equal(prepared.finding.issue, 'TOO_LARGE');
    assert.match(prepared.finding.reason ?? '', /100000 x 100000 px; at most \d+ pixels/);
    assert.equal(reservedBytes, 0);
  });

  test('other false sizes in headers', async () => {
    assert.equal(await issueOf(pngThatClaims(100_000, 100_000), 224), 'TOO_LARGE');
    assert.equal(await issueOf(pngThatClaims(0, 50)), 'UNREADABLE');
    assert.equal(await issueOf(pngThatClaims(0xffffffff, 0xffffffff)), 'TOO_LARGE');
    const bmp = bmpOf(PIXELS, SIZE_PX, SIZE_PX, { bitsPerPixel: 24 });
    bmp.writeInt32LE(1_000_000, 18);
    bmp.writeInt32LE(1_000_000, 22);
    assert.equal(await issueOf(bmp), 'TOO_LARGE');
    bmp.writeInt32LE(-5, 18);
    assert.equal(await issueOf(bmp), 'UNREADABLE');
    const jpeg = Buffer.from(await tissueJpeg(SIZE_PX, 1));
    const frame = jpeg.indexOf(Buffer.from([0xff, 0xc0]));
    jpeg.writeUInt16BE(65_500, frame + 5);
    jpeg.writeUInt16BE(65_500, frame + 7);
    assert.equal(await issueOf(jpeg), 'TOO_LARGE');
  });

  test('flipped bits within the data', async () => {
    const png = Buffer.from(await tissuePng(96, 3));
    png.writeUInt8(png.readUInt8(Math.floor(png.length / 2)) ^ 0xff, Math.floor(png.length / 2));
    assert.equal(await issueOf(png), 'UNREADABLE');
  });

  test('unsupported kinds of bitmaps', async () => {
    assert.equal(
      await issueOf(bmpOf(PIXELS, SIZE_PX, SIZE_PX, { bitsPerPixel: 8, compression: 1 })),
      'COMPRESSION_NOT_READ',
    );
    assert.equal(await issueOf(bmpOf(PIXELS, SIZE_PX, SIZE_PX, { bitsPerPixel: 8, paletteCount: 2 })), 'UNREADABLE');
  });

  test('a file that is not a supported image, whatever its name or header claims', async () => {
    for (const text of [
      '',
      'BM',
      'hello',
      '<svg xmlns="http://www.w3.org/2000/svg" width="99999" height="99999"/>',
      'GIF89a',
      '%PDF-1.7',
    ]) {
      assert.equal(await issueOf(Buffer.from(text)), 'NOT_AN_IMAGE', text);
    }
  });

  test('too small to be cut', async () => {
    assert.equal(await issueOf(await tissuePng(63, 1), 64), 'SMALLER_THAN_PATCH');
  });
});

describe('cutting', () => {
  test('patches do not overlap, are cut row by row, and the remainder is left out', async () => {
    const sizePx = 100;
    const pixels = tissuePixels(sizePx, 5);
    const prepared = await prepare(encodePng({ data: pixels, width: sizePx, height: sizePx }), 32);
    assert.ok(prepared.outcome === 'PREPARED');
    assert.equal(prepared.images.length + prepared.blankCount, 9);
    for (const [index, patch] of prepared.images.entries()) {
      const expected = await picture(pixels, sizePx)
        .extract({ left: (index % 3) * 32, top: Math.floor(index / 3) * 32, width: 32, height: 32 })
        .raw()
        .toBuffer();
      assert.ok((await sharp(patch.bytes).raw().toBuffer()).equals(expected), `patch ${index}`);
      assert.deepEqual([patch.width, patch.height, patch.extension], [32, 32, 'png']);
    }
  });

  test('an image of exactly the patch size keeps its bytes', async () => {
    const jpeg = await tissueJpeg(64, 6);
    const prepared = await prepare(jpeg, 64);
    assert.ok(prepared.outcome === 'PREPARED');
    assert.equal(prepared.images.length, 1);
    assert.ok(prepared.images[0]?.bytes.equals(jpeg));
  });

  test('blank patches are left out and counted', async () => {
    const sizePx = 128;
    const pixels = glassPixels(sizePx);
    const tissue = tissuePixels(64, 7);
    for (let row = 0; row < 64; row += 1) tissue.copy(pixels, row * sizePx * 3, row * 64 * 3, (row + 1) * 64 * 3);
    const prepared = await prepare(encodePng({ data: pixels, width: sizePx, height: sizePx }), 64);
    assert.ok(prepared.outcome === 'PREPARED');
    assert.deepEqual([prepared.images.length, prepared.blankCount], [1, 3]);
  });
});

describe('nearly blank', () => {
  const blank = (data: Buffer, sizePx = 256): boolean => isNearlyBlank({ data, width: sizePx, height: sizePx });

  test('glass, a thin pen line on glass, black padding and one flat tone are', () => {
    assert.ok(blank(glassPixels(256)));
    assert.ok(blank(withPenStroke(glassPixels(256), 256, 4)));
    assert.ok(blank(Buffer.alloc(256 * 256 * 3)));
    assert.ok(blank(Buffer.alloc(256 * 256 * 3, 120)));
  });

  test('tissue, tissue under pen, and a margin of tissue on glass are not', () => {
    for (const seed of [0, 1, 2, 3]) assert.ok(!blank(tissuePixels(256, seed)), `seed ${seed}`);
    assert.ok(!blank(withPenStroke(tissuePixels(256, 1), 256, 60)));
    const margin = glassPixels(256);
    tissuePixels(256, 2).copy(margin, 0, 0, 20 * 256 * 3);
    assert.ok(!blank(margin));
  });
});
