/** Batching of datasets and versions within one request. */
import DataLoader from 'dataloader';
import type { Database } from '../../platform/db.ts';
import type {
  DatasetRecord,
  DatasetVersionRecord,
  FactSourceRecord,
  ShardRecord,
  ThumbnailRecord,
} from './datasets.records.ts';
import { createDatasetStore } from './datasets.store.ts';
import { createVersionStore } from './versions.store.ts';

export type DatasetLoaders = ReturnType<typeof createDatasetLoaders>;

export function createDatasetLoaders(db: Database) {
  const store = createDatasetStore(db);
  const versions = createVersionStore(db);
  return {
    /** Fails for an id that is not there: it comes from a foreign key. */
    byId: new DataLoader<string, DatasetRecord>(async (ids) =>
      present(ids, await store.findMany(ids), (dataset) => dataset.id),
    ),
    factSources: new DataLoader<string, FactSourceRecord[]>(async (ids) => {
      const byDataset = Map.groupBy(await store.factSources(ids), (fact) => fact.datasetId);
      return ids.map((id) => byDataset.get(id) ?? []);
    }),
    organDatasetCount: new DataLoader<string, number>(async (codes) => {
      const counts = await store.organCounts(codes);
      return codes.map((code) => counts.get(code) ?? 0);
    }),
    stainDatasetCount: new DataLoader<string, number>(async (codes) => {
      const counts = await store.stainCounts(codes);
      return codes.map((code) => counts.get(code) ?? 0);
    }),
    /** Fails for an id that is not there: it comes from a foreign key. */
    versionById: new DataLoader<string, DatasetVersionRecord>(async (ids) =>
      present(ids, await versions.findMany(ids), (version) => version.id),
    ),
    versionByImportRun: new DataLoader<string, DatasetVersionRecord | null>(async (runIds) => {
      const found = new Map((await versions.findByImportRuns(runIds)).map((version) => [version.importRunId, version]));
      return runIds.map((id) => found.get(id) ?? null);
    }),
    /** The latest SEALED version of each dataset. */
    latestVersion: new DataLoader<string, DatasetVersionRecord | null>(async (datasetIds) => {
      const found = new Map((await versions.findLatest(datasetIds)).map((version) => [version.datasetId, version]));
      return datasetIds.map((id) => found.get(id) ?? null);
    }),
    thumbnailsOfVersion: new DataLoader<string, ThumbnailRecord[]>(async (versionIds) => {
      const byVersion = await versions.thumbnailsOf(versionIds);
      return versionIds.map((id) => byVersion.get(id) ?? []);
    }),
    shardsOfVersion: new DataLoader<string, ShardRecord[]>(async (versionIds) => {
      const byVersion = await versions.shardsOf(versionIds);
      return versionIds.map((id) => byVersion.get(id) ?? []);
    }),
  };
}

function present<Row>(ids: readonly string[], rows: readonly Row[], idOf: (row: Row) => string): (Row | Error)[] {
  const found = new Map(rows.map((row) => [idOf(row), row]));
  return ids.map((id) => found.get(id) ?? new Error(`No object has the id ${id}.`));
}
