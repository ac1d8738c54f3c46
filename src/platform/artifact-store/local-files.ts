/**
 * Verified local files for readers that seek in an artifact (shards of a training). On a local store this is the stored
 * file itself; of a remote store it is a file in the cache of this machine.
 */
import path from 'node:path';
import { openFileCache } from './file-cache.ts';
import type { LocalFiles } from './local-file.ts';
import type { LocalArtifactStore } from './local.ts';
import type { ArtifactStore } from './store.ts';
import { openVerifiedMemory } from './verified-memory.ts';
import { verifyArtifact } from './verify.ts';

export interface LocalFilesOptions {
  readonly store: Pick<ArtifactStore, 'stat' | 'open' | 'scan'> | LocalArtifactStore;
  /** In which this machine keeps copies of remote artifacts, and remembers which files it has verified. */
  readonly folder: string;
  /** Limit of the copies of remote artifacts. */
  readonly maxBytes: number;
}

export function openLocalFiles({ store, folder, maxBytes }: LocalFilesOptions): LocalFiles {
  const memory = openVerifiedMemory(path.join(folder, 'verified'));
  if (!('pathOf' in store)) return openFileCache({ store, folder, maxBytes, memory });
  const inProgress = new Map<string, Promise<string>>();
  const verified = async (sha256: string): Promise<string> => {
    const file = store.pathOf(sha256);
    if (!(await memory.isVerified(sha256, file)))
      await memory.verified(sha256, file, () => verifyArtifact(store, sha256));
    return file;
  };
  // The server deletes no artifact that a run may still reference, so there is nothing to release.
  const release = (): Promise<void> => Promise.resolve();
  return {
    hold: async (sha256) => {
      const known = inProgress.get(sha256);
      const verifying = known ?? verified(sha256).finally(() => inProgress.delete(sha256));
      if (known === undefined) inProgress.set(sha256, verifying);
      return { path: await verifying, release, [Symbol.asyncDispose]: release };
    },
    close: release,
  };
}
