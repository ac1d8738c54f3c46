/** Embeddings: encoder outputs for the images of a version, cached for every protocol and for download. */
import type { Database } from '../../platform/db.ts';
import { createEmbeddingService as createService, type EmbeddingService } from './embeddings.service.ts';
import { createEmbeddingStore } from './embeddings.store.ts';

export type { EmbeddingFileRecord, EmbeddingKey, EmbeddingSetRecord, NewEmbeddingSet } from './embeddings.records.ts';
export {
  digestOfMethod,
  idsCsvOf,
  preparationDigestOf,
  type EmbeddedImage,
  type EmbeddingFileFormat,
} from './embeddings.rules.ts';
export type { EmbeddingService } from './embeddings.service.ts';
export { dropSetsWithoutOwner } from './embeddings.store.ts';

export function createEmbeddingService({ db }: { readonly db: Database }): EmbeddingService {
  return createService({ store: createEmbeddingStore(db) });
}
