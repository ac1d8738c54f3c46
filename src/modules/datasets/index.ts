/** Datasets: the catalogue of facts, and versions of imported images. */
import type { Database } from '../../platform/db.ts';
import { fillGroupCounts as fill, type GroupCountParts } from './group-counts.ts';
import { createVersionStore } from './versions.store.ts';

export { CatalogueError, loadCatalogue } from './catalogue.ts';
export { seedCatalogue, type SeedReport } from './catalogue.store.ts';
export { createDatasetLoaders, type DatasetLoaders } from './datasets.loaders.ts';
export type {
  CatalogueDataset,
  CitationRecord,
  DatasetFacetsRecord,
  DatasetFacts,
  DatasetLineageRecord,
  DatasetRecord,
  DatasetVersionRecord,
  FacetCountRecord,
  FactSourceRecord,
  ImportIssueEntryRecord,
  ImportIssueRecord,
  LabelCountRecord,
  OrganRecord,
  ResolutionRecord,
  SealedVersionRecord,
  ShardRecord,
  SlidePatchesRecord,
  SlideRecord,
  StainRecord,
  SubcollectionRecord,
  ThumbnailRecord,
} from './datasets.records.ts';
export { DATASET_ORDER_FIELDS, ORDER_DIRECTIONS, slugOf, type DatasetFilter } from './datasets.rules.ts';
export { createDatasetService, type DatasetService } from './datasets.service.ts';
export { createImportIssueService, type ImportIssueService } from './import-issues.service.ts';
export { createSlidePatchService, type SlidePatchService } from './slide-patches.service.ts';
export { createSlideTileService, type SlideTileService } from './slide-tiles.service.ts';
export { caveatsOf, MANIFEST_MEDIA_TYPE, type SealedContent } from './versions.rules.ts';

/** @returns the number of older versions whose groups were counted; see group-counts.ts. */
export function fillGroupCounts(
  { db, ...parts }: { readonly db: Database } & Omit<GroupCountParts, 'versions'>,
  signal: AbortSignal,
): Promise<number> {
  return fill({ ...parts, versions: createVersionStore(db) }, signal);
}
