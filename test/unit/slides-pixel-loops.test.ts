/** The loops over a slide's pixels: what they compute, and that our addon computes the same. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { constants, deflateSync, inflateRawSync } from 'node:zlib';
import sharp from 'sharp';
import { ensureImageDecoder, imageDecoderAddon } from '../../src/platform/engine/image-decoder.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { deflateRoomFor } from '../../workers/imaging/decoder/deflate.ts';
import { encodePng, SCRIPT_PNG_LOOPS, type PngLoops } from '../../workers/imaging/decoder/encode-png.ts';
import { loadNativeDecoder } from '../../workers/imaging/decoder/native-decoder.ts';
import { pixelLoops, SCRIPT_LOOPS } from '../../workers/imaging/slides/pixel-loops.ts';
import { resample, type Sampling } from '../../workers/imaging/slides/resample.ts';

await ensureImageDecoder(() => undefined);
const native = loadNativeDecoder(imageDecoderAddon());
/** Without the addon both are the same, and these tests only say what the script computes. */
const loops = pixelLoops(native);
const random = createRandom(11);

function randomBytes(byteSize: number): Buffer {
  return Buffer.from(Array.from({ length: byteSize }, () => random.integer(256)));
}

describe('a region on the background of its slide', () => {
  const background = { red: 240, green: 241, blue: 255 };

  test('is its own colour where it is opaque, and the background where nothing was scanned', () => {
    const bgra = Buffer.from([1, 2, 3, 255, 0, 0, 0, 0, 10, 20, 30, 128]);
    const target = Buffer.alloc(9);
    SCRIPT_LOOPS.onBackground(bgra, background, target);
    // Half: 30 + 240 * 127 / 255 = 149.53, 20 + 241 * 127 / 255 = 140.03, 10 + 255 * 127 / 255 = 137.
    assert.deepEqual([...target], [3, 2, 1, 240, 241, 255, 150, 140, 137]);
  });

  test('is the same with the addon', () => {
    const bgra = randomBytes(4 * 5000);
    for (let at = 0; at < bgra.length; at += 4) {
      if (at % 3 === 0) bgra[at + 3] = 255;
      // Premultiplied: no channel is above alpha.
      for (const channel of [0, 1, 2]) bgra[at + channel] = Math.min(bgra[at + channel] ?? 0, bgra[at + 3] ?? 0);
    }
    const [script, addon] = [Buffer.alloc(3 * 5000), Buffer.alloc(3 * 5000)];
    SCRIPT_LOOPS.onBackground(bgra, background, script);
    loops.onBackground(bgra, background, addon);
    assert.deepEqual(addon, script);
  });
});

describe('resampling', () => {
  const cases: readonly (readonly [name: string, width: number, height: number, sampling: Sampling, side: number])[] = [
    ['one to one', 64, 64, { left: 0, top: 0, scaleX: 1, scaleY: 1 }, 64],
    ['two to one', 128, 128, { left: 0, top: 0, scaleX: 2, scaleY: 2 }, 64],
    ['between pixels', 129, 128, { left: 0.3, top: 0.7, scaleX: 1.9786, scaleY: 1.97 }, 64],
    ['enlarged', 60, 60, { left: 0.2, top: 0.1, scaleX: 0.93, scaleY: 0.95 }, 64],
    ['four taps', 200, 170, { left: 0, top: 0, scaleX: 2.6, scaleY: 2.2 }, 64],
    ['many taps', 640, 333, { left: 0, top: 0, scaleX: 31.4, scaleY: 16 }, 20],
    ['beyond the last pixel', 10, 9, { left: 4, top: 5, scaleX: 1.5, scaleY: 1.5 }, 12],
    ['one pixel', 1, 1, { left: 0, top: 0, scaleX: 1, scaleY: 1 }, 1],
  ];

  for (const [name, width, height, sampling, side] of cases)
    test(`${name}: the mean over each area to half an 8-bit step, the same with the addon`, () => {
      const source = { data: randomBytes(width * height * 3), width, height };
      const script = resample(source, sampling, side, side);
      assert.deepEqual(resample(source, sampling, side, side, loops.mix).data, script.data);
      for (let pixel = 0; pixel < side * side; pixel += 7)
        for (const channel of [0, 1, 2]) {
          const exact = exactMean(source, sampling, pixel % side, Math.floor(pixel / side), channel);
          const found = script.data[pixel * 3 + channel] ?? 0;
          assert.ok(Math.abs(found - exact) < 0.52, `${pixel % side}, ${Math.floor(pixel / side)}: ${found}, ${exact}`);
        }
    });

  test('of one colour gives this colour, at any ratio', () => {
    for (const value of [0, 1, 127, 254, 255])
      for (const scale of [0.91, 1, 1.5, 2, 3.3, 17]) {
        const source = { data: Buffer.alloc(40 * 40 * 3, value), width: 40, height: 40 };
        const sampling = { left: 0.4, top: 0.2, scaleX: scale, scaleY: scale };
        assert.ok(
          resample(source, sampling, 9, 9, loops.mix).data.every((each) => each === value),
          `${value} ${scale}`,
        );
      }
  });

  test('with the addon refuses weights beyond the source and targets of another size', () => {
    if (native === null) return assert.equal(loops, SCRIPT_LOOPS);
    const source = Buffer.alloc(4 * 4 * 3);
    const [inside, one] = [Int32Array.of(3), Int32Array.of(1 << 15)];
    const mixed = (columns: Int32Array, weights: Int32Array, byteSize: number) => () =>
      native.mix(source, 4, 4, columns, weights, inside, one, Buffer.alloc(byteSize));
    mixed(inside, one, 3)();
    for (const refused of [
      mixed(Int32Array.of(4), one, 3),
      mixed(Int32Array.of(-1), one, 3),
      mixed(inside, Int32Array.of(1, 2), 3),
      mixed(inside, new Int32Array(0), 3),
      mixed(inside, one, 4),
      () => native.mix(source, 4, 5, inside, one, inside, one, Buffer.alloc(3)),
      () => native.onBackground(Buffer.alloc(8), 0, 0, 0, Buffer.alloc(5)),
      () => native.onBackground(Buffer.alloc(8), 256, 0, 0, Buffer.alloc(6)),
    ])
      assert.throws(refused, TypeError);
  });
});

