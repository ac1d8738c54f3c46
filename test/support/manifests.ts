/** Manifests for tests: rows by a formula, written as an import writes them. */
import { createManifestWriter, type ManifestRow } from '../../src/formats/manifest/index.ts';

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
