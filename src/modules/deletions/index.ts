/** Deletions: what can be deleted, and the tombstone that remains. */
import type { Database, Transact } from '../../platform/db.ts';
import { createDeletionService, type DeletionService } from './deletions.service.ts';
import { createDeletionStore } from './deletions.store.ts';

export { DELETABLE_KINDS, type DeletableKind, type TombstoneRecord } from './deletions.rules.ts';
export type { DeletionService } from './deletions.service.ts';
export { lastDeletedVersion } from './deletions.store.ts';

export function createDeletions({
  db,
  transact,
}: {
  readonly db: Database;
  readonly transact: Transact;
}): DeletionService {
  return createDeletionService({ store: createDeletionStore(db), transact });
}
