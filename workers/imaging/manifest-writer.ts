/** Writes the manifest of a version into a file, and computes the digest of the version from the same rows. */
import { open } from 'node:fs/promises';
import { createManifestWriter, type ManifestRow } from '../../src/formats/manifest/index.ts';
import { createVersionDigest } from '../../src/formats/manifest/version-digest.ts';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store/index.ts';

export interface ManifestFile {
  /** Rows come in the order of the version. */
  write(row: ManifestRow): Promise<void>;
  store(artifacts: Pick<ArtifactStore, 'put'>): Promise<StoredManifest>;
  /** Closes the file, which the caller removes. */
  abandon(): Promise<void>;
}

export interface StoredManifest {
  readonly manifest: StoredBytes;
  /** Of the version: see version-digest.ts. */
  readonly digest: string;
}

/** The file waits on the disk, so that an import that fails has stored no manifest. */
export async function createManifestFile(filePath: string): Promise<ManifestFile> {
  const file = await open(filePath, 'wx');
  const writer = createManifestWriter((bytes) => file.appendFile(bytes));
  const digest = createVersionDigest();
  return {
    write: async (row) => {
      digest.add(row);
      await writer.write(row);
    },
    store: async (artifacts) => {
      await writer.finish();
      await file.close();
      return { manifest: await artifacts.put({ file: filePath }), digest: digest.finish() };
    },
    abandon: () => file.close(),
  };
}
