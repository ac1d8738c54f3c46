import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import sharp from 'sharp';
import type { DecodeQuality, Interpolation } from '../../workers/engine/data/stored-decoder.ts';
import { decodeSquare as decodeSquareBy } from '../../workers/imaging/decoder/decode-square.ts';

/** A wide image: left third red, middle green, right blue. */
async function wide(): Promise<Buffer> {
  const bytes = Buffer.alloc(48 * 16 * 3);
  for (let pixel = 0; pixel < 48 * 16; pixel += 1) bytes[pixel * 3 + Math.floor((pixel % 48) / 16)] = 255;
  return sharp(bytes, { raw: { width: 48, height: 16, channels: 3 } })
    .png()
    .toBuffer();
}

const decodeSquare = (
  bytes: Buffer,
  sizePx: number,
  quality: DecodeQuality,
  interpolation?: Interpolation,
): Promise<Uint8Array> =>
  decodeSquareBy(bytes, { sizePx, quality, resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP', interpolation });

describe('decodeSquare', () => {
  test('cuts the centre square', async () => {
    const pixels = await decodeSquare(await wide(), 16, 'EXACT');
    assert.deepEqual([...pixels.subarray(0, 3)], [0, 255, 0]);
    assert.ok(pixels.every((value, index) => value === (index % 3 === 1 ? 255 : 0)));
  });

  test('passes an image of the right size on unchanged', async () => {
    const bytes = Buffer.from(Array.from({ length: 16 * 16 * 3 }, (_, index) => (index * 37) % 256));
    const png = await sharp(bytes, { raw: { width: 16, height: 16, channels: 3 } })
      .png()
      .toBuffer();
    for (const quality of ['FAST', 'EXACT'] as const)
      assert.deepEqual(Buffer.from(await decodeSquare(png, 16, quality)), bytes);
  });

  test('halves by averaging, not by skipping', async () => {
    const checks = Buffer.from(
      Array.from({ length: 32 * 32 * 3 }, (_, index) => ((Math.floor(index / 3) + Math.floor(index / 96)) % 2) * 255),
    );
    const png = await sharp(checks, { raw: { width: 32, height: 32, channels: 3 } })
      .png()
      .toBuffer();
    const pixels = await decodeSquare(png, 16, 'EXACT');
    assert.ok(
      pixels.every((value) => Math.abs(value - 128) <= 24),
      [...new Set(pixels)].join(' '),
    );
  });

  // By Pillow 13: Image.resize((8, 8), Image.BICUBIC or BILINEAR), pixels 2 to 5 of row 3 in red and of row 4 in green.
  for (const [interpolation, red, green] of [
    ['BICUBIC', [129, 145, 97, 168], [84, 156, 121, 112]],
    ['BILINEAR', [129, 140, 105, 157], [96, 148, 123, 117]],
  ] as const) {
    test(`resizes as Pillow does: ${interpolation}`, async () => {
      const waves = Buffer.from(
        Array.from({ length: 24 * 24 * 3 }, (_, index) => {
          const [x, y, channel] = [Math.floor(index / 3) % 24, Math.floor(index / 72), index % 3];
          return Math.round(128 + 100 * Math.sin(x * 0.9 + channel) * Math.cos(y * 0.7));
        }),
      );
      const png = await sharp(waves, { raw: { width: 24, height: 24, channels: 3 } })
        .png()
        .toBuffer();
      const pixels = await decodeSquare(png, 8, 'EXACT', interpolation);
      for (const [row, channel, expected] of [
        [3, 0, red],
        [4, 1, green],
      ] as const)
        for (const [index, value] of expected.entries()) {
          const found = pixels[(row * 8 + 2 + index) * 3 + channel] ?? Number.NaN;
          assert.ok(Math.abs(found - value) <= 2, `${found} in row ${row}, expected ${value}`);
        }
    });
  }

  const forms: readonly [string, () => Promise<Buffer>, readonly number[]][] = [
    [
      'grey',
      () =>
        sharp({ create: { width: 20, height: 20, channels: 3, background: '#777777' } })
          .toColourspace('b-w')
          .png()
          .toBuffer(),
      [0x77, 0x77, 0x77],
    ],
    [
      'transparent',
      () =>
        sharp({ create: { width: 20, height: 20, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } } })
          .png()
          .toBuffer(),
      [255, 255, 255],
    ],
    [
      '16-bit',
      () =>
        sharp({ create: { width: 20, height: 20, channels: 3, background: '#336699' } })
          .toColourspace('rgb16')
          .png()
          .toBuffer(),
      [0x33, 0x66, 0x99],
    ],
    [
      'CMYK JPEG',
      () =>
        sharp({ create: { width: 20, height: 20, channels: 3, background: '#ffffff' } })
          .toColourspace('cmyk')
          .jpeg()
          .toBuffer(),
      [255, 255, 255],
    ],
    [
      'WebP',
      () =>
        sharp({ create: { width: 20, height: 20, channels: 3, background: '#336699' } })
          .webp({ lossless: true })
          .toBuffer(),
      [0x33, 0x66, 0x99],
    ],
  ];
  for (const [what, make, colour] of forms) {
    test(`${what} images become 8-bit RGB`, async () => {
      const pixels = await decodeSquare(await make(), 16, 'EXACT');
      assert.equal(pixels.length, 16 * 16 * 3);
      for (const [channel, value] of colour.entries())
        assert.ok(Math.abs((pixels[channel] ?? -1) - value) <= 2, `${pixels.subarray(0, 3).join(' ')}`);
    });
  }

  test('refuses a truncated JPEG', async () => {
    const jpeg = await sharp(await wide())
      .resize(200, 200)
      .jpeg()
      .toBuffer();
    await assert.rejects(decodeSquare(jpeg.subarray(0, jpeg.length / 2), 64, 'FAST'), /VipsJpeg|premature|truncated/i);
  });

  test('refuses a truncated PNG', async () => {
    const png = await wide();
    await assert.rejects(decodeSquare(png.subarray(0, png.length - 30), 16, 'EXACT'), /png|read error/i);
  });

  test('refuses bytes that are not an image', async () => {
    await assert.rejects(decodeSquare(Buffer.from('plain words'), 16, 'EXACT'), /unsupported image format/);
  });

  test('refuses a PNG that claims 100,000 x 100,000 pixels', async () => {
    const png = Buffer.from(await wide());
    png.writeUInt32BE(100_000, 16);
    png.writeUInt32BE(100_000, 20);
    await assert.rejects(decodeSquare(png, 16, 'EXACT'), /exceeds pixel limit/);
  });
});
