/**
 * Garbage collection: deletes bytes that nothing references any more, safely for a caller that is about to reference
 * them.
 */
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import type { Database, Transact, Transaction } from '../../platform/db.ts';
import { deleteUnreferenced, recordedAmong, sumOfUnreferenced, type ArtifactSize } from './references.store.ts';
import { pagesOf, type Sum } from './fsck.ts';

/** What one module gives up: rows that referenced artifacts, and the rows of the same kind that stay. */
export interface DroppedReferences {
  /** In the plural and in lower case, as the report names it, e.g. `training states`. */
  readonly kind: string;
  readonly droppedCount: number;
  /** The artifacts that the dropped rows referenced. */
  readonly sha256s: readonly string[];
  readonly kept: Sum;
}

export interface GarbageOptions {
  readonly db: Database;
  readonly transact: Transact;
  readonly store: ArtifactStore;
  /** Nothing that was stored or recorded at or after this instant is touched. */
  readonly before: Date;
  /** If true, only reports what would be deleted. */
  readonly dryRun: boolean;
  /** Called first, in the same transaction, so that other modules drop the references that they no longer need. */
  readonly dropReferences?: readonly ((tx: Transaction) => Promise<DroppedReferences>)[];
}

/** One kind of object: what was deleted of it, and what stays. */
export interface KindReport {
  readonly kind: string;
  /** The bytes are those that nothing else references. */
  readonly deleted: Sum;
  readonly kept: Sum;
}

export interface GarbageReport {
  readonly kinds: readonly KindReport[];
  /** Rows that nothing referenced. */
  readonly rows: Sum;
  /** Files without a row, including files left over from a collection that crashed. */
  readonly files: Sum;
}

/** Rolls back the transaction of a dry run after it has counted. */
class RollbackError extends Error {}

/**
 * Deletes unreferenced rows in one transaction, then the files without a row.
 *
 * A run stores bytes first, records them later, and references them in the transaction that records them. Until then
 * its file is young, because storing the same bytes again renews the file; and while it records, it holds the row's
 * lock. So nothing that is old and unlocked is about to be referenced.
 */
export async function collectGarbage({
  db,
  transact,
  store,
  before,
  dryRun,
  dropReferences = [],
}: GarbageOptions): Promise<GarbageReport> {
  let rows: ArtifactSize[] = [];
  let kinds: KindReport[] = [];
  const collecting = transact(async (tx) => {
    const dropped: DroppedReferences[] = [];
    for (const drop of dropReferences) dropped.push(await drop(tx));
    kinds = await Promise.all(dropped.map((each) => reportOf(tx, each)));
    rows = await deleteUnreferenced(tx, before);
    if (dryRun) throw new RollbackError();
  });
  await collecting.catch((error: unknown) => {
    if (!(error instanceof RollbackError)) throw error;
  });
  const gone = new Set(rows.map((row) => row.sha256));
  let files: Sum = { count: 0, byteSize: 0 };
  for await (const { named } of pagesOf(store.list())) {
    const recorded = await recordedAmong(db, [...named.keys()]);
    for (const [sha256, { byteSize, writtenAt }] of named) {
      const isWanted = recorded.has(sha256) && !(dryRun && gone.has(sha256));
      if (isWanted || writtenAt >= before) continue;
      if (dryRun || (await store.delete(sha256, before)))
        files = { count: files.count + 1, byteSize: files.byteSize + byteSize };
    }
  }
  return { kinds, rows: { count: rows.length, byteSize: rows.reduce((sum, row) => sum + row.byteSize, 0) }, files };
}

async function reportOf(
  tx: Transaction,
  { kind, droppedCount, sha256s, kept }: DroppedReferences,
): Promise<KindReport> {
  const { byteSize } = await sumOfUnreferenced(tx, sha256s);
  return { kind, deleted: { count: droppedCount, byteSize }, kept };
}
