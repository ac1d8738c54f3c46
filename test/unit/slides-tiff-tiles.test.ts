/** Where a TIFF keeps its tiles: of every byte order and size of numbers, and of files that lie. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readTiledImages, TiffFault, type ReadBytes } from '../../workers/imaging/slides/tiff-tiles.ts';

interface Written {
  readonly isLittleEndian: boolean;
  readonly isBigTiff: boolean;
}
type Entry = readonly [tag: number, type: 3 | 4 | 7 | 16, values: readonly number[]];
const TYPE_BYTES = { 3: 2, 4: 4, 7: 1, 16: 8 } as const;
/** So that every tile has a place and a size of its own. */
const TILES = Array.from({ length: 6 }, (_, index) => Buffer.alloc(10 + index, index + 1));
const TABLES = [1, 2, 3, 4, 5, 6, 7, 8, 9];

function tiffOf({ isLittleEndian, isBigTiff }: Written, changes: Readonly<Record<number, readonly number[]>> = {}) {
  const write = (value: number, byteSize: number): Buffer => {
    const bytes = Buffer.alloc(byteSize);
    bytes.writeUIntLE(value, 0, Math.min(6, byteSize));
    return isLittleEndian ? bytes : bytes.reverse();
  };
  const word = isBigTiff ? 8 : 4;
  const parts: Buffer[] = [];
  let size = isBigTiff ? 16 : 8;
  const append = (bytes: Buffer): number => {
    parts.push(bytes);
    size += bytes.length;
    return size - bytes.length;
  };
  const places = TILES.map(append);
  const entries: readonly Entry[] = [
    [256, 4, [40]],
    [257, 3, [33]],
    [258, 3, [8, 8, 8]],
    [259, 3, [7]],
    [262, 3, [6]],
    [277, 3, [3]],
    [284, 3, [1]],
    [322, 3, [16]],
    [323, 4, [17]],
    [324, isBigTiff ? 16 : 4, places],
    [325, 4, TILES.map((tile) => tile.length)],
    [347, 7, TABLES],
  ];
  const written = entries.map(([tag, type, values]) => {
    const given = changes[tag] ?? values;
    const bytes = Buffer.concat(given.map((value) => write(value, TYPE_BYTES[type])));
    const value = bytes.length > word ? write(append(bytes), word) : Buffer.concat([bytes, Buffer.alloc(word)], word);
    return Buffer.concat([write(tag, 2), write(type, 2), write(given.length, word), value]);
  });
  const directory = append(Buffer.concat([write(written.length, isBigTiff ? 8 : 2), ...written, write(0, word)]));
  const head = isBigTiff ? [write(43, 2), write(8, 2), write(0, 2)] : [write(42, 2)];
  const order = Buffer.from(isLittleEndian ? 'II' : 'MM');
  return { bytes: Buffer.concat([order, ...head, write(directory, word), ...parts]), directory };
}

function readerOf(bytes: Buffer): ReadBytes {
  return (offset, byteSize) => {
    if (offset + byteSize > bytes.length) throw new TiffFault('The file ends.');
    return bytes.subarray(offset, offset + byteSize);
  };
}

const FORMATS = [true, false].flatMap((isLittleEndian) =>
  [true, false].map((isBigTiff) => ({ isLittleEndian, isBigTiff })),
);
const CLASSIC = { isLittleEndian: true, isBigTiff: false };
const nameOf = ({ isLittleEndian, isBigTiff }: Written): string =>
  `${isBigTiff ? 'BigTIFF' : 'TIFF'}, ${isLittleEndian ? 'little' : 'big'}-endian`;

