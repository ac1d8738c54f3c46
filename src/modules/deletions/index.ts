/** Deletions: what can be deleted, and the tombstone that remains. */
import type { Database } from '../../platform/db.ts';
import { createDeletionService, type DeletionService, type DeletionServiceParts } from './deletions.service.ts';
import { createDeletionStore } from './deletions.store.ts';

export { DELETABLE_KINDS, type DeletableKind, type TombstoneRecord } from './deletions.rules.ts';
export type { DeletionService } from './deletions.service.ts';
export { lastDeletedVersion } from './deletions.store.ts';

export function createDeletions(db: Database, parts: Omit<DeletionServiceParts, 'store'>): DeletionService {
  return createDeletionService({ ...parts, store: createDeletionStore(db) });
}
