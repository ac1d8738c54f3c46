/** Copies the artifacts of a registry into another store: from a disk into a bucket, or back. */
import { DomainError } from '../../errors.ts';
import type { ArtifactStore, ByteSource, LocalArtifactStore } from '../../platform/artifact-store/index.ts';
import type { Database } from '../../platform/db.ts';
import type { Sum } from './fsck.ts';
import { adoptArtifactStore } from './identity.ts';
import { artifactsAfter, sumOfArtifacts } from './references.store.ts';

export interface CopyOptions {
  readonly db: Database;
  readonly from: ArtifactStore;
  readonly to: ArtifactStore;
  readonly onProgress?: (progress: { readonly bytesDone: number; readonly bytesTotal: number }) => void;
  readonly signal?: AbortSignal;
}

export interface CopyReport {
  readonly copied: Sum;
  /** Artifacts that the destination held already, from an earlier copy. */
  readonly present: Sum;
  /** Artifacts that are missing or damaged in the source. */
  readonly damaged: readonly string[];
}

const PAGE_SIZE = 500;
/** Hides the round trips of a bucket; each holds a few parts in memory. */
const COPIES_AT_ONCE = 4;

/**
 * Copies every artifact that has a row, verified on the way, and then gives the destination the registry's identity. A
 * copy that was interrupted continues with what is missing. Safe while others store artifacts: those that arrive
 * meanwhile are copied by the next call.
 * @throws DomainError CONFLICT for a destination that belongs to another registry.
 */
export async function copyArtifacts({ db, from, to, onProgress, signal }: CopyOptions): Promise<CopyReport> {
  await adoptArtifactStore({ db, store: to });
  const total = await sumOfArtifacts(db);
  const copied = { count: 0, byteSize: 0 };
  const present = { count: 0, byteSize: 0 };
  const damaged: string[] = [];
  const copyOne = async (sha256: string, byteSize: number): Promise<void> => {
    signal?.throwIfAborted();
    // An artifact is whole or absent in every store, so its size says whether it is there.
    const isPresent = (await to.stat(sha256))?.byteSize === byteSize;
    if (!isPresent && !(await copyVerified(from, to, sha256))) damaged.push(sha256);
    else {
      const sum = isPresent ? present : copied;
      sum.count += 1;
      sum.byteSize += byteSize;
    }
    onProgress?.({ bytesDone: copied.byteSize + present.byteSize, bytesTotal: total.byteSize });
  };
  for (let last = ''; ;) {
    const page = await artifactsAfter(db, last, PAGE_SIZE);
    const waiting = [...page];
    await Promise.all(
      Array.from({ length: COPIES_AT_ONCE }, async () => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
          await copyOne(next.sha256, next.byteSize);
      }),
    );
    const end = page.at(-1);
    if (end === undefined) return { copied, present, damaged: damaged.sort() };
    last = end.sha256;
  }
}

/** The stored file itself, if there is one: a bucket takes a file faster than a stream. */
async function sourceOf(from: ArtifactStore | LocalArtifactStore, sha256: string): Promise<ByteSource> {
  if (!('pathOf' in from)) return from.open(sha256);
  // Fails with the reason: missing, or in quarantine.
  if ((await from.stat(sha256)) === undefined) return from.open(sha256);
  return { file: from.pathOf(sha256) };
}

/** @returns false for an artifact that is missing or damaged in the source. */
async function copyVerified(from: ArtifactStore, to: ArtifactStore, sha256: string): Promise<boolean> {
  try {
    const stored = await to.put(await sourceOf(from, sha256), sha256);
    return stored.sha256 === sha256;
  } catch (error) {
    if (error instanceof DomainError && (error.code === 'ARTIFACT_NOT_FOUND' || error.code === 'ARTIFACT_CORRUPT'))
      return false;
    throw error;
  }
}
