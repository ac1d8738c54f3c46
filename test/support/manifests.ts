/** Manifests for tests: rows by a formula, written as an import writes them. */
import { createManifestWriter, openManifest, type ManifestRow } from '../../src/formats/manifest/index.ts';
import { accessBytes } from '../../src/formats/random-access.ts';

/** Row `index` of a version with `rowsPerShard` images of 100 bytes in each shard. */
export function manifestRow(index: number, rowsPerShard = 1000): ManifestRow {
  const place = index % rowsPerShard;
  return {
    key: String(index).padStart(9, '0'),
    pixelDigest: Uint8Array.from({ length: 32 }, (_, byte) => (index * 31 + byte * 7) & 255),
    perceptualHash: Uint8Array.from({ length: 8 }, (_, byte) => (index >> byte) & 255),
    label: index % 3 === 0 ? null : `label ${index % 3}`,
    group: index % 2 === 0 ? null : `Patient ${Math.floor(index / 10)} ä`,
    split: index % 5 === 0 ? 'test' : 'train',
    width: 224,
    height: 200 + (index % 2),
    mediaType: index % 4 === 0 ? 'image/png' : 'image/jpeg',
    shard: Math.floor(index / rowsPerShard),
    byteOffset: 512 + place * 1536,
    byteLength: 100 + (index % 10),
    sourcePath: `tumour/日本/${index}.tif`,
  };
}

export function manifestRows(count: number, rowsPerShard = 1000): ManifestRow[] {
  return Array.from({ length: count }, (_, index) => manifestRow(index, rowsPerShard));
}

/** Sizes of shards that hold these rows. */
export function shardByteSizesOf(rows: readonly ManifestRow[]): number[] {
  const sizes: number[] = [];
  for (const { shard, byteOffset, byteLength } of rows) sizes[shard] = byteOffset + byteLength;
  return sizes;
}

export async function manifestBytes(rows: Iterable<ManifestRow>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const writer = createManifestWriter(async (bytes) => {
    parts.push(bytes);
  });
  for (const row of rows) await writer.write(row);
  await writer.finish();
  return Buffer.concat(parts);
}

export type ReadRow = Required<Omit<ManifestRow, 'profileChangedPixels'>>;

/** Every row of a manifest that a version of this program wrote. */
export async function readRows(
  bytes: Buffer,
  version: { readonly imageCount: number; readonly shards: readonly { readonly byteSize: number }[] },
): Promise<ReadRow[]> {
  const manifest = await openManifest(accessBytes(bytes), {
    imageCount: version.imageCount,
    shardByteSizes: version.shards.map(({ byteSize }) => byteSize),
  });
  const columns = await manifest.read([
    ...(['key', 'pixelDigest', 'perceptualHash', 'label', 'group', 'split', 'width', 'height', 'mediaType'] as const),
    ...(['shard', 'byteOffset', 'byteLength', 'sourcePath', 'tissueFraction', 'slide', 'x', 'y'] as const),
    ...(['level0Width', 'level0Height', 'micronsPerPixel', 'maskOffset', 'maskLength'] as const),
    ...(['sourceWidth', 'sourceHeight', 'sourceProfileSha256'] as const),
  ]);
  const numberAt = (values: Float64Array, row: number): number | null => {
    const value = values[row] ?? NaN;
    return Number.isNaN(value) ? null : value;
  };
  return Array.from({ length: version.imageCount }, (_, row) => ({
    key: columns.key.at(row) ?? '',
    pixelDigest: columns.pixelDigest.slice(row * 32, row * 32 + 32),
    perceptualHash: columns.perceptualHash.slice(row * 8, row * 8 + 8),
    label: columns.label.at(row),
    group: columns.group.at(row),
    split: columns.split.at(row),
    width: columns.width[row] ?? 0,
    height: columns.height[row] ?? 0,
    mediaType: columns.mediaType.at(row) ?? '',
    shard: columns.shard[row] ?? 0,
    byteOffset: columns.byteOffset[row] ?? 0,
    byteLength: columns.byteLength[row] ?? 0,
    sourcePath: columns.sourcePath.at(row),
    tissueFraction: numberAt(columns.tissueFraction, row),
    slide: columns.slide.at(row),
    x: numberAt(columns.x, row),
    y: numberAt(columns.y, row),
    level0Width: numberAt(columns.level0Width, row),
    level0Height: numberAt(columns.level0Height, row),
    micronsPerPixel: numberAt(columns.micronsPerPixel, row),
    maskOffset: numberAt(columns.maskOffset, row),
    maskLength: numberAt(columns.maskLength, row),
    sourceWidth: numberAt(columns.sourceWidth, row),
    sourceHeight: numberAt(columns.sourceHeight, row),
    sourceProfileSha256: columns.sourceProfileSha256.at(row),
  }));
}
