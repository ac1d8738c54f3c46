/** Models: named series of encoders, with their checkpoints and aliases. */
import type { Database } from '../../platform/db.ts';
import { createCheckpointStore } from './checkpoints.store.ts';
import {
  createCheckpointImports as createImports,
  type CheckpointImportParts,
  type CheckpointImportService,
} from './imports.service.ts';
import { createLineageStore } from './lineage.store.ts';
import { createModelService as createService, type ModelService, type ModelServiceParts } from './models.service.ts';
import { createModelStore } from './models.store.ts';
import { fillTensorDigests as fill, type TensorDigestParts } from './tensor-digests.ts';

export type { CheckpointImportService } from './imports.service.ts';
export { loadPublishedCheckpoints } from './published.ts';
export { seedPublishedCheckpoints } from './published.store.ts';
export { createModelLoaders, type ModelLoaders } from './models.loaders.ts';
export type {
  CheckpointRecord,
  ExternalSourceRecord,
  ModelAliasRecord,
  ModelRecord,
  NewCheckpoint,
  PretrainingRecord,
  UsableCheckpointRecord,
  WeightsFileRecord,
} from './models.records.ts';
export { WEIGHTS_FORMATS, type WeightsFormat } from './models.rules.ts';
export { precisionSentence } from './precision.rules.ts';
export type { CheckpointListFilter, ModelReference, ModelService } from './models.service.ts';
export type { ModelFilter } from './models.store.ts';

type Stores = ReturnType<typeof storesOf>;

function storesOf(db: Database) {
  return { models: createModelStore(db), checkpoints: createCheckpointStore(db), lineage: createLineageStore(db) };
}

export function createModelService({
  db,
  ...parts
}: { readonly db: Database } & Omit<ModelServiceParts, keyof Stores>): ModelService {
  return createService({ ...parts, ...storesOf(db) });
}

export function createCheckpointImports({
  db,
  ...parts
}: { readonly db: Database } & Omit<CheckpointImportParts, keyof Stores>): CheckpointImportService {
  return createImports({ ...parts, ...storesOf(db) });
}

/** @returns the number of older checkpoints that received a tensor digest; see tensor-digests.ts. */
export function fillTensorDigests(
  { db, ...parts }: { readonly db: Database } & Omit<TensorDigestParts, keyof Stores>,
  signal: AbortSignal,
): Promise<number> {
  return fill({ ...parts, ...storesOf(db) }, signal);
}
