/**
 * Deletes the bytes that a run replaces while it goes on, so that a training that lasts for weeks does not fill the
 * disk before the next `paraffin gc`.
 */
import { DomainError } from '../../errors.ts';
import { withStoredBytesLock } from '../../platform/advisory-lock.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import type { Database, Transact } from '../../platform/db.ts';
import type { Sum } from './fsck.ts';
import { deleteUnreferenced, hasUnreferenced } from './references.store.ts';

export const TRAINING_STATE_MEDIA_TYPE = 'application/vnd.paraffin.training-state';
export const EMBEDDING_BLOCK_MEDIA_TYPE = 'application/vnd.paraffin.embedding-block';
export const IMPORT_BLOCK_MEDIA_TYPE = 'application/vnd.paraffin.import-block';
export const IMPORT_PART_MEDIA_TYPE = 'application/vnd.paraffin.import-part';

/** Kinds of bytes that only one run needs, and only until it has stored what follows them. */
const REPLACED_MEDIA_TYPES = [
  TRAINING_STATE_MEDIA_TYPE,
  EMBEDDING_BLOCK_MEDIA_TYPE,
  IMPORT_BLOCK_MEDIA_TYPE,
  IMPORT_PART_MEDIA_TYPE,
];

/**
 * A worker records such bytes as soon as it has stored them, and waits three minutes at most for the database. Other
 * artifacts may be recorded hours after they were stored; they are left to garbage collection.
 */
const REPLACED_GRACE_MS = 10 * 60_000;

const SWEEP_EVERY_MS = 5 * 60_000;

export interface SweepOptions {
  readonly db: Database;
  readonly transact: Transact;
  readonly databaseUrl: string;
  readonly store: ArtifactStore;
}

/**
 * Deletes replaced bytes that nothing references any more.
 * @param before nothing that was stored or recorded at or after this instant is touched.
 * @throws DomainError CONFLICT if a backup, a check or a garbage collection is at work; it can be tried again later.
 */
export async function sweepReplaced(
  { db, transact, databaseUrl, store }: SweepOptions,
  before = new Date(Date.now() - REPLACED_GRACE_MS),
): Promise<Sum> {
  // The lock would make a backup that starts at this moment fail, so it is taken only if there is something to delete.
  if (!(await hasUnreferenced(db, before, REPLACED_MEDIA_TYPES))) return { count: 0, byteSize: 0 };
  return withStoredBytesLock(databaseUrl, 'EXCLUSIVE', async () => {
    // The rows go first: a file without a row is found by garbage collection, a row without a file would be damage.
    const rows = await transact((tx) => deleteUnreferenced(tx, before, REPLACED_MEDIA_TYPES));
    for (const { sha256 } of rows) await store.delete(sha256, before);
    return { count: rows.length, byteSize: rows.reduce((sum, row) => sum + row.byteSize, 0) };
  });
}

export interface SweeperOptions extends SweepOptions {
  readonly onSwept: (deleted: Sum) => void;
  readonly onError: (error: unknown) => void;
}

/** Sweeps every five minutes. @returns a function that ends it, and resolves when the last sweep is over. */
export function startSweeper({ onSwept, onError, ...options }: SweeperOptions): () => Promise<void> {
  let sweeping: Promise<void> | undefined;
  const sweep = async (): Promise<void> => {
    try {
      const deleted = await sweepReplaced(options);
      if (deleted.count > 0) onSwept(deleted);
    } catch (error) {
      if (!(error instanceof DomainError && error.code === 'CONFLICT')) onError(error);
    }
  };
  const timer = setInterval(() => {
    sweeping ??= sweep().finally(() => {
      sweeping = undefined;
    });
  }, SWEEP_EVERY_MS);
  return async () => {
    clearInterval(timer);
    await sweeping;
  };
}
