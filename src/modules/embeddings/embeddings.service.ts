/** The cache of embeddings, which workers reuse and users can download. */
import { DomainError } from '../../errors.ts';
import { createTurns } from '../../in-turn.ts';
import { isId, parseInput } from '../../input.ts';
import type { Transaction } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import { EMBEDDING_BLOCK_MEDIA_TYPE, recordArtifacts } from '../artifacts/index.ts';
import type { DatasetService, SlidePatchService } from '../datasets/index.ts';
import type { ModelService } from '../models/index.ts';
import { requirementsOf, type RunRecord, type RunService } from '../runs/index.ts';
import type {
  EmbeddingBlockRecord,
  EmbeddingFileRecord,
  EmbeddingSetRecord,
  NewEmbeddingBlock,
  NewEmbeddingSet,
} from './embeddings.records.ts';
import {
  IDS_MEDIA_TYPE,
  launchEmbeddingSchema,
  NPY_MEDIA_TYPE,
  titleOfEmbedding,
  type EmbeddingFileFormat,
} from './embeddings.rules.ts';
import { similaritiesOf, type OpenRange } from './slide-similarity.ts';
import type { EmbeddingStore } from './embeddings.store.ts';
import type { EmbeddingConfig } from '../../protocol/embedding.ts';
import { preparationDigestOf, type EmbeddingKey } from '../../protocol/embeddings.ts';

export interface EmbeddingService {
  /** Every set of one encoder, by the sha256 of its weights; newest first. */
  ofEncoder(viewer: Viewer, encoderDigest: string): Promise<EmbeddingSetRecord[]>;
  /** Every set of a version's images, by the version's digest; newest first. */
  ofDataset(viewer: Viewer, datasetDigest: string): Promise<EmbeddingSetRecord[]>;
  /**
   * The set of a checkpoint, prepared as its input contract says, on a version; undefined if it was not made yet, or if
   * either does not exist.
   */
  ofCheckpointOn(
    viewer: Viewer,
    checkpointId: string,
    datasetVersionId: string,
  ): Promise<EmbeddingSetRecord | undefined>;
  /**
   * Launches a run of kind EMBEDDING, which makes the set of a checkpoint on a version unless it is stored. Throws
   * BAD_INPUT, CHECKPOINT_NOT_FOUND, CHECKPOINT_NOT_DOWNLOADABLE, DATASET_VERSION_NOT_FOUND and its like.
   */
  launch(viewer: Viewer, input: unknown): Promise<RunRecord>;
  /**
   * `[N]`: the cosine of the embedding of one patch of a slide with that of each of its N patches, in the order of the
   * version: -1..1; null for an embedding of length 0. Undefined for a slide that does not exist.
   * @param patch from 0, among those of the slide.
   * @throws DomainError EMBEDDINGS_NOT_FOUND, and BAD_INPUT for embeddings of another version or a patch that does not
   * exist.
   */
  slideSimilarity(
    viewer: Viewer,
    of: {
      readonly versionId: string;
      readonly position: number;
      readonly patch: number;
      readonly embeddingSetId: string;
    },
  ): Promise<(number | null)[] | undefined>;
  /** The file behind `/embeddings/{id}.npy` or `.csv`. Throws EMBEDDINGS_NOT_FOUND. */
  file(viewer: Viewer, id: string, format: EmbeddingFileFormat): Promise<EmbeddingFileRecord>;
}

/** For workers: the cache that they read and fill. */
export interface EmbeddingCache {
  /** A set that another run has already computed. */
  findForUse(key: EmbeddingKey): Promise<EmbeddingSetRecord | undefined>;
  /** Registers a set and its artifacts; if another run registered it first, that set is kept. */
  register(tx: Transaction, set: NewEmbeddingSet): Promise<void>;
  /**
   * The blocks of a set that a run has stored, from the first one on without a gap. Only those of the same
   * engine and device, because another one's numbers differ in their last bits.
   */
  blocks(runId: string, key: EmbeddingKey, engine: object): Promise<EmbeddingBlockRecord[]>;
  /** Registers a block and its artifact; it replaces one that another engine computed. */
  keepBlock(tx: Transaction, block: NewEmbeddingBlock): Promise<void>;
  /** Called when the set is registered. */
  dropBlocks(tx: Transaction, runId: string, key: EmbeddingKey): Promise<void>;
}

