/** Placements: jobs of Slurm or Kubernetes that launchers asked to carry runs. */
import type { Database } from '../../platform/db.ts';
import { createPlacementService, type PlacementService, type PlacementServiceParts } from './placements.service.ts';
import { createPlacementStore } from './placements.store.ts';

export { createPlacementLoaders, type PlacementLoaders } from './placements.loaders.ts';
export type { PlacementRecord } from './placements.records.ts';
export type { PlacementService, PlacementWork } from './placements.service.ts';

/** The module's interface for the server. */
export function createPlacements(db: Database, parts: Omit<PlacementServiceParts, 'store'>): PlacementService {
  return createPlacementService({ ...parts, store: createPlacementStore(db) });
}
