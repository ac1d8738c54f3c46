/** The cache of embeddings, which workers reuse and users can download. */
import { DomainError } from '../../errors.ts';
import type { Transaction } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import { EMBEDDING_BLOCK_MEDIA_TYPE, recordArtifacts } from '../artifacts/index.ts';
import type {
  EmbeddingBlockRecord,
  EmbeddingFileRecord,
  EmbeddingSetRecord,
  NewEmbeddingBlock,
  NewEmbeddingSet,
} from './embeddings.records.ts';
import { IDS_MEDIA_TYPE, NPY_MEDIA_TYPE, type EmbeddingFileFormat } from './embeddings.rules.ts';
import type { EmbeddingStore } from './embeddings.store.ts';
import type { EmbeddingKey } from '../../protocol/embeddings.ts';

export interface EmbeddingService {
  /** Every set of one encoder, by the sha256 of its weights; newest first. */
  ofEncoder(viewer: Viewer, encoderDigest: string): Promise<EmbeddingSetRecord[]>;
  /** Every set of a version's images, by the version's digest; newest first. */
  ofDataset(viewer: Viewer, datasetDigest: string): Promise<EmbeddingSetRecord[]>;
  /** The file behind `/embeddings/{id}.npy` or `.csv`. Throws EMBEDDINGS_NOT_FOUND. */
  file(viewer: Viewer, id: string, format: EmbeddingFileFormat): Promise<EmbeddingFileRecord>;

  /** For workers: a set that another run has already computed. */
  findForUse(key: EmbeddingKey): Promise<EmbeddingSetRecord | undefined>;
  /** For workers: registers a set and its artifacts; if another run registered it first, that set is kept. */
  register(tx: Transaction, set: NewEmbeddingSet): Promise<void>;
  /**
   * For workers: the blocks of a set that a run has stored, from the first one on without a gap. Only those of the same
   * engine and device, because another one's numbers differ in their last bits.
   */
  blocks(runId: string, key: EmbeddingKey, engine: object): Promise<EmbeddingBlockRecord[]>;
  /** For workers: registers a block and its artifact; it replaces one that another engine computed. */
  keepBlock(tx: Transaction, block: NewEmbeddingBlock): Promise<void>;
  /** For workers: called when the set is registered. */
  dropBlocks(tx: Transaction, runId: string, key: EmbeddingKey): Promise<void>;
}

export function createEmbeddingService({ store }: { readonly store: EmbeddingStore }): EmbeddingService {
  return {
    ofEncoder: async (viewer, encoderDigest) => {
      authorise(viewer, 'READER');
      return store.ofEncoder(encoderDigest);
    },
    ofDataset: async (viewer, datasetDigest) => {
      authorise(viewer, 'READER');
      return store.ofDataset(datasetDigest);
    },
    file: async (viewer, id, format) => {
      authorise(viewer, 'READER');
      const set = await store.find(id);
      if (set === undefined) {
        throw new DomainError({
          code: 'EMBEDDINGS_NOT_FOUND',
          message: 'No embeddings have this id.',
          field: 'id',
          hint: 'Use an id from Checkpoint.embeddings; an evaluation computes embeddings.',
        });
      }
      switch (format) {
        case 'npy':
          return {
            sha256: set.sha256,
            byteSize: set.byteSize,
            mediaType: NPY_MEDIA_TYPE,
            fileName: `embeddings-${set.id}.npy`,
          };
        case 'csv':
          return {
            sha256: set.idsSha256,
            byteSize: set.idsByteSize,
            mediaType: IDS_MEDIA_TYPE,
            fileName: `embeddings-${set.id}.csv`,
          };
      }
    },
    findForUse: (key) => store.findByKey(key),
    register: async (tx, set) => {
      await recordArtifacts(tx, [
        { ...set.rows, mediaType: NPY_MEDIA_TYPE },
        { ...set.ids, mediaType: IDS_MEDIA_TYPE },
      ]);
      await store.create(tx, set);
    },
    blocks: async (runId, key, engine) => {
      const blocks = await store.blocks(runId, key, engine);
      const gap = blocks.findIndex(({ position }, place) => position !== place);
      return gap < 0 ? blocks : blocks.slice(0, gap);
    },
    keepBlock: async (tx, block) => {
      await recordArtifacts(tx, [{ ...block.rows, mediaType: EMBEDDING_BLOCK_MEDIA_TYPE }]);
      await store.keepBlock(tx, block);
    },
    dropBlocks: (tx, runId, key) => store.dropBlocks(tx, runId, key),
  };
}
