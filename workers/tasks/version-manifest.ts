/** Opens the manifest of a version as a verified local file, whichever kind of manifest the version has. */
import { open } from 'node:fs/promises';
import { openManifest, type Manifest } from '../../src/formats/manifest/index.ts';
import { accessFile, type RandomAccess } from '../../src/formats/random-access.ts';
import { DomainError } from '../../src/errors.ts';
import type { SealedVersion } from '../../src/protocol/dataset-version.ts';
import { imageList, type ManifestImages } from '../engine/data/manifest.ts';
import type { TaskContext, TaskRegistry } from './task.ts';

export type OpenedManifest = Manifest & AsyncDisposable;

/** What of a version its manifest needs. */
export type VersionWithManifest = Pick<SealedVersion, 'manifestSha256' | 'imageHashesSha256' | 'imageCount' | 'shards'>;

/** Throws DATASET_VERSION_NOT_FOUND and DATASET_VERSION_NOT_SEALED. */
export async function sealedVersion(
  registry: Pick<TaskRegistry, 'sealedVersions'>,
  id: string,
): Promise<SealedVersion> {
  const [version] = await registry.sealedVersions({ ids: [id] });
  if (version !== undefined) return version;
  throw new DomainError({ code: 'DATASET_VERSION_NOT_FOUND', message: 'The dataset version is gone.' });
}

/** Throws ManifestError, and the errors of the artifact store. The caller disposes of it. */
export async function openVersionManifest(
  context: Pick<TaskContext, 'localFile'>,
  { manifestSha256, imageHashesSha256, imageCount, shards }: VersionWithManifest,
): Promise<OpenedManifest> {
  const file = await openArtifact(context, manifestSha256);
  try {
    const manifest = await openManifest(file, {
      imageCount,
      shardByteSizes: shards.map(({ byteSize }) => byteSize),
      old: {
        openImageHashes: imageHashesSha256 === null ? null : () => openArtifact(context, imageHashesSha256),
        openShard: (shard) => openArtifact(context, shards[shard]?.sha256 ?? ''),
      },
    });
    return { ...manifest, [Symbol.asyncDispose]: () => file[Symbol.asyncDispose]() };
  } catch (error) {
    await file[Symbol.asyncDispose]();
    throw error;
  }
}

/** Every image of a version, in its order; in memory are the columns. */
export async function imagesOfVersion(
  context: Pick<TaskContext, 'localFile'>,
  version: VersionWithManifest,
): Promise<ManifestImages> {
  await using manifest = await openVersionManifest(context, version);
  const columns = await manifest.read(['key', 'label', 'group', 'split', 'shard', 'sourcePath']);
  /** Of the first image of each shard. */
  const firstRows = new Map<number, number>();
  for (let row = 0; row < manifest.rowCount; row += 1) {
    const shard = columns.shard[row] ?? 0;
    if (!firstRows.has(shard)) firstRows.set(shard, row);
  }
  return imageList(manifest.rowCount, (row) => {
    const shard = columns.shard[row] ?? 0;
    return {
      key: columns.key.at(row) ?? '',
      label: columns.label.at(row),
      group: columns.group.at(row),
      split: columns.split.at(row),
      shard,
      indexInShard: row - (firstRows.get(shard) ?? row),
      sourcePath: columns.sourcePath.at(row),
    };
  });
}

/** False for a version that was sealed before images were hashed. */
export function hasImageHashes({ digestRule, imageHashesSha256 }: SealedVersion): boolean {
  return digestRule === 'PIXELS' || imageHashesSha256 !== null;
}

async function openArtifact(
  { localFile }: Pick<TaskContext, 'localFile'>,
  sha256: string,
): Promise<RandomAccess & AsyncDisposable> {
  const local = await localFile(sha256);
  try {
    const handle = await open(local.path);
    const { size } = await handle.stat();
    const close = async (): Promise<void> => {
      await handle.close();
      await local.release();
    };
    return { ...accessFile(handle, size), [Symbol.asyncDispose]: close };
  } catch (error) {
    await local.release();
    throw error;
  }
}
