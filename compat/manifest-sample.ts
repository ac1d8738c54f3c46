/** A manifest as an import writes it, for the readers that docs/manifest.md names. */
import { open } from 'node:fs/promises';
import { createManifestWriter } from '../src/formats/manifest/index.ts';

export interface ManifestSample {
  readonly rowCount: number;
  /** Rows without a group. */
  readonly ungroupedCount: number;
}

/** More rows than one row group has; every other image has no group, every third no label. */
export async function writeManifestSample(filePath: string): Promise<ManifestSample> {
  const rowCount = 70_000;
  await using file = await open(filePath, 'w');
  const writer = createManifestWriter((bytes) => file.appendFile(bytes));
  for (let row = 0; row < rowCount; row += 1)
    await writer.write({
      key: String(row).padStart(9, '0'),
      pixelDigest: Uint8Array.from({ length: 32 }, (_, byte) => (row >> (byte % 16)) & 255),
      perceptualHash: Uint8Array.from({ length: 8 }, (_, byte) => (row >> byte) & 255),
      label: row % 3 === 0 ? null : `label ${row % 3}`,
      group: row % 2 === 0 ? null : `patient ${row % 100}`,
      split: null,
      ...{ width: 224, height: 224, mediaType: 'image/jpeg' },
      ...{ shard: 0, byteOffset: 512 + 1024 * row, byteLength: 500 },
      sourcePath: `tumour/${row}.jpg`,
    });
  await writer.finish();
  return { rowCount, ungroupedCount: rowCount / 2 };
}