describe('measures of a patch', () => {
  test('count ink, and the differences of luma from its neighbours', () => {
    // One bright pixel in the middle of 3 x 3: its neighbours are darker by 100 steps.
    const data = Buffer.alloc(27, 100);
    data.fill(200, 12, 15);
    assert.deepEqual(SCRIPT_LOOPS.measure({ data, width: 3, height: 3 }), {
      ...{ penCount: 0, laplacianSum: -400 * 256, laplacianSquares: (400 * 256) ** 2 },
    });
    const ink = Buffer.from([30, 60, 170, 20, 130, 70, 205, 30, 45, 25, 25, 28, 225, 150, 190, 120, 80, 150]);
    assert.equal(SCRIPT_LOOPS.measure({ data: ink, width: 6, height: 1 }).penCount, 4);
  });

  test('are the same with the addon', () => {
    for (const [width, height] of [
      [256, 256],
      [61, 17],
      [2, 5],
      [1, 1],
    ] as const) {
      const patch = { data: randomBytes(width * height * 3), width, height };
      // Ink of all kinds beside noise: half of the pixels with few levels.
      for (let at = 0; at < patch.data.length / 2; at += 1)
        patch.data[at] = Math.floor((patch.data[at] ?? 0) / 50) * 50;
      assert.deepEqual(loops.measure(patch), SCRIPT_LOOPS.measure(patch), `${width} x ${height}`);
    }
  });
});

