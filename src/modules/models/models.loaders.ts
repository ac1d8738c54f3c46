/** Batching of models and checkpoints within one request. */
import DataLoader from 'dataloader';
import type { Database } from '../../platform/db.ts';
import { encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { createCheckpointStore } from './checkpoints.store.ts';
import { createLineageStore } from './lineage.store.ts';
import type {
  CheckpointRecord,
  CheckpointSource,
  MentionedCheckpointRecord,
  ModelAliasRecord,
  ModelRecord,
} from './models.records.ts';
import { createModelStore } from './models.store.ts';
import type { GoldenRecord } from '../../protocol/checkpoint.ts';

export type ModelLoaders = ReturnType<typeof createModelLoaders>;

/** `modelById` and `mentionedById` are for ids from foreign keys: an unknown id is a bug. */
export function createModelLoaders(db: Database) {
  const models = createModelStore(db);
  const checkpoints = createCheckpointStore(db);
  const lineage = createLineageStore(db);
  const checkpointById = new DataLoader<string, CheckpointRecord>(async (ids) =>
    inOrder(ids, await checkpoints.findMany(ids), 'Checkpoint'),
  );
  const checkpointCount = new DataLoader<string, number>(async (modelIds) => {
    const counts = await checkpoints.countOf(modelIds);
    return modelIds.map((id) => counts.get(id) ?? 0);
  });
  const firstCheckpoints = new DataLoader<FirstPage, Page<CheckpointRecord>, string>(
    async (wanted) => {
      const found = new Map<string, CheckpointRecord[]>();
      for (const [size, pages] of Map.groupBy(wanted, (page) => page.size)) {
        // One extra row shows whether there is a next page.
        const newest = await checkpoints.newestOf(
          pages.map((page) => page.modelId),
          size + 1,
        );
        for (const [modelId, rows] of Map.groupBy(newest, (checkpoint) => checkpoint.modelId))
          found.set(keyOf({ modelId, size }), rows);
      }
      return wanted.map((page) =>
        pageOf(
          found.get(keyOf(page)) ?? [],
          page.size,
          (checkpoint) => encodeCursor([checkpoint.id]),
          false,
          () => checkpointCount.load(page.modelId),
        ),
      );
    },
    { cacheKeyFn: keyOf },
  );
  return {
    modelById: new DataLoader<string, ModelRecord>(async (ids) => inOrder(ids, await models.findMany(ids), 'Model')),
    /** Most lists read a few columns of a checkpoint (`MentionedCheckpointRecord`); this reads the rest. */
    wholeCheckpoint: async (checkpoint: CheckpointSource): Promise<CheckpointRecord> =>
      'sha256' in checkpoint ? checkpoint : checkpointById.load(checkpoint.id),
    mentionedById: new DataLoader<string, MentionedCheckpointRecord>(async (ids) =>
      inOrder(ids, await checkpoints.mention(ids), 'Checkpoint'),
    ),
    aliasesByModel: new DataLoader<string, readonly ModelAliasRecord[]>(async (ids) => {
      const found = Map.groupBy(await models.aliasesOf(ids), (alias) => alias.modelId);
      return ids.map((id) => found.get(id) ?? []);
    }),
    /**
     * The first page of a model's checkpoints, newest first. Batched, because a list of models asks for one such page
     * per row.
     * @throws DomainError BAD_INPUT for a page size out of range.
     */
    firstCheckpointsOfModel: (modelId: string, page: PageArguments): Promise<Page<CheckpointRecord>> =>
      firstCheckpoints.load({ modelId, size: pageSizeOf(page) }),
    checkpointsByRun: new DataLoader<string, CheckpointRecord[]>(async (runIds) => {
      const found = Map.groupBy(await checkpoints.ofRuns(runIds), (checkpoint) => checkpoint.sourceRunId);
      return runIds.map((id) => found.get(id) ?? []);
    }),
    trainedOnByCheckpoint: new DataLoader<string, readonly string[]>(async (ids) => {
      const found = Map.groupBy(await lineage.trainedOnOf(ids), (link) => link.checkpointId);
      return ids.map((id) => (found.get(id) ?? []).map((link) => link.datasetVersionId));
    }),
    /** All checkpoints with this tensor digest, the requested one included. */
    sameWeightsByDigest: new DataLoader<string, readonly MentionedCheckpointRecord[]>(async (digests) => {
      const found = Map.groupBy(await lineage.sameWeights(digests), ({ tensorDigest }) => tensorDigest);
      return digests.map((digest) => found.get(digest) ?? []);
    }),
    /** The oldest checkpoint with the stored weights of this sha256; null if there is none. */
    firstWithWeights: new DataLoader<string, MentionedCheckpointRecord | null>(async (sha256s) => {
      const found = new Map((await lineage.firstWithWeights(sha256s)).map((row) => [row.sha256, row]));
      return sha256s.map((sha256) => found.get(sha256) ?? null);
    }),
    /** Whether it is known what the checkpoint was trained on. */
    isTrainingKnown: new DataLoader<string, boolean>(async (ids) => {
      const known = await lineage.withKnownTraining(ids);
      return ids.map((id) => known.has(id));
    }),
    goldenByCheckpoint: new DataLoader<string, GoldenRecord | null>(async (ids) => {
      const found = await checkpoints.goldenOf(ids);
      return ids.map((id) => found.get(id) ?? null);
    }),
  };
}

interface FirstPage {
  readonly modelId: string;
  readonly size: number;
}

function keyOf({ modelId, size }: FirstPage): string {
  return `${modelId} ${size}`;
}

function inOrder<Row extends { readonly id: string }>(
  ids: readonly string[],
  rows: readonly Row[],
  what: string,
): (Row | Error)[] {
  const found = new Map(rows.map((row) => [row.id, row]));
  return ids.map((id) => found.get(id) ?? new Error(`${what} ${id} is missing although another row refers to it.`));
}
