/** Workers as one request sees them. */
import type { Database } from '../../platform/db.ts';
import type { WorkerRecord } from './workers.records.ts';
import { createWorkerStore } from './workers.store.ts';

export type WorkerLoaders = ReturnType<typeof createWorkerLoaders>;

export function createWorkerLoaders(db: Database) {
  const store = createWorkerStore(db);
  let known: Promise<WorkerRecord[]> | undefined;
  return {
    /** Every worker that was heard in the last week, read once. */
    all: (): Promise<readonly WorkerRecord[]> => (known ??= store.list()),
  };
}
