/** Batching of models and checkpoints within one request. */
import DataLoader from 'dataloader';
import type { Database } from '../../platform/db.ts';
import type { CheckpointRecord, CheckpointSource, GoldenRecord, MentionedCheckpointRecord, ModelAliasRecord, ModelRecord } from './models.records.ts';
import { createModelStore } from './models.store.ts';

export type ModelLoaders = ReturnType<typeof createModelLoaders>;

/** `modelById` and `mentionedById` are for ids that a foreign key holds: an unknown one is a fault. */
export function createModelLoaders(db: Database) {
  const store = createModelStore(db);
  const checkpointById = new DataLoader<string, CheckpointRecord>(async (ids) => inOrder(ids, await store.findCheckpoints(ids), 'Checkpoint'));
  return {
    modelById: new DataLoader<string, ModelRecord>(async (ids) => inOrder(ids, await store.findMany(ids), 'Model')),
    /** What a mention leaves out is read now. */
    wholeCheckpoint: async (checkpoint: CheckpointSource): Promise<CheckpointRecord> => ('sha256' in checkpoint ? checkpoint : checkpointById.load(checkpoint.id)),
    mentionedById: new DataLoader<string, MentionedCheckpointRecord>(async (ids) => inOrder(ids, await store.mentionCheckpoints(ids), 'Checkpoint')),
    aliasesByModel: new DataLoader<string, readonly ModelAliasRecord[]>(async (ids) => {
      const found = Map.groupBy(await store.aliasesOf(ids), (alias) => alias.modelId);
      return ids.map((id) => found.get(id) ?? []);
    }),
    checkpointsByRun: new DataLoader<string, CheckpointRecord[]>(async (runIds) => {
      const found = Map.groupBy(await store.checkpointsOfRuns(runIds), (checkpoint) => checkpoint.sourceRunId);
      return runIds.map((id) => found.get(id) ?? []);
    }),
    trainedOnByCheckpoint: new DataLoader<string, readonly string[]>(async (ids) => {
      const found = Map.groupBy(await store.trainedOnOf(ids), (link) => link.checkpointId);
      return ids.map((id) => (found.get(id) ?? []).map((link) => link.datasetVersionId));
    }),
    goldenByCheckpoint: new DataLoader<string, GoldenRecord | null>(async (ids) => {
      const found = await store.goldenOf(ids);
      return ids.map((id) => found.get(id) ?? null);
    }),
  };
}

function inOrder<Row extends { readonly id: string }>(ids: readonly string[], rows: readonly Row[], what: string): (Row | Error)[] {
  const found = new Map(rows.map((row) => [row.id, row]));
  return ids.map((id) => found.get(id) ?? new Error(`${what} ${id} is gone although something refers to it.`));
}
