/** Files with misleading names, invalid TIFF directories, images of any size, and the positions of patches. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import sharp from 'sharp';
import { decodeSquare } from '../../workers/imaging/decoder/decode-square.ts';
import { FOREIGN_KINDS, foreignKindOf } from '../../workers/imaging/formats/foreign-formats.ts';
import type { PreparedFile } from '../../workers/imaging/decoder/image-decoders.ts';
import { readTiffDirectories } from '../../workers/imaging/formats/tiff-directory.ts';
import { picture, tissuePixels, tissuePng } from '../fixtures/hostile-images.ts';
import { prepare } from '../support/prepared-image.ts';

const outcomeOf = async (bytes: Buffer): Promise<string> => {
  const prepared = await prepare(bytes);
  return prepared.outcome === 'REFUSED' ? prepared.finding.issue : 'IMAGES';
};
const at = (offset: number, text: string): Buffer => Buffer.concat([Buffer.alloc(offset), Buffer.from(text, 'latin1')]);

describe('files of unsupported formats', () => {
  const files: readonly (readonly [string, string | Buffer])[] = [
    ['IS_EMPTY', ''],
    ['IS_GIT_LFS_POINTER', `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 12\n`],
    ['IS_HTML', '<!DOCTYPE html><html>404</html>'],
    ['IS_HTML', '\n  <html lang="en"><body>Sign in'],
    ['IS_GIF', 'GIF89a\x01\0\x01\0'],
    ['IS_JPEG_2000', Buffer.from('0000000c6a5020200d0a870a', 'hex')],
    ['IS_JPEG_2000', Buffer.from('ff4fff510029', 'hex')],
    ['IS_JPEG_XL', Buffer.from('ff0afa1f01', 'hex')],
    ['IS_JPEG_XR', Buffer.from('4949bc0120000000', 'hex')],
    ['IS_NETPBM', 'P6\n# scanned\n96 80\n255\n'],
    ['IS_AVIF_OR_HEIF', '\0\0\0\x1cftypheic\0\0\0\0'],
    ['IS_PSD', '8BPS\0\x01'],
    ['IS_OPENEXR', 'v/1\x01\x02\0\0\0'],
    ['IS_SVG', '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'],
    ['IS_XML', '<?xml version="1.0"?>\n<Annotations/>'],
    ['IS_PDF', '%PDF-1.7'],
    ['IS_DICOM', at(128, 'DICM')],
    ['IS_HDF5', '\x89HDF\r\n\x1a\n\0\0'],
    ['IS_NUMPY', '\x93NUMPY\x01\0'],
    ['IS_MATLAB', 'MATLAB 5.0 MAT-file, Platform: GLNXA64'],
    ['IS_NIFTI', at(344, 'n+1\0')],
    ['IS_CZI', 'ZISRAWFILE\0\0'],
    ['IS_OLYMPUS_VSI', 'SIS\0@\0\0\0'],
    ['IS_ZIP', 'PK\x03\x04'],
    ['IS_GZIP', '\x1f\x8b\x08'],
    ['IS_TAR', at(257, 'ustar\0')],
    ['IS_7Z', Buffer.from('377abcaf271c0004', 'hex')],
    ['IS_RAR', 'Rar!\x1a\x07\x01\0'],
  ];
  test('each format is named, and every name has a test file', () => {
    for (const [kind, content] of files)
      assert.equal(foreignKindOf(typeof content === 'string' ? Buffer.from(content, 'latin1') : content), kind);
    assert.deepEqual([...new Set(files.map(([kind]) => kind))].sort(), Object.keys(FOREIGN_KINDS).sort());
  });

  test('an unrecognised file is not named, and an image is never taken for another format', async () => {
    for (const text of ['hello', 'plain <svg> text', 'PKX', '\0'.repeat(400)])
      assert.equal(foreignKindOf(Buffer.from(text, 'latin1')), undefined, text);
    for (const bytes of [await tissuePng(40, 1), await picture(tissuePixels(40, 1), 40).tiff().toBuffer()])
      assert.equal(foreignKindOf(bytes), undefined);
  });
});

describe('TIFF directories with false entries', () => {
  const header = (next: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.write('II*\0', 'latin1');
    bytes.writeUInt32LE(next, 4);
    return bytes;
  };
  /** One entry: tag, type, count, value. */
  const directory = (entries: readonly (readonly [number, number, number, number])[], next: number): Buffer => {
    const bytes = Buffer.alloc(2 + entries.length * 12 + 4);
    bytes.writeUInt16LE(entries.length, 0);
    for (const [index, [tag, type, count, value]] of entries.entries()) {
      bytes.writeUInt16LE(tag, 2 + index * 12);
      bytes.writeUInt16LE(type, 4 + index * 12);
      bytes.writeUInt32LE(count, 6 + index * 12);
      bytes.writeUInt32LE(value, 10 + index * 12);
    }
    bytes.writeUInt32LE(next, bytes.length - 4);
    return bytes;
  };

  test('a circular chain of directories ends', () => {
    const found = readTiffDirectories(Buffer.concat([header(8), directory([[256, 4, 1, 40]], 8)]));
    assert.ok(Array.isArray(found));
    assert.equal(found.length, 1);
  });

  test('counts of billions cost nothing, and offsets beyond the end give no values', () => {
    for (const [count, offset] of [
      [0xffffffff, 8],
      [1000, 0xfffffff0],
    ] as const) {
      const lie = Buffer.concat([header(8), directory([[273, 4, count, offset]], 0)]);
      const found = readTiffDirectories(lie);
      assert.ok(found === null || Array.isArray(found));
    }
  });

  test('no entries, too many, and a directory beyond the end', () => {
    assert.equal(readTiffDirectories(Buffer.concat([header(8), directory([], 0)])), null);
    const many = Buffer.concat([header(8), Buffer.alloc(64)]);
    many.writeUInt16LE(0xffff, 8);
    assert.equal(readTiffDirectories(many), null);
    assert.equal(readTiffDirectories(header(5000)), 'TRUNCATED');
  });

  test('a valid TIFF that is truncated or changed at any byte is imported completely or refused, without a crash', async () => {
    const pixels = tissuePixels(24, 4);
    for (const bytes of [
      await picture(pixels, 24).tiff({ compression: 'none' }).toBuffer(),
      await picture(pixels, 24).tiff({ compression: 'deflate', tile: true, tileWidth: 16, tileHeight: 16 }).toBuffer(),
    ]) {
      for (let length = 9; length < bytes.length; length += Math.ceil(bytes.length / 60))
        assert.notEqual(await outcomeOf(bytes.subarray(0, length)), 'IMAGES', `${length} of ${bytes.length}`);
      for (let place = 4; place < bytes.length; place += Math.ceil(bytes.length / 150)) {
        const changed = Buffer.from(bytes);
        changed.writeUInt8(changed.readUInt8(place) ^ 0xff, place);
        assert.match(await outcomeOf(changed), /^[A-Z_]+$/);
      }
    }
  });
});

