/** Batching of exports within one request. */
import DataLoader from 'dataloader';
import type { Database } from '../../platform/db.ts';
import type { ExportRecord } from './exports.records.ts';
import { createExportStore } from './exports.store.ts';

export type ExportLoaders = ReturnType<typeof createExportLoaders>;

export function createExportLoaders(db: Database) {
  const store = createExportStore(db);
  return {
    byCheckpoint: new DataLoader<string, readonly ExportRecord[]>(async (checkpointIds) => {
      const found = Map.groupBy(await store.ofCheckpoints(checkpointIds), (made) => made.checkpointId);
      return checkpointIds.map((id) => found.get(id) ?? []);
    }),
  };
}
