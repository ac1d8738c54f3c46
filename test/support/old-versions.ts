/** Versions as they were sealed before manifests were Parquet files: JSON lines, with hashes in another artifact. */
import { writeNpy } from '../../src/formats/npy.ts';
import type { SealedVersionRecord } from '../../src/modules/datasets/index.ts';
import { importIssuesSchema } from '../../src/modules/datasets/versions.rules.ts';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store/index.ts';
import type { TestDatabase } from './database.ts';
import { readRows } from './manifests.ts';

/** Seals the images of a version again, as an older program did, and returns the id of the new version. */
export async function sealAsBefore(
  { db }: TestDatabase,
  store: ArtifactStore,
  version: SealedVersionRecord,
  {
    datasetId,
    version: number,
    hashed,
  }: { readonly datasetId: string; readonly version: number; readonly hashed: boolean },
): Promise<string> {
  const rows = await readRows(await store.read(version.manifestSha256), version);
  const lines = rows.map(({ key, label, group, split, width, height, shard, byteLength, sourcePath }) =>
    JSON.stringify({
      ...{ key, sha256: '0'.repeat(64), label, group: group ?? sourcePath, split, width, height, shard },
      ...{ byteSize: byteLength, sourcePath },
    }),
  );
  const record = async (stored: StoredBytes, mediaType: string): Promise<string> => {
    const { sha256, byteSize } = stored;
    await db.artifact.upsert({ where: { sha256 }, update: {}, create: { sha256, byteSize, mediaType } });
    return sha256;
  };
  const manifestSha256 = await record(await store.put(Buffer.from(`${lines.join('\n')}\n`)), 'application/jsonl');
  const hashes = writeNpy({
    shape: [rows.length, 40],
    data: Buffer.concat(rows.flatMap(({ pixelDigest, perceptualHash }) => [pixelDigest, perceptualHash])),
  });
  const imageHashesSha256 = hashed ? await record(await store.put(hashes), 'application/x-npy') : null;
  const { imageCount, byteSize, hasSplit, labelNames } = version;
  const groupCount = new Set(rows.map(({ group, sourcePath }) => group ?? sourcePath)).size;
  const draft = await db.datasetVersion.create({
    data: {
      ...{ datasetId, version: number, digest: manifestSha256, digestRule: 'MANIFEST_FILE' },
      ...{ manifestSha256, imageHashesSha256, imageCount, byteSize, groupCount, hasSplit },
      labelNames: [...labelNames],
      labelCounts: version.labelCounts.map((each) => ({ ...each })),
      issues: importIssuesSchema.parse(version.issues),
    },
  });
  await db.datasetShard.createMany({
    data: version.shards.map((shard, position) => ({ ...shard, position, datasetVersionId: draft.id })),
  });
  await db.datasetVersion.update({ where: { id: draft.id }, data: { status: 'SEALED', sealedAt: new Date() } });
  return draft.id;
}