describe('images of any size', () => {
  test('images down to one pixel are imported, and resized like any other', async () => {
    for (const [width, height] of [
      [1, 1],
      [3, 40],
      [31, 31],
      [2, 1],
    ] as const) {
      const bytes = await sharp({ create: { width, height, channels: 3, background: '#b06090' } })
        .png()
        .toBuffer();
      const prepared = await prepare(bytes);
      assert.ok(prepared.outcome === 'PREPARED');
      const [image] = prepared.images;
      assert.deepEqual([image?.width, image?.height], [width, height]);
      const square = await decodeSquare(image?.bytes ?? Buffer.alloc(0), {
        ...{ sizePx: 32, quality: 'EXACT', resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP' },
      });
      assert.deepEqual([...square.subarray(0, 3)], [0xb0, 0x60, 0x90]);
    }
  });
});

test('alpha that a file announces but does not have is ignored', async () => {
  const pixels = tissuePixels(40, 2);
  const webp = await picture(pixels, 40).webp({ lossless: true }).withMetadata({ orientation: 1 }).toBuffer();
  assert.equal(webp.toString('latin1', 12, 16), 'VP8X');
  webp.writeUInt8(webp.readUInt8(20) | 0b1_0000, 20);
  const prepared = await prepare(webp);
  assert.ok(prepared.outcome === 'PREPARED');
  const stored = await sharp(prepared.images[0]?.bytes).removeAlpha().raw().toBuffer();
  assert.ok(stored.equals(pixels));
});

describe('the place from which a patch was cut', () => {
  test('its place in the upright source, and the source size', async () => {
    const pixels = tissuePixels(100, 5);
    const turned = await sharp(pixels, { raw: { width: 100, height: 100, channels: 3 } })
      .extract({ left: 0, top: 0, width: 100, height: 70 })
      .jpeg({ quality: 100 })
      .withMetadata({ orientation: 6 })
      .toBuffer();
    const upright = await sharp(turned).autoOrient().raw().toBuffer();
    const prepared = await prepare(turned, 32);
    assert.ok(prepared.outcome === 'PREPARED' && prepared.images.length > 0);
    for (const { cutFrom, bytes } of prepared.images) {
      assert.ok(cutFrom !== null);
      const { x, y, sourceWidth, sourceHeight } = cutFrom;
      assert.deepEqual([sourceWidth, sourceHeight], [70, 100]);
      const expected = await sharp(upright, { raw: { width: sourceWidth, height: sourceHeight, channels: 3 } })
        .extract({ left: x, top: y, width: 32, height: 32 })
        .raw()
        .toBuffer();
      assert.ok((await sharp(bytes).raw().toBuffer()).equals(expected));
    }
  });

  test('a whole image has no place, even if it has the patch size', async () => {
    const prepared = await prepare(await tissuePng(64, 6), 64);
    assert.ok(prepared.outcome === 'PREPARED');
    assert.equal(prepared.images[0]?.cutFrom, null);
  });
});

test('a JPEG truncated within its scan is not repaired into a complete one', async () => {
  const image = picture(tissuePixels(48, 3), 48);
  // Without subsampling libvips gives no warning for the last rows.
  for (const whole of [
    await image.jpeg({ quality: 90 }).toBuffer(),
    await image.jpeg({ quality: 90, chromaSubsampling: '4:4:4' }).toBuffer(),
    await image.clone().greyscale().jpeg({ quality: 90 }).toBuffer(),
  ]) {
    assert.equal(await outcomeOf(whole.subarray(0, -2)), 'IMAGES');
    const scanAt = whole.indexOf(Buffer.from([0xff, 0xda]));
    for (let length = whole.length - 3; length > scanAt + 20; length -= length > whole.length - 16 ? 1 : 211)
      assert.equal(await outcomeOf(whole.subarray(0, length)), 'TRUNCATED', `${length} of ${whole.length}`);
  }
  const progressive = await picture(tissuePixels(48, 3), 48).jpeg({ quality: 90, progressive: true }).toBuffer();
  // A progressive JPEG that is cut between two scans is a coarser picture, which every decoder accepts as complete.
  for (let scan = 1, from = 0; ; scan += 1) {
    const scanStart = progressive.indexOf(Buffer.from([0xff, 0xda]), from);
    if (scanStart < 0) break;
    from = scanStart + 2;
    if (scan > 1) assert.equal(await outcomeOf(progressive.subarray(0, scanStart)), 'TRUNCATED', `before scan ${scan}`);
  }
  assert.equal(await outcomeOf(progressive.subarray(0, -2)), 'TRUNCATED');
});

test('a few stray bytes after any scan of a JPEG change no pixel, and are stored only if every reader tolerates them', async () => {
  const pixels = picture(tissuePixels(40, 3), 40);
  const progressive = await pixels.jpeg({ quality: 80, progressive: true }).toBuffer();
  const expected = await sharp(progressive).raw().toBuffer();
  const scanAt = Buffer.from([0xff, 0xda]);
  const strays = ['00', 'ff00', 'ff01', 'aaff', '112233', 'ffd3', 'ff00ff0011'].map((hex) => Buffer.from(hex, 'hex'));
  let from = progressive.indexOf(scanAt) + 2;
  for (const stray of strays) {
    const next = progressive.indexOf(Buffer.from([0xff, 0xc4]), from);
    const at = next < 0 ? progressive.length - 2 : next;
    from = at + 2;
    const prepared = await prepare(Buffer.concat([progressive.subarray(0, at), stray, progressive.subarray(at)]));
    assert.ok(prepared.outcome === 'PREPARED', stray.toString('hex'));
    const [image] = prepared.images;
    const stored = await sharp(image?.bytes, { failOn: 'warning' }).raw().toBuffer();
    assert.ok(stored.equals(expected), stray.toString('hex'));
  }
});

test('a progressive JPEG with damaged scans is not treated as one with stray bytes', async () => {
  const pixels = picture(tissuePixels(48, 3), 48);
  const progressive = await pixels.jpeg({ quality: 90, progressive: true }).toBuffer();
  const tableAt = progressive.indexOf(Buffer.from([0xff, 0xc4]), progressive.indexOf(Buffer.from([0xff, 0xda])));
  // The last bytes of the first scan are removed without replacement.
  const short = Buffer.concat([progressive.subarray(0, tableAt - 6), progressive.subarray(tableAt)]);
  assert.equal(await outcomeOf(short), 'UNREADABLE');
  assert.equal(
    await outcomeOf(Buffer.concat([short.subarray(0, -2), Buffer.alloc(20), short.subarray(-2)])),
    'UNREADABLE',
  );
});

describe('16-bit samples whose number of significant bits is not stated', () => {
  const SIZE_PX = 16;
  /** Grey, with values from 0 to `greatest`. */
  const deep = (greatest: number): Uint16Array =>
    Uint16Array.from({ length: SIZE_PX * SIZE_PX }, (_, index) => Math.round((index * greatest) / (SIZE_PX ** 2 - 1)));
  const fileOf = async (values: Uint16Array): Promise<Buffer> =>
    sharp(values, { raw: { width: SIZE_PX, height: SIZE_PX, channels: 1 } })
      .toColourspace('grey16')
      .png()
      .toBuffer();
  const levelsOf = async (prepared: PreparedFile): Promise<number[]> => {
    assert.ok(prepared.outcome === 'PREPARED', JSON.stringify(prepared));
    const stored = await sharp(prepared.images[0]?.bytes).toColourspace('srgb').raw().toBuffer();
    return [...stored].filter((_, index) => index % 3 === 0);
  };

  test('are scaled by sampleBits', async () => {
    for (const [greatest, sampleBits] of [
      [4095, 12],
      [1000, 10],
      [16_383, 14],
      [250, 8],
      [9000, 16],
    ] as const) {
      const values = deep(greatest);
      const levels = await levelsOf(await prepare(await fileOf(values), null, { sampleBits }));
      const white = 2 ** sampleBits - 1;
      assert.deepEqual(
        levels,
        [...values].map((value) => Math.round((255 * value) / white)),
        `${sampleBits} bits`,
      );
    }
  });

  test('are refused if a value exceeds sampleBits, and without sampleBits if they may have fewer bits', async () => {
    for (const [greatest, sampleBits, reason] of [
      [4096, 12, /reach 4096, above the 4095/],
      [16_383, null, /only 16383 of 65535.* 14 bits.*--sample-bits 16/],
      [1024, null, /one of 12 bits/],
    ] as const) {
      const prepared = await prepare(await fileOf(deep(greatest)), null, { sampleBits });
      assert.ok(prepared.outcome === 'REFUSED');
      assert.equal(prepared.finding.issue, 'RANGE_NOT_STATED');
      assert.match(prepared.finding.reason ?? '', reason);
    }
  });

  test('sampleBits does not apply to 8-bit samples', async () => {
    const png = await tissuePng(40, 1);
    const prepared = await prepare(png, null, { sampleBits: 12 });
    assert.ok(prepared.outcome === 'PREPARED' && prepared.images[0]?.bytes.equals(png) === true);
  });
});
