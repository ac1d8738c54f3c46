/** Opens the manifest of a version as a verified local file, whichever kind of manifest the version has. */
import { open } from 'node:fs/promises';
import { openManifest, type Manifest } from '../../src/formats/manifest/index.ts';
import { accessFile, type RandomAccess } from '../../src/formats/random-access.ts';
import type { SealedVersionRecord } from '../../src/modules/datasets/index.ts';
import type { TaskContext } from './task.ts';

export type OpenedManifest = Manifest & AsyncDisposable;

/** Throws ManifestError, and the errors of the artifact store. The caller disposes of it. */
export async function openVersionManifest(
  context: Pick<TaskContext, 'localFile'>,
  { manifestSha256, imageHashesSha256, imageCount, shards }: SealedVersionRecord,
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