describe('a PNG', () => {
  /** What a filter leaves of tissue: small differences, with runs of zeros of all lengths between them. */
  function differences(byteSize: number, runLengths: readonly number[]): Buffer {
    const bytes = randomBytes(byteSize).map((byte) => (byte % 16) * (byte >> 7));
    let at = 0;
    for (const length of runLengths) {
      at += 1 + random.integer(20);
      bytes.fill(0, at, at + length);
      at += length;
    }
    return Buffer.from(bytes);
  }

  test('holds its pixels, for sharp, and has the same bytes with the addon', async () => {
    for (const [width, height] of [
      [256, 256],
      [61, 17],
      [1, 9],
      [1, 1],
      // Compressed in several pieces.
      [2100, 1400],
    ] as const) {
      const noise = randomBytes(Math.min(5000, width * height * 3));
      const data = Buffer.alloc(width * height * 3, noise);
      const png = encodePng({ data, width, height }, loops.png);
      assert.ok(encodePng({ data, width, height }).equals(png), `${width} x ${height}`);
      const read = await sharp(png, { failOn: 'warning' }).raw().toBuffer({ resolveWithObject: true });
      assert.deepEqual([read.info.width, read.info.height, read.info.channels], [width, height, 3]);
      assert.ok(read.data.equals(data), `${width} x ${height}`);
    }
  });

  test('is compressed as zlib reads it, with runs, rare bytes and long codes, and the same with the addon', () => {
    const runs = Array.from({ length: 300 }, (_, index) => index);
    // Each byte is as frequent as the two before it together: an unbounded code of 25 lengths.
    const fibonacci = Array.from({ length: 24 }).reduce<number[]>(
      (all) => [...all, (all.at(-1) ?? 0) + (all.at(-2) ?? 0)],
      [1, 1],
    );
    const cases: readonly (readonly [string, Buffer])[] = [
      ['one byte', Buffer.of(7)],
      ['one zero', Buffer.of(0)],
      ['zeros', Buffer.alloc(100_000)],
      ['one value', Buffer.alloc(100_000, 200)],
      ['noise', randomBytes(100_003)],
      ['runs of all lengths', differences(60_000, runs)],
      ['a run at the start and one at the end', Buffer.concat([Buffer.alloc(9), randomBytes(50), Buffer.alloc(8)])],
      ['seven zeros', Buffer.concat([randomBytes(50), Buffer.alloc(7), Buffer.of(1), Buffer.alloc(7)])],
      ['long codes', Buffer.concat(fibonacci.map((count, value) => Buffer.alloc(count, value + 1)))],
    ];
    for (const [what, bytes] of cases) {
      const deflated = ({ deflateBlock }: PngLoops, isLast: boolean): Buffer => {
        const room = Buffer.alloc(deflateRoomFor(bytes.length), 255);
        return room.subarray(0, deflateBlock(bytes, isLast, room));
      };
      const [script, notLast] = [deflated(SCRIPT_PNG_LOOPS, true), deflated(SCRIPT_PNG_LOOPS, false)];
      assert.ok(inflateRawSync(script).equals(bytes), what);
      assert.ok(inflateRawSync(Buffer.concat([notLast, script])).equals(Buffer.concat([bytes, bytes])), what);
      assert.ok(deflated(loops.png, true).equals(script), what);
      assert.ok(deflated(loops.png, false).equals(notLast), what);
      const checksum = SCRIPT_PNG_LOOPS.adler32(1, bytes);
      // The last four bytes of a zlib stream.
      assert.equal(checksum, deflateSync(bytes).readUInt32BE(deflateSync(bytes).length - 4), what);
      assert.equal(loops.png.adler32(1, bytes), checksum, what);
      const half = bytes.length >> 1;
      assert.equal(loops.png.adler32(loops.png.adler32(1, bytes.subarray(0, half)), bytes.subarray(half)), checksum);
    }
  });

  test('is as small as by zlib with runs alone, to a hundredth', () => {
    const rows = differences(200_000, [30, 8, 500, 3000]);
    const room = Buffer.alloc(deflateRoomFor(rows.length));
    const zlib = deflateSync(rows, { level: 1, strategy: constants.Z_RLE, memLevel: 9 });
    assert.ok(loops.png.deflateBlock(rows, true, room) < 1.01 * zlib.length);
  });

  test('with the addon refuses too little room, and nothing to compress', () => {
    if (native === null) return assert.equal(loops, SCRIPT_LOOPS);
    const room = Buffer.alloc(deflateRoomFor(10));
    assert.ok(native.deflateBlock(Buffer.alloc(10), true, room) > 0);
    for (const byteSize of [0, 11])
      assert.throws(() => native.deflateBlock(Buffer.alloc(byteSize), true, room), TypeError, String(byteSize));
  });

  test('with the addon refuses rows that the picture does not have', () => {
    if (native === null) return assert.equal(loops, SCRIPT_LOOPS);
    const picture = Buffer.alloc(2 * 2 * 3);
    native.filterRows(picture, 2, 1, Buffer.alloc(7));
    for (const [width, firstRow, byteSize] of [
      [2, 2, 7],
      [2, 1, 14],
      [2, -1, 7],
      [0, 0, 1],
      [2, 0, 8],
    ] as const)
      assert.throws(() => native.filterRows(picture, width, firstRow, Buffer.alloc(byteSize)), TypeError);
  });
});

/** By the definition, in floating point. */
function exactMean(
  { data, width, height }: { readonly data: Buffer; readonly width: number; readonly height: number },
  { left, top, scaleX, scaleY }: Sampling,
  x: number,
  y: number,
  channel: number,
): number {
  const spanOf = (start: number, scale: number, pixel: number): readonly [number, number] =>
    scale >= 1
      ? [start + pixel * scale, start + (pixel + 1) * scale]
      : [start + (pixel + 0.5) * scale - 0.5, start + (pixel + 0.5) * scale + 0.5];
  const sharesOf = ([from, to]: readonly [number, number], length: number) => {
    const shares = Array.from({ length }, (_, at) => Math.max(0, Math.min(to, at + 1) - Math.max(from, at)));
    const sum = shares.reduce((total, share) => total + share, 0);
    if (sum > 0) return shares.map((share) => share / sum);
    return shares.map((_, at) => (at === (from < 0 ? 0 : length - 1) ? 1 : 0));
  };
  const across = sharesOf(spanOf(left, scaleX, x), width);
  const down = sharesOf(spanOf(top, scaleY, y), height);
  let sum = 0;
  for (const [row, shareDown] of down.entries())
    if (shareDown > 0)
      for (const [column, shareAcross] of across.entries())
        if (shareAcross > 0) sum += shareDown * shareAcross * (data[(row * width + column) * 3 + channel] ?? 0);
  return sum;
}
