/**
 * Verified local files for readers that seek in an artifact (shards of a training). On a local store this is the stored
 * file itself.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { LocalArtifactStore } from './local.ts';
import { verifyArtifact } from './verify.ts';

/** A verified file, which stays as it is until it is released. */
export interface LocalFile extends AsyncDisposable {
  readonly path: string;
  /** Safe to call twice. */
  release(): Promise<void>;
}

export interface LocalFiles {
  /**
   * The artifact as a local file whose digest was verified. Calls for the same artifact share the work, so a reader
   * that needs a file later calls early and awaits late.
   * @throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT.
   */
  hold(sha256: string): Promise<LocalFile>;
}

export interface LocalFilesOptions {
  readonly store: LocalArtifactStore;
  /** The folder in which this machine remembers which files it has verified. */
  readonly folder: string;
}

/**
 * A file is read in full once per machine. What was found is remembered together with its size, modification time and
 * inode: a file that was written since, or replaced by another one, is read again.
 */
export function openLocalFiles({ store, folder }: LocalFilesOptions): LocalFiles {
  const memory = openVerifiedMemory(path.join(folder, 'verified'));
  const inProgress = new Map<string, Promise<string>>();

  const verified = async (sha256: string): Promise<string> => {
    const file = store.pathOf(sha256);
    const before = await imprintOf(file);
    if (before !== undefined && (await memory.recall(sha256)) === before) return file;
    // Also throws the right error for a file that is missing or in quarantine.
    await verifyArtifact(store, sha256);
    // A file that changed while it was read is not remembered; the next reader verifies it again.
    if (before !== undefined && (await imprintOf(file)) === before) await memory.remember(sha256, before);
    return file;
  };
  return {
    hold: async (sha256) => {
      const known = inProgress.get(sha256);
      const verifying = known ?? verified(sha256).finally(() => inProgress.delete(sha256));
      if (known === undefined) inProgress.set(sha256, verifying);
      const file = await verifying;
      // The server deletes no artifact that a run may still reference, so there is nothing to release.
      const release = (): Promise<void> => Promise.resolve();
      return { path: file, release, [Symbol.asyncDispose]: release };
    },
  };
}

interface VerifiedMemory {
  /** The imprint of the file when it was last verified; undefined if it never was. */
  recall(sha256: string): Promise<string | undefined>;
  remember(sha256: string, imprint: string): Promise<void>;
}

/** One small file per artifact, so that processes need no lock: each is replaced as a whole. */
function openVerifiedMemory(folder: string): VerifiedMemory {
  const pathOf = (sha256: string): string => path.join(folder, sha256.slice(0, 2), sha256);
  return {
    recall: (sha256) => readFile(pathOf(sha256), 'utf8').catch(() => undefined),
    remember: async (sha256, imprint) => {
      await mkdir(path.dirname(pathOf(sha256)), { recursive: true, mode: 0o700 });
      const temporaryPath = `${pathOf(sha256)}.${randomUUID()}`;
      await writeFile(temporaryPath, imprint, { mode: 0o600 });
      await rename(temporaryPath, pathOf(sha256));
    },
  };
}

/** Changes when the file is written or replaced; undefined for a file that does not exist. */
async function imprintOf(file: string): Promise<string | undefined> {
  return stat(file, { bigint: true }).then(
    ({ size, mtimeNs, dev, ino }) => `${size} ${mtimeNs} ${dev}:${ino}\n`,
    () => undefined,
  );
}