export interface EmbeddingServiceParts {
  readonly store: EmbeddingStore;
  readonly runs: Pick<RunService, 'enqueue'>;
  readonly datasets: DatasetService;
  readonly models: ModelService;
  readonly slidePatches: Pick<SlidePatchService, 'firstRowOf'>;
  /** A range of an artifact. */
  readonly openArtifact: OpenRange;
}

export function createEmbeddingService(parts: EmbeddingServiceParts): EmbeddingService {
  const { store, runs, datasets, models, slidePatches, openArtifact } = parts;
  /** One slide at a time, because the cosines of many patches keep a core busy. */
  const inTurn = createTurns();

  const findOrThrow = async (id: string, field: string) => {
    const set = await store.find(id);
    if (set !== undefined) return set;
    throw new DomainError({
      code: 'EMBEDDINGS_NOT_FOUND',
      message: 'No embeddings have this id.',
      field,
      hint: 'Use an id from Checkpoint.embeddings; an evaluation computes embeddings.',
    });
  };

  return {
    ofEncoder: async (viewer, encoderDigest) => {
      authorise(viewer, 'READER');
      return store.ofEncoder(encoderDigest);
    },
    ofDataset: async (viewer, datasetDigest) => {
      authorise(viewer, 'READER');
      return store.ofDataset(datasetDigest);
    },
    ofCheckpointOn: async (viewer, checkpointId, datasetVersionId) => {
      authorise(viewer, 'READER');
      if (!isId(datasetVersionId)) return undefined;
      const { sha256, inputContract } = await models.checkpointForUse(checkpointId, 'id');
      const [version] = await datasets.requireSealedVersions([datasetVersionId], () => 'datasetVersionId');
      if (version === undefined) return undefined;
      const preparationDigest = preparationDigestOf(inputContract);
      return store.findByKey({ encoderDigest: sha256, datasetDigest: version.digest, preparationDigest });
    },
    launch: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const input = parseInput(launchEmbeddingSchema, raw);
      const checkpoint = await models.checkpointForUse(input.checkpointId, 'input.checkpointId');
      const [version] = await datasets.requireSealedVersions([input.datasetVersionId], () => 'input.datasetVersionId');
      if (version === undefined) throw new Error(`Dataset version ${input.datasetVersionId} is gone.`);
      const config: EmbeddingConfig = {
        ...{ checkpointId: checkpoint.id, checkpointSha256: checkpoint.sha256 },
        ...{ datasetVersionId: version.id, datasetDigest: version.digest },
      };
      const [versionName = version.id] = await datasets.namesOf([version]);
      return runs.enqueue({
        ...{ kind: 'EMBEDDING', config, input, viewer },
        title: titleOfEmbedding(await models.nameOf(checkpoint), versionName),
        idempotencyKey: input.idempotencyKey ?? null,
        maxDurationSeconds: input.maxDurationSeconds ?? null,
        requirements: requirementsOf(input.requirements),
      });
    },
    slideSimilarity: async (viewer, { versionId, position, patch, embeddingSetId }) => {
      authorise(viewer, 'READER');
      const [slide, version] = await Promise.all([
        datasets.slide(viewer, versionId, position),
        datasets.getVersion(viewer, versionId),
      ]);
      if (slide === undefined) return undefined;
      const set = await findOrThrow(embeddingSetId, 'embeddingSetId');
      if (set.datasetDigest !== version?.digest)
        throw new DomainError({
          code: 'BAD_INPUT',
          message: 'These embeddings are of the images of another dataset version.',
          field: 'embeddingSetId',
          hint: 'Use an id from DatasetVersion.embeddings of the version of the slide.',
        });
      if (!(patch >= 0 && patch < slide.patchCount))
        throw new DomainError({
          code: 'BAD_INPUT',
          message: `The slide has ${slide.patchCount} patches and none with the number ${patch}.`,
          field: 'patch',
          hint: 'Patches are counted from 0, in the order of DatasetVersion.slidePatches.',
        });
      const firstRow = await slidePatches.firstRowOf(viewer, slide);
      return inTurn(() => similaritiesOf(openArtifact, set, { firstRow, count: slide.patchCount }, firstRow + patch));
    },
    file: async (viewer, id, format) => {
      authorise(viewer, 'READER');
      const set = await findOrThrow(id, 'id');
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
  };
}

export function createEmbeddingCache(store: EmbeddingStore): EmbeddingCache {
  return {
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
