/** Batching of placements within one request. */
import DataLoader from 'dataloader';
import type { Database } from '../../platform/db.ts';
import type { PlacementRecord } from './placements.records.ts';
import { createPlacementStore } from './placements.store.ts';

export type PlacementLoaders = ReturnType<typeof createPlacementLoaders>;

export function createPlacementLoaders(db: Database) {
  const store = createPlacementStore(db);
  return {
    /** The newest first. */
    byRun: new DataLoader<string, readonly PlacementRecord[]>(async (runIds) => {
      const found = Map.groupBy(await store.ofRuns(runIds), ({ runId }) => runId);
      return runIds.map((id) => found.get(id) ?? []);
    }),
  };
}