for (const format of FORMATS)
  test(`${nameOf(format)}: size, tiles and tables`, () => {
    const [image, ...others] = readTiledImages(readerOf(tiffOf(format).bytes));
    assert.deepEqual([image?.width, image?.height, others.length], [40, 33, 0]);
    const tiles = image?.jpegTiles;
    assert.ok(tiles != null);
    const { tileWidth, tileHeight, tilesAcross, tilesDown, isYcbcr, tables } = tiles;
    assert.deepEqual([tileWidth, tileHeight, tilesAcross, tilesDown, isYcbcr], [16, 17, 3, 2, true]);
    assert.deepEqual([...tables], TABLES);
    for (const [index, tile] of TILES.entries()) assert.deepEqual(tiles.bytesOf(index), tile);
    assert.equal(tiles.hasMissingTile(), false);
  });

describe('left to OpenSlide', () => {
  for (const [what, changes] of [
    ['another compression', { 259: [33005] }],
    ['grey', { 262: [1] }],
    ['four samples', { 277: [4] }],
    ['separate planes', { 284: [2] }],
    ['16 bits', { 258: [16, 16, 16] }],
    ['bits of one sample', { 258: [8] }],
    ['tiles without a width', { 322: [0] }],
    ['tiles of 65,535 px', { 322: [65_535] }],
    ['more tiles than places', { 256: [80] }],
    ['more places than tiles', { 256: [20] }],
    ['other numbers of places and of sizes', { 325: [1, 2, 3] }],
    ['no rows', { 257: [0] }],
    ['more tiles than a slide has', { 256: [2 ** 32 - 1], 257: [65_535] }],
  ] as const)
    test(`an image with ${what}`, () => {
      const [image] = readTiledImages(readerOf(tiffOf(CLASSIC, changes).bytes));
      assert.equal(image?.jpegTiles, null);
    });

  test('a tile without bytes, and one larger than a tile can be', () => {
    const sizes = [0, 2 ** 31, ...TILES.slice(2).map((tile) => tile.length)];
    const tiles = readTiledImages(readerOf(tiffOf(CLASSIC, { 325: sizes }).bytes))[0]?.jpegTiles;
    assert.equal(tiles?.hasMissingTile(), true);
    assert.deepEqual(
      [0, 1].map((index) => tiles.bytesOf(index)),
      [null, null],
    );
    assert.deepEqual(tiles.bytesOf(2), TILES[2]);
  });
});

describe('a TiffFault', () => {
  test('is thrown for what is not a TIFF, or ends too early', () => {
    const { bytes, directory } = tiffOf(CLASSIC);
    for (const wrong of [Buffer.alloc(0), Buffer.alloc(64), bytes.subarray(0, 7), bytes.subarray(0, directory + 30)])
      assert.throws(() => readTiledImages(readerOf(wrong)), TiffFault);
  });

  test('is thrown for a chain of directories without an end', () => {
    const { bytes, directory } = tiffOf(CLASSIC);
    bytes.writeUInt32LE(directory, bytes.length - 4);
    assert.throws(() => readTiledImages(readerOf(bytes)), TiffFault);
  });

  test('is all that any changed number of a directory leads to, and no large read', () => {
    for (const format of FORMATS) {
      const { bytes, directory } = tiffOf(format);
      let readCount = 0;
      for (let at = directory; at < bytes.length - 1; at += 1)
        for (const byteSize of [1, 2, 4, 8])
          for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
            const changed = Buffer.from(bytes);
            changed.fill(value, at, Math.min(changed.length, at + byteSize));
            const read = readerOf(changed);
            const bounded: ReadBytes = (offset, count) => {
              assert.ok(Number.isSafeInteger(offset) && offset >= 0 && count >= 0 && count < 8 * 1024 * 1024);
              readCount += 1;
              return read(offset, count);
            };
            try {
              for (const { jpegTiles } of readTiledImages(bounded)) {
                jpegTiles?.hasMissingTile();
                for (let index = 0; index < TILES.length; index += 1) jpegTiles?.bytesOf(index);
              }
            } catch (error) {
              assert.ok(error instanceof TiffFault, `${nameOf(format)} ${at} ${byteSize} ${value}: ${String(error)}`);
            }
          }
      assert.ok(readCount > 0);
    }
  });
});
