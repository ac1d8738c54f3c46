/** The manifest of a version: what is written is read back by row groups, and invalid files are refused. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { parquetReadObjects } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import {
  ManifestError,
  openManifest,
  type Manifest,
  type ManifestErrorCode,
  type ManifestRow,
} from '../../src/formats/manifest/index.ts';
import { createVersionDigest, versionDigestOf } from '../../src/formats/manifest/version-digest.ts';
import { writeNpy } from '../../src/formats/npy.ts';
import { accessBytes, type RandomAccess } from '../../src/formats/random-access.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { manifestBytes, manifestRow, manifestRows, shardByteSizesOf } from '../support/manifests.ts';
import { tarBytes } from '../support/shards.ts';

const ALL = [
  'key',
  'pixelDigest',
  'perceptualHash',
  'label',
  'group',
  'split',
  'width',
  'height',
  'mediaType',
] as const;
const PLACE = ['shard', 'byteOffset', 'byteLength', 'sourcePath'] as const;

async function open(rows: readonly ManifestRow[]): Promise<Manifest> {
  return openManifest(accessBytes(await manifestBytes(rows)), {
    imageCount: rows.length,
    shardByteSizes: shardByteSizesOf(rows),
  });
}

function isManifestError(code: ManifestErrorCode, words: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ManifestError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, words);
    return true;
  };
}

describe('manifest 2', () => {
  test('gives every column as it was written, across row groups', async () => {
    const rows = manifestRows(66_000);
    const manifest = await open(rows);
    assert.equal(manifest.format, 'PARQUET');
    assert.equal(manifest.rowCount, 66_000);
    const columns = await manifest.read([...ALL, ...PLACE, 'tissueFraction', 'slide', 'x', 'maskOffset']);
    for (const [row, written] of rows.entries()) {
      const { key, label, group, split, mediaType, sourcePath, width, height, shard, byteOffset, byteLength } = columns;
      const read = {
        key: key.at(row),
        pixelDigest: columns.pixelDigest.slice(row * 32, row * 32 + 32),
        perceptualHash: columns.perceptualHash.slice(row * 8, row * 8 + 8),
        label: label.at(row),
        group: group.at(row),
        split: split.at(row),
        width: width[row],
        height: height[row],
        mediaType: mediaType.at(row),
        shard: shard[row],
        byteOffset: byteOffset[row],
        byteLength: byteLength[row],
        sourcePath: sourcePath.at(row),
      };
      // deepEqual on 66,000 rows would take a minute; most rows differ in nothing but their numbers.
      if (row % 997 === 0 || row > 65_990) assert.deepEqual(read, written);
      else
        assert.ok(read.key === written.key && read.group === written.group && read.byteOffset === written.byteOffset);
    }
    assert.ok(columns.tissueFraction.every(Number.isNaN) && columns.x.every(Number.isNaN));
    assert.ok(columns.maskOffset.every(Number.isNaN));
    assert.deepEqual(columns.label.values, ['label 1', 'label 2']);
    assert.equal(columns.label.codes[0], -1);
    assert.equal(columns.slide.at(5), null);
  });

  test('gives the columns of patches of slides', async () => {
    const patch = {
      ...{ slide: 'S1', x: 448, y: 0, level0Width: 448, level0Height: 448, micronsPerPixel: 0.5 },
      ...{ tissueFraction: 0.75, maskOffset: 2 ** 33, maskLength: 17, sourceWidth: 1000, sourceHeight: 900 },
      ...{ sourceProfileSha256: 'ab'.repeat(32), profileChangedPixels: true },
    };
    const rows = [...manifestRows(40), { ...manifestRow(40), ...patch }];
    const names = ['slide', 'x', 'y', 'level0Width', 'level0Height', 'micronsPerPixel', 'tissueFraction'] as const;
    const more = ['maskOffset', 'maskLength', 'sourceWidth', 'sourceHeight', 'profileChangedPixels'] as const;
    const columns = await (await open(rows)).read([...names, ...more, 'sourceProfileSha256']);
    const { slide, sourceProfileSha256, ...numbers } = { ...patch, profileChangedPixels: 1 };
    assert.equal(columns.slide.at(40), slide);
    assert.equal(columns.sourceProfileSha256.at(40), sourceProfileSha256);
    for (const [name, value] of Object.entries(numbers)) {
      const found = [...names, ...more].find((each) => each === name);
      assert.ok(found !== undefined && found !== 'slide', name);
      assert.equal(columns[found][40], value, name);
      assert.ok(Number.isNaN(columns[found][39]), name);
    }
  });

  test('is read by row groups, one after another', async () => {
    const rows = manifestRows(66_000);
    const counts: number[] = [];
    for await (const { firstRow, rowCount, columns } of (await open(rows)).rows(['key', 'label'])) {
      assert.equal(columns.key.at(0), rows[firstRow]?.key);
      assert.equal(columns.label.at(rowCount - 1), rows[firstRow + rowCount - 1]?.label);
      counts.push(rowCount);
    }
    assert.deepEqual(counts, [65_536, 464]);
  });

  test('reads only the footer and the columns that are asked for', async () => {
    const rows = manifestRows(20_000);
    const bytes = accessBytes(await manifestBytes(rows));
    let readBytes = 0;
    const source: RandomAccess = {
      byteSize: bytes.byteSize,
      read: (offset, length) => {
        readBytes += length;
        return bytes.read(offset, length);
      },
    };
    const manifest = await openManifest(source, { imageCount: rows.length, shardByteSizes: shardByteSizesOf(rows) });
    await manifest.read(['shard', 'byteLength']);
    assert.ok(readBytes < bytes.byteSize / 5, `${readBytes} of ${bytes.byteSize} bytes`);
  });

  test('is flat Parquet for another reader, with null for unknown', async () => {
    const bytes = await manifestBytes(manifestRows(3));
    const file = new Uint8Array(bytes).buffer;
    const objects = await parquetReadObjects({
      file: { byteLength: file.byteLength, slice: (a, b) => file.slice(a, b) },
    });
    assert.equal(objects.length, 3);
    assert.equal(objects[0]?.['label'], null);
    assert.equal(objects[1]?.['group'], 'Patient 0 ä');
    assert.equal(objects[2]?.['byteOffset'], 3584n);
    assert.equal(objects[2]?.['tissueFraction'], null);
  });
});

describe('an invalid manifest 2', () => {
  const lies: readonly [string, (rows: ManifestRow[]) => void, RegExp][] = [
    [
      'an offset outside its shard',
      (rows) => set(rows, 7, { byteOffset: 1e9 }),
      /Row 7 .* lie outside shard 0 of \d+ bytes/,
    ],
    [
      'a shard that is not there',
      (rows) => set(rows, 2999, { shard: 9 }),
      /Row 2999 .* shard 9, and the version has 3/,
    ],
    ['rows out of order', (rows) => set(rows, 1500, { shard: 0 }), /Row 1500 .* shard 0 follows shard 1/],
    [
      'images that overlap',
      (rows) => set(rows, 8, { byteOffset: 512 }),
      /Row 8 .* begins at byte 512, and the image before/,
    ],
    ['an image without bytes', (rows) => set(rows, 4, { byteLength: 0 }), /Row 4 .* no bytes/],
    ['a negative size', (rows) => set(rows, 5, { byteLength: -3 }), /Row 5 .* byteLength must be an integer .* not -3/],
    [
      'a negative offset',
      (rows) => set(rows, 6, { byteOffset: -512 }),
      /Row 6 .* byteOffset must be an integer .* not -512/,
    ],
    ['a key twice', (rows) => set(rows, 11, { key: '000000010' }), /Row 11 .* key "000000010" follows "000000010"/],
    [
      'a label of no characters',
      (rows) => set(rows, 12, { label: '' }),
      /Row 12 .* label must be a text, or null, not ""/,
    ],
    ['a negative place', (rows) => set(rows, 13, { x: -1 }), /Row 13 .* x must be a number of at least 0/],
  ];
  function set(rows: ManifestRow[], row: number, change: Partial<ManifestRow>): void {
    rows[row] = { ...manifestRow(row), ...change };
  }
  for (const [what, lie, words] of lies) {
    test(`is refused for ${what}`, async () => {
      const rows = manifestRows(3000);
      const shardByteSizes = shardByteSizesOf(rows);
      lie(rows);
      const manifest = await openManifest(accessBytes(await manifestBytes(rows)), { imageCount: 3000, shardByteSizes });
      const names = [...PLACE, 'key', 'label', 'x'] as const;
      await assert.rejects(manifest.read(names), isManifestError('MANIFEST_ROW_INVALID', words));
      await assert.rejects(
        async () => {
          for await (const { rowCount } of manifest.rows(names)) assert.ok(rowCount > 0);
        },
        isManifestError('MANIFEST_ROW_INVALID', words),
      );
    });
  }

  test('is refused if it lists another number of images', async () => {
    const bytes = accessBytes(await manifestBytes(manifestRows(3)));
    await assert.rejects(
      openManifest(bytes, { imageCount: 4, shardByteSizes: [1e6] }),
      isManifestError('MANIFEST_COUNT_MISMATCH', /has 4 images, and its manifest lists 3/),
    );
  });
});

describe('a file that is not a manifest', () => {
  const openBytes = (bytes: Uint8Array): Promise<Manifest> =>
    openManifest(accessBytes(bytes), { imageCount: 3, shardByteSizes: [1e6] });

  test('is refused if it is a Parquet file of another schema', async () => {
    const other = new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'label', data: ['a', 'b', 'c'] }] }));
    await assert.rejects(openBytes(other), isManifestError('MANIFEST_SCHEMA_UNKNOWN', /does not say that it is one/));
    const named = (version: string, nullable: boolean) =>
      new Uint8Array(
        parquetWriteBuffer({
          columnData: [{ name: 'key', data: ['a', 'b', 'c'], type: 'STRING', nullable }],
          kvMetadata: [{ key: 'paraffin.manifest', value: version }],
        }),
      );
    await assert.rejects(openBytes(named('3', false)), isManifestError('MANIFEST_SCHEMA_UNKNOWN', /is of version 3/));
    await assert.rejects(
      openBytes(named('2', false)),
      isManifestError('MANIFEST_SCHEMA_UNKNOWN', /no column pixelDigest/),
    );
    await assert.rejects(
      openBytes(named('2', true)),
      isManifestError('MANIFEST_SCHEMA_UNKNOWN', /key is of another type/),
    );
  });

  test('is refused at every length to which a manifest may be cut', async () => {
    const bytes = await manifestBytes(manifestRows(3));
    for (let length = 4; length < bytes.length; length += 7)
      await assert.rejects(
        openBytes(bytes.subarray(0, length)),
        isManifestError('MANIFEST_UNREADABLE', /cannot be read/),
      );
  });

  test('is refused if its footer claims more than there may be', async () => {
    const bytes = await manifestBytes(manifestRows(3));
    const claim = Buffer.from(bytes);
    claim.writeUInt32LE(0x7fffffff, claim.length - 8);
    await assert.rejects(openBytes(claim), isManifestError('MANIFEST_UNREADABLE', /does not fit into \d+ bytes/));
    const vast: RandomAccess = {
      byteSize: 2 ** 40,
      read: async (offset) =>
        offset === 0 ? Uint8Array.from(Buffer.from('PAR1')) : Uint8Array.from([0, 0, 0, 0x70, ...Buffer.from('PAR1')]),
    };
    await assert.rejects(
      openManifest(vast, { imageCount: 3, shardByteSizes: [] }),
      isManifestError('MANIFEST_TOO_LARGE', /footer of the manifest states 1879048192 bytes/),
    );
  });

  test('with changed bytes ends in an error of its own, or in other values, soon and in little memory', async () => {
    const rows = manifestRows(2000);
    const bytes = await manifestBytes(rows);
    const random = createRandom(17).fork('changed bytes');
    for (let round = 0; round < 400; round += 1) {
      const changed = Buffer.from(bytes);
      for (let flip = 0; flip < 3; flip += 1)
        changed[Math.floor(random.uniform() * changed.length)] = Math.floor(random.uniform() * 256);
      try {
        const manifest = await openManifest(accessBytes(changed), {
          imageCount: rows.length,
          shardByteSizes: shardByteSizesOf(rows),
        });
        const columns = await manifest.read([...ALL, ...PLACE, 'x', 'maskOffset', 'profileChangedPixels']);
        assert.equal(columns.key.length, rows.length);
      } catch (error) {
        assert.ok(error instanceof ManifestError, error instanceof Error ? error.stack : String(error));
      }
    }
  });
});

describe('manifest 1', () => {
  const line = (key: string, shard: number, facts: object = {}) =>
    JSON.stringify({
      ...{ key, sha256: 'ab'.repeat(32), label: 'tumour', group: null, split: null, width: 3, height: 4, shard },
      ...{ byteSize: 9, sourcePath: `${key}.png`, ...facts },
    });
  const shardOf = (names: readonly string[], size = 9): Promise<Buffer> =>
    tarBytes(
      names.flatMap((name) => [
        { name, bytes: Buffer.alloc(size, name) },
        { name: `${name.split('.')[0]}.json`, bytes: Buffer.from('{}') },
      ]),
    );
  async function openBuffer(bytes: Uint8Array = new Uint8Array(0)): Promise<RandomAccess & AsyncDisposable> {
    return { ...accessBytes(bytes), [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  async function openOld(lines: readonly string[], shards: readonly Buffer[], hashes: Buffer | null = null) {
    return openManifest(accessBytes(Buffer.from(lines.map((each) => `${each}\n`).join(''))), {
      imageCount: lines.length,
      shardByteSizes: shards.map(({ length }) => length),
      old: {
        openImageHashes: hashes === null ? null : () => openBuffer(hashes),
        openShard: (shard) => openBuffer(shards[shard]),
      },
    });
  }

  test('is read through the same columns: offsets come from its shards, hashes from their artifact', async () => {
    const shards = [await shardOf(['a.png', 'b.jpg']), await shardOf(['c.webp'])];
    const hashes = writeNpy({ shape: [3, 40], data: Uint8Array.from({ length: 120 }, (_, index) => index) });
    const older = line('c', 1, { group: 'P1', x: 5, y: 6, sourceWidth: 90, sourceHeight: 80, sourcePath: undefined });
    const ownGroup = line('b', 0, { group: 'b.png' });
    const manifest = await openOld([line('a', 0), ownGroup, older], shards, hashes);
    assert.equal(manifest.format, 'JSON_LINES');
    assert.equal(manifest.hasImageHashes, true);
    const columns = await manifest.read([...ALL, ...PLACE, 'x', 'sourceWidth', 'tissueFraction', 'slide']);
    assert.deepEqual(
      [0, 1, 2].map((row) => columns.mediaType.at(row)),
      ['image/png', 'image/jpeg', 'image/webp'],
    );
    for (const [row, fill] of ['a.png', 'b.jpg', 'c.webp'].entries()) {
      const start = columns.byteOffset[row] ?? 0;
      assert.deepEqual(shards[columns.shard[row] ?? 9]?.subarray(start, start + 9), Buffer.alloc(9, fill));
    }
    assert.deepEqual(
      [0, 1, 2].map((row) => columns.group.at(row)),
      [null, null, 'P1'],
    );
    assert.deepEqual(
      [0, 1, 2].map((row) => columns.sourcePath.at(row)),
      ['a.png', 'b.png', null],
    );
    assert.deepEqual([...columns.pixelDigest.subarray(32, 34)], [40, 41]);
    assert.deepEqual([...columns.perceptualHash.subarray(16, 18)], [112, 113]);
    assert.deepEqual([...columns.x], [NaN, NaN, 5]);
    assert.equal(columns.tissueFraction[0], NaN);
    assert.equal(columns.slide.at(0), null);
  });

  test('without hashes says so', async () => {
    const manifest = await openOld([line('a', 0)], [await shardOf(['a.png'])]);
    assert.equal(manifest.hasImageHashes, false);
    await assert.rejects(manifest.read(['pixelDigest']), RangeError);
  });

  const refused: readonly [string, readonly string[], ManifestErrorCode, RegExp][] = [
    ['a line that is not JSON', [line('a', 0), '{'], 'MANIFEST_UNREADABLE', /Line 2 .* not a JSON object/],
    ['an array', ['[]'], 'MANIFEST_UNREADABLE', /Line 1 .* not a JSON object/],
    ['no key', [line('', 0)], 'MANIFEST_ROW_INVALID', /Row 0 .* key must be a text/],
    ['a label that is a number', [line('a', 0, { label: 3 })], 'MANIFEST_ROW_INVALID', /label must be a text, or null/],
    ['a negative shard', [line('a', -1)], 'MANIFEST_ROW_INVALID', /shard must be an integer/],
    [
      'a width that is not an integer',
      [line('a', 0, { width: 2.5 })],
      'MANIFEST_ROW_INVALID',
      /width must be an integer/,
    ],
    ['a key twice', [line('a', 0), line('a', 0)], 'MANIFEST_ROW_INVALID', /Row 1 .* key "a" follows "a"/],
  ];
  for (const [what, lines, code, words] of refused) {
    test(`is refused for ${what}`, async () => {
      const manifest = await openOld(lines, [await shardOf(['a.png', 'b.png'])]);
      await assert.rejects(manifest.read(['key', 'label', 'width', 'shard']), isManifestError(code, words));
    });
  }

  test('is refused for a shard that is cut, changed, or lacks an image', async () => {
    const sound = await shardOf(['a.png', 'b.png'], 600);
    const changed = Buffer.from(sound);
    changed[3] = 7;
    const cases: readonly [Buffer, RegExp][] = [
      [sound.subarray(0, 1000), /a member of 600 bytes where 488 are left/],
      [sound.subarray(0, 1536), /no end mark/],
      [changed, /wrong checksum/],
      [await shardOf(['a.png']), /Image b .* not in its place in shard 0/],
      [await shardOf(['b.png', 'a.png']), /Image a .* not in its place/],
    ];
    for (const [shard, words] of cases) {
      const manifest = await openOld([line('a', 0), line('b', 0)], [shard]);
      await assert.rejects(manifest.read(['byteOffset']), isManifestError('MANIFEST_SHARD_INVALID', words));
    }
  });
});

describe('the digest of a version', () => {
  test('is the sha256 of the documented bytes', async () => {
    const text = (value: string | null): Buffer => {
      if (value === null) return Buffer.from([255, 255, 255, 255]);
      const bytes = Buffer.from(value, 'utf8');
      return Buffer.concat([Buffer.from(Uint32Array.of(bytes.length).buffer), bytes]);
    };
    const rows = manifestRows(66_000);
    const hash = createHash('sha256').update('paraffin dataset version 2\n');
    for (const { pixelDigest, width, height, label, group, split } of rows)
      hash.update(
        Buffer.concat([
          ...[pixelDigest, Buffer.from(Uint32Array.of(width, height).buffer)],
          ...[text(label), text(group), text(split)],
        ]),
      );
    const expected = hash.digest('hex');
    assert.equal(await versionDigestOf(await open(rows)), expected);
    const digest = createVersionDigest();
    for (const row of rows) digest.add(row);
    assert.equal(digest.finish(), expected);
  });

  test('changes with pixels, sizes, labels, groups, splits and order, and with nothing else', async () => {
    const digestOf = async (rows: readonly ManifestRow[]): Promise<string> => versionDigestOf(await open(rows));
    const rows = manifestRows(4);
    const original = await digestOf(rows);
    const changed = (change: Partial<ManifestRow>): Promise<string> =>
      digestOf(rows.map((row, index) => (index === 1 ? { ...row, ...change } : row)));
    const digests = await Promise.all([
      changed({ pixelDigest: new Uint8Array(32) }),
      changed({ width: 1 }),
      changed({ label: 'other' }),
      changed({ label: null }),
      changed({ group: null }),
      changed({ split: 'validation' }),
      digestOf([3, 1, 2, 0].map((index, row) => ({ ...manifestRow(index), ...placeOf(manifestRow(row)) }))),
      digestOf(rows.slice(0, 3)),
      // The same characters, divided otherwise between two texts.
      changed({ label: 'label 1P', group: 'atient 0 ä' }),
    ]);
    assert.equal(new Set([original, ...digests]).size, digests.length + 1);
    // Encoded again: other bytes at other places, of another type, with the same pixels.
    const encodedAgain = rows.map((row) => ({
      ...row,
      mediaType: 'image/webp',
      byteOffset: row.byteOffset + 3,
      byteLength: 7,
      sourcePath: 'renamed.tif',
    }));
    assert.equal(await digestOf(encodedAgain), original);
  });

  function placeOf({ key, shard, byteOffset, byteLength }: ManifestRow): Partial<ManifestRow> {
    return { key, shard, byteOffset, byteLength };
  }
});
