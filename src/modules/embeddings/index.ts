/** Embeddings: encoder outputs for the images of a version, cached for every protocol and for download. */
import type { Database } from '../../platform/db.ts';
import {
  createEmbeddingCache as createCache,
  createEmbeddingService as createService,
  type EmbeddingCache,
  type EmbeddingService,
  type EmbeddingServiceParts,
} from './embeddings.service.ts';
import { createEmbeddingStore } from './embeddings.store.ts';

export type {
  EmbeddingBlockRecord,
  EmbeddingFileRecord,
  EmbeddingSetRecord,
  NewEmbeddingBlock,
  NewEmbeddingSet,
} from './embeddings.records.ts';
export { RANDOM_ENCODER_SEED, type EmbeddingFileFormat } from './embeddings.rules.ts';
export type { EmbeddingCache, EmbeddingService } from './embeddings.service.ts';
export { dropBlocksOfEndedRuns, dropSetsWithoutOwner } from './embeddings.store.ts';

export function createEmbeddingService(db: Database, parts: Omit<EmbeddingServiceParts, 'store'>): EmbeddingService {
  return createService({ ...parts, store: createEmbeddingStore(db) });
}

/** The module's interface for workers. */
export function createEmbeddingCache(db: Database): EmbeddingCache {
  return createCache(createEmbeddingStore(db));
}
