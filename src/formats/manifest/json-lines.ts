/**
 * Reads manifest 1, which versions have that were sealed before manifest 2: one JSON object a line. It names the shard
 * of each image but not its place there, so that reading offsets walks the shards once; hashes of images are in an
 * artifact of their own.
 */
import { readNpy } from '../npy.ts';
import type { RandomAccess } from '../random-access.ts';
import type { RawValues } from './columns.ts';
import { ManifestError } from './errors.ts';
import type { RawBlock, RawManifest } from './parquet.ts';
import { PERCEPTUAL_HASH_BYTES, PIXEL_DIGEST_BYTES, type ColumnName } from './schema.ts';
import { walkShard, type ShardImage } from './shard-walk.ts';

/** Beside the manifest itself. */
export interface OldVersion {
  /** Opens uint8 `[N, 40]` as .npy, pixel digest and perceptual hash of each image; null if they were not hashed. */
  readonly openImageHashes: (() => Promise<RandomAccess & AsyncDisposable>) | null;
  /** Opens a shard. Both are called only for columns that the manifest itself does not have; the reader closes them. */
  openShard(shard: number): Promise<RandomAccess & AsyncDisposable>;
}

const READ_BYTES = 1024 * 1024;
const LINE_BYTES_MAX = 1024 * 1024;
const BLOCK_ROWS = 65_536;
const IMAGE_HASH_BYTES = PIXEL_DIGEST_BYTES + PERCEPTUAL_HASH_BYTES;
/** Columns that manifest 2 introduced. */
const UNKNOWN: ReadonlySet<ColumnName> = new Set([
  'tissueFraction',
  'slide',
  'level0Width',
  'level0Height',
  'micronsPerPixel',
  'maskOffset',
  'maskLength',
]);
const IN_SHARDS: ReadonlySet<ColumnName> = new Set(['byteOffset', 'mediaType']);
const IN_HASHES: ReadonlySet<ColumnName> = new Set(['pixelDigest', 'perceptualHash']);

export function openJsonLinesManifest(
  source: RandomAccess,
  version: { readonly imageCount: number; readonly shardByteSizes: readonly number[]; readonly old?: OldVersion },
): RawManifest {
  const { imageCount, old } = version;
  const openHashes = old?.openImageHashes ?? null;
  return {
    rowCount: imageCount,
    hasImageHashes: openHashes !== null,
    async *blocks(names) {
      const needsHashes = names.some((name) => IN_HASHES.has(name));
      if (needsHashes && openHashes === null) throw new RangeError('The images of this version were not hashed.');
      const hashAt = needsHashes && openHashes !== null ? await readHashes(openHashes, imageCount) : undefined;
      const needsShards = names.some((name) => IN_SHARDS.has(name));
      if (needsShards && old === undefined) throw new RangeError('The shards of this version were not given.');
      const places = needsShards && old !== undefined ? createPlaces(old) : undefined;
      let block = emptyBlock(names);
      let row = 0;
      let rowCount = 0;
      for await (const line of linesOf(source)) {
        const fields = fieldsOf(line);
        if (fields === null)
          throw new ManifestError('MANIFEST_UNREADABLE', `Line ${row + 1} of the manifest is not a JSON object.`);
        const place = await places?.(fields, row);
        for (const [name, values] of block)
          values.push(
            IN_HASHES.has(name)
              ? hashAt?.(row, name)
              : IN_SHARDS.has(name)
                ? place?.[name === 'mediaType' ? 'mediaType' : 'byteOffset']
                : valueOf(fields, name),
          );
        row += 1;
        rowCount += 1;
        if (rowCount < BLOCK_ROWS) continue;
        yield rawBlockOf(block, row - rowCount, rowCount);
        block = emptyBlock(names);
        rowCount = 0;
      }
      if (rowCount > 0) yield rawBlockOf(block, row - rowCount, rowCount);
    },
  };
}

