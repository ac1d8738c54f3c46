/**
 * Garbage collection: bytes that nothing cites any more, deleted in a way that is safe for a caller about to cite
 * them.
 */
import type { ArtifactStore } from '../../platform/artifact-store.ts';
import type { Database, Transact, Transaction } from '../../platform/db.ts';
import { deleteUncited, recordedAmong, type ArtifactSize } from './custody.store.ts';
import { pagesOf, type Sum } from './fsck.ts';

export interface GarbageOptions {
  readonly db: Database;
  readonly transact: Transact;
  readonly store: ArtifactStore;
  /** Nothing that was stored or recorded at or after this instant is touched. */
  readonly before: Date;
  /** True: everything is found out, nothing is changed. */
  readonly dryRun: boolean;
  /** What other modules give up first, in the same transaction, so that it counts as uncited. */
  readonly giveUp?: (tx: Transaction) => Promise<void>;
}

export interface GarbageReport {
  /** Rows that nothing cited. */
  readonly rows: Sum;
  /** Files that no row names any more; what a rerun after a crash finds is counted here too. */
  readonly files: Sum;
}

/** Undoes a transaction that has told what it was for. */
class Undo extends Error {}

/**
 * Deletes uncited rows in one transaction, then the files without a row.
 *
 * A run stores bytes first, records them later, and cites them in the transaction that records them. Between the first
 * and the last step its file is young, for storing the same bytes again renews the file; and while it records, it holds
 * the row's lock. So nothing that is old and unlocked is about to be cited.
 */
export async function collectGarbage({
  db,
  transact,
  store,
  before,
  dryRun,
  giveUp,
}: GarbageOptions): Promise<GarbageReport> {
  let rows: ArtifactSize[] = [];
  const collecting = transact(async (tx) => {
    await giveUp?.(tx);
    rows = await deleteUncited(tx, before);
    if (dryRun) throw new Undo();
  });
  await collecting.catch((error: unknown) => {
    if (!(error instanceof Undo)) throw error;
  });
  const gone = new Set(rows.map((row) => row.sha256));
  let files: Sum = { count: 0, byteSize: 0 };
  for await (const { named } of pagesOf(store.files())) {
    const recorded = await recordedAmong(db, [...named.keys()]);
    for (const [sha256, { byteSize, writtenAt }] of named) {
      const isWanted = recorded.has(sha256) && !(dryRun && gone.has(sha256));
      if (isWanted || writtenAt >= before) continue;
      if (dryRun || (await store.remove(sha256, before)))
        files = { count: files.count + 1, byteSize: files.byteSize + byteSize };
    }
  }
  return { rows: { count: rows.length, byteSize: rows.reduce((sum, row) => sum + row.byteSize, 0) }, files };
}
