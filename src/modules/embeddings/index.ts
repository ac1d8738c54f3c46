/** Embeddings: encoder outputs for the images of a version, cached for every protocol and for download. */
import type { Database } from '../../platform/db.ts';
import { createEmbeddingService as createService, type EmbeddingService } from './embeddings.service.ts';
import { createEmbeddingStore } from './embeddings.store.ts';

export type {
  EmbeddingBlockRecord,
  EmbeddingFileRecord,
  EmbeddingSetRecord,
  NewEmbeddingBlock,
  NewEmbeddingSet,
} from './embeddings.records.ts';
export { RANDOM_ENCODER_SEED, type EmbeddingFileFormat } from './embeddings.rules.ts';
export type { EmbeddingService } from './embeddings.service.ts';
export { dropBlocksOfEndedRuns, dropSetsWithoutOwner } from './embeddings.store.ts';

export function createEmbeddingService({ db }: { readonly db: Database }): EmbeddingService {
  return createService({ store: createEmbeddingStore(db) });
}