type Fields = ReadonlyMap<string, unknown>;
type OpenBlock = ReadonlyMap<ColumnName, unknown[]>;

function emptyBlock(names: readonly ColumnName[]): OpenBlock {
  return new Map(names.map((name) => [name, []]));
}

function rawBlockOf(block: OpenBlock, firstRow: number, rowCount: number): RawBlock {
  const values = new Map<ColumnName, readonly RawValues[]>();
  for (const [name, column] of block) values.set(name, [column]);
  return { firstRow, rowCount, values };
}

function valueOf(fields: Fields, name: ColumnName): unknown {
  if (UNKNOWN.has(name)) return null;
  // Imports once stored the path of its own file for an image without a group.
  if (name === 'group' && fields.get('group') === fields.get('sourcePath')) return null;
  return fields.get(name === 'byteLength' ? 'byteSize' : name);
}

/** Lines without their ends; an empty last one is left out. */
async function* linesOf(source: RandomAccess): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for (let offset = 0; offset < source.byteSize; offset += READ_BYTES) {
    const read = await source.read(offset, Math.min(READ_BYTES, source.byteSize - offset));
    const bytes = Buffer.concat([rest, read]);
    let start = 0;
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, start)) {
      yield bytes.subarray(start, end);
      start = end + 1;
    }
    rest = Buffer.from(bytes.subarray(start));
    if (rest.length > LINE_BYTES_MAX)
      throw new ManifestError('MANIFEST_UNREADABLE', `The manifest has a line of more than ${LINE_BYTES_MAX} bytes.`);
  }
  if (rest.length > 0) yield rest;
}

function fieldsOf(line: Buffer): Fields | null {
  try {
    const value: unknown = JSON.parse(line.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? new Map(Object.entries(value)) : null;
  } catch {
    return null;
  }
}

/** The hashes of such versions are small: one string of a manifest could not list more than 1.5 million images. */
async function readHashes(
  open: () => Promise<RandomAccess & AsyncDisposable>,
  imageCount: number,
): Promise<(row: number, name: ColumnName) => Uint8Array> {
  await using source = await open();
  const { shape, data } = readNpy(await source.read(0, source.byteSize));
  if (!(data instanceof Uint8Array) || shape.length !== 2 || shape[0] !== imageCount || shape[1] !== IMAGE_HASH_BYTES)
    throw new ManifestError(
      'MANIFEST_COUNT_MISMATCH',
      `The hashes of ${imageCount} images are not uint8 [${imageCount}, ${IMAGE_HASH_BYTES}].`,
    );
  return (row, name) => {
    const start = row * IMAGE_HASH_BYTES;
    return name === 'pixelDigest'
      ? data.subarray(start, start + PIXEL_DIGEST_BYTES)
      : data.subarray(start + PIXEL_DIGEST_BYTES, start + IMAGE_HASH_BYTES);
  };
}

/** Finds each image in its shard. Images are in the same order in both. */
function createPlaces(old: OldVersion): (fields: Fields, row: number) => Promise<ShardImage> {
  let openIndex = -1;
  let images: readonly ShardImage[] = [];
  let next = 0;
  return async (fields, row) => {
    const shard = fields.get('shard');
    if (typeof shard !== 'number' || !Number.isSafeInteger(shard) || shard < 0)
      throw new ManifestError('MANIFEST_ROW_INVALID', `Row ${row} of the manifest: shard must be an integer from 0.`);
    if (shard !== openIndex) {
      await using file = await old.openShard(shard);
      images = await walkShard(file, `shard ${shard}`);
      openIndex = shard;
      next = 0;
    }
    const image = images[next++];
    if (image === undefined || image.key !== fields.get('key'))
      throw new ManifestError(
        'MANIFEST_SHARD_INVALID',
        `Image ${String(fields.get('key'))} of the manifest is not in its place in shard ${shard}.`,
      );
    return image;
  };
}
