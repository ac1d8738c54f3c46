/** Models, their aliases and checkpoints: queries, naming, and registration of trained encoders. */
import { DomainError } from '../../errors.ts';
import { describeEncoder } from '../../formats/encoders/index.ts';
import { isId, parseInput } from '../../input.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import type { Page, PageArguments } from '../../platform/page.ts';
import { authorise, type Viewer } from '../access/index.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import type {
  CheckpointRecord,
  ModelRecord,
  NewCheckpoint,
  PretrainingRecord,
  UsableCheckpointRecord,
  WeightsFileRecord,
} from './models.records.ts';
import {
  createModelSchema,
  oneReference,
  SAFETENSORS_MEDIA_TYPE,
  setModelAliasSchema,
  weightsFileName,
  type WeightsFormat,
} from './models.rules.ts';
import type { CheckpointFilter, CheckpointStore } from './checkpoints.store.ts';
import type { LineageStore } from './lineage.store.ts';
import type { ModelFilter, ModelStore } from './models.store.ts';
import { type GoldenRecord, inputContractSchema } from '../../protocol/checkpoint.ts';

export interface ModelReference {
  readonly id?: string | null | undefined;
  readonly slug?: string | null | undefined;
}

export interface CheckpointListFilter extends Omit<CheckpointFilter, 'modelId'> {
  readonly modelSlug?: string | null | undefined;
}

export interface ModelService {
  /** By exactly one of id and slug. Throws BAD_INPUT otherwise. */
  get(viewer: Viewer, reference: ModelReference): Promise<ModelRecord | undefined>;
  /** Newest first. */
  list(viewer: Viewer, page: PageArguments, filter: ModelFilter): Promise<Page<ModelRecord>>;
  /** Throws BAD_INPUT or SLUG_TAKEN. */
  create(viewer: Viewer, input: unknown): Promise<ModelRecord>;
  /**
   * Sets an alias to a checkpoint of the model, and atomically moves an existing alias; without a checkpointId the
   * alias is removed. Throws BAD_INPUT, MODEL_NOT_FOUND, CHECKPOINT_NOT_FOUND, or CONFLICT for a checkpoint of another
   * model.
   */
  setAlias(viewer: Viewer, input: unknown): Promise<ModelRecord>;
  getCheckpoint(viewer: Viewer, id: string): Promise<CheckpointRecord | undefined>;
  /** Newest first. Throws MODEL_NOT_FOUND for an unknown modelSlug, BAD_INPUT for invalid ids. */
  listCheckpoints(viewer: Viewer, page: PageArguments, filter: CheckpointListFilter): Promise<Page<CheckpointRecord>>;
  /** Newest first. */
  listCheckpointsOfModel(viewer: Viewer, page: PageArguments, modelId: string): Promise<Page<CheckpointRecord>>;
  /** Download URL of the weights; null while only an external source is known. */
  downloadUrl(checkpoint: CheckpointRecord, format: WeightsFormat): string | null;
  /** The stored safetensors. Throws CHECKPOINT_NOT_FOUND or CHECKPOINT_NOT_DOWNLOADABLE. */
  weightsFile(viewer: Viewer, checkpointId: string): Promise<WeightsFileRecord>;
  /** File name of the download. */
  weightsFileName(checkpoint: CheckpointRecord, format: WeightsFormat): Promise<string>;

  /**
   * For launches and workers, which have already been authorised. Throws CHECKPOINT_NOT_FOUND or
   * CHECKPOINT_NOT_DOWNLOADABLE at `field`.
   */
  checkpointForUse(id: string, field: string, tx?: Transaction): Promise<UsableCheckpointRecord>;
  /** The name shown to users: `slug@version`. */
  nameOf(checkpoint: CheckpointRecord, tx?: Transaction): Promise<string>;
  /** For workers: the known training data of the checkpoint. */
  pretrainingOf(checkpointId: string): Promise<PretrainingRecord>;
  /** Undefined until it has been measured. */
  goldenOf(checkpointId: string): Promise<GoldenRecord | undefined>;
  /** For workers: the model with this slug; a new model is created with the slug as its name. */
  ensureModel(tx: Transaction, slug: string): Promise<ModelRecord>;
  /**
   * For workers: registers a trained encoder as the model's next version, creating the model if necessary. A second
   * call for the same run and step returns the existing checkpoint, so that a retried run registers nothing twice.
   */
  registerCheckpoint(tx: Transaction, checkpoint: NewCheckpoint): Promise<CheckpointRecord>;
  /** The checkpoint that a run registered at a step. */
  checkpointOfRun(runId: string, step: number): Promise<CheckpointRecord | undefined>;
  /** For workers: stores the golden embedding of a checkpoint that has none; an existing one is kept. */
  recordGolden(tx: Transaction, checkpointId: string, golden: GoldenRecord): Promise<void>;
}

export interface ModelServiceParts {
  readonly models: ModelStore;
  readonly checkpoints: CheckpointStore;
  readonly lineage: LineageStore;
  readonly transact: Transact;
  /** The public base URL, e.g. `https://paraffin.example.org`; without it, URLs are paths on this server. */
  readonly publicUrl?: string | undefined;
}

export function createModelService(parts: ModelServiceParts): ModelService {
  const { models, checkpoints, lineage, transact, publicUrl = '' } = parts;
  const findModelOrThrow = async (tx: Transaction, reference: ModelReference): Promise<ModelRecord> => {
    const fields = { id: 'input.modelId', slug: 'input.modelSlug' };
    const wanted = oneReference(reference, fields);
    const model = await models.findBy(wanted, tx);
    if (model !== undefined) return model;
    throw new DomainError({
      code: 'MODEL_NOT_FOUND',
      message: `There is no model with this ${'id' in wanted ? 'id' : 'slug'}.`,
      field: 'id' in wanted ? fields.id : fields.slug,
      hint: 'List the models with the query `models`, or create one with createModel.',
    });
  };

  const findCheckpointOrThrow = async (id: string, field: string, tx?: Transaction): Promise<CheckpointRecord> => {
    const checkpoint = await checkpoints.find(id, tx);
    if (checkpoint !== undefined) return checkpoint;
    throw new DomainError({
      code: 'CHECKPOINT_NOT_FOUND',
      message: 'No checkpoint has this id.',
      field,
      hint: 'List the checkpoints with the query `checkpoints`.',
    });
  };

  const findUsableOrThrow = async (id: string, field: string, tx?: Transaction): Promise<UsableCheckpointRecord> => {
    const checkpoint = await findCheckpointOrThrow(id, field, tx);
    const { sha256, byteSize } = checkpoint;
    if (sha256 !== null && byteSize !== null) return { ...checkpoint, sha256, byteSize };
    throw new DomainError({
      code: 'CHECKPOINT_NOT_DOWNLOADABLE',
      message: 'The weights of this checkpoint are not in this registry; only their source is known.',
      field,
      hint: 'See Checkpoint.importedFrom, and import the file.',
    });
  };

  const fileNameOf = async (
    { modelId, version, architecture }: CheckpointRecord,
    format: WeightsFormat,
  ): Promise<string> => {
    const model = await models.findBy({ id: modelId });
    return weightsFileName(model?.slug ?? 'model', version, describeEncoder(architecture).name, format);
  };

  const ensureModel = async (tx: Transaction, slug: string): Promise<ModelRecord> => {
    const input = parseInput(createModelSchema, { slug, name: slug });
    const model =
      (await models.findBy({ slug }, tx)) ??
      (await models.create(tx, { ...input, description: null, licence: null })) ??
      (await models.findBy({ slug }, tx));
    if (model === undefined) throw new Error(`Model ${slug} was neither found nor created.`);
    return model;
  };

  return {
    get: async (viewer, reference) => {
      authorise(viewer, 'READER');
      return models.findBy(oneReference(reference, { id: 'id', slug: 'slug' }));
    },
    list: async (viewer, page, filter) => {
      authorise(viewer, 'READER');
      return models.list(page, filter);
    },
    create: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const input = parseInput(createModelSchema, raw);
      const created = await transact((tx) =>
        models.create(tx, { ...input, description: input.description ?? null, licence: input.licence ?? null }),
      );
      if (created !== undefined) return created;
      throw new DomainError({
        code: 'SLUG_TAKEN',
        message: `A model "${input.slug}" exists already.`,
        field: 'input.slug',
        hint: 'Choose another slug, or use that model.',
      });
    },
    setAlias: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const input = parseInput(setModelAliasSchema, raw);
      return transact(async (tx) => {
        const model = await findModelOrThrow(tx, { id: input.modelId, slug: input.modelSlug });
        if (input.checkpointId == null) {
          await models.removeAlias(tx, model.id, input.name);
          return model;
        }
        const checkpoint = await findCheckpointOrThrow(input.checkpointId, 'input.checkpointId', tx);
        if (checkpoint.modelId !== model.id) {
          throw new DomainError({
            code: 'CONFLICT',
            message: `The checkpoint is not one of the model "${model.slug}".`,
            field: 'input.checkpointId',
            hint: "Choose one of the model's own checkpoints.",
          });
        }
        await models.setAlias(tx, { modelId: model.id, name: input.name, checkpointId: checkpoint.id });
        return model;
      });
    },
    getCheckpoint: async (viewer, id) => {
      authorise(viewer, 'READER');
      return checkpoints.find(id);
    },
    listCheckpoints: async (viewer, page, { modelSlug, ...filter }) => {
      authorise(viewer, 'READER');
      for (const [field, id] of Object.entries({
        sourceRunId: filter.sourceRunId,
        trainedOnDatasetId: filter.trainedOnDatasetId,
        trainedOnDatasetVersionId: filter.trainedOnDatasetVersionId,
      })) {
        if (id != null && !isId(id))
          throw new DomainError({
            code: 'BAD_INPUT',
            message: `${field} is not an id of this registry.`,
            field: `filter.${field}`,
          });
      }
      if (filter.sha256 != null && !/^[0-9a-f]{64}$/.test(filter.sha256))
        throw new DomainError({
          code: 'BAD_INPUT',
          message: 'sha256 must be 64 hex digits in lower case.',
          field: 'filter.sha256',
        });
      if (modelSlug == null) return checkpoints.list(page, filter);
      const model = await models.findBy({ slug: modelSlug });
      if (model === undefined)
        throw new DomainError({
          code: 'MODEL_NOT_FOUND',
          message: `The model "${modelSlug.slice(0, 100)}" does not exist.`,
          field: 'filter.modelSlug',
          hint: 'List the models with the query `models`.',
        });
      return checkpoints.list(page, { ...filter, modelId: model.id });
    },
    listCheckpointsOfModel: async (viewer, page, modelId) => {
      authorise(viewer, 'READER');
      return checkpoints.list(page, { modelId });
    },
    downloadUrl: (checkpoint, format) =>
      checkpoint.sha256 === null
        ? null
        : `${publicUrl}/checkpoints/${checkpoint.id}/download?format=${format.toLowerCase()}`,
    weightsFile: async (viewer, checkpointId) => {
      authorise(viewer, 'READER');
      const checkpoint = await findUsableOrThrow(checkpointId, 'id');
      return {
        sha256: checkpoint.sha256,
        byteSize: checkpoint.byteSize,
        mediaType: SAFETENSORS_MEDIA_TYPE,
        fileName: await fileNameOf(checkpoint, 'SAFETENSORS'),
      };
    },
    weightsFileName: fileNameOf,
    checkpointForUse: findUsableOrThrow,
    nameOf: async ({ modelId, version }, tx) =>
      `${(await models.findBy({ id: modelId }, tx))?.slug ?? modelId}@${version}`,
    pretrainingOf: (checkpointId) => lineage.pretrainingOf(checkpointId),
    goldenOf: async (checkpointId) => (await checkpoints.goldenOf([checkpointId])).get(checkpointId),
    ensureModel,
    registerCheckpoint: async (tx, checkpoint) => {
      const model = await ensureModel(tx, checkpoint.modelSlug);
      await models.lock(tx, model.id);
      const earlier = await checkpoints.findOfRun(tx, checkpoint.sourceRunId, checkpoint.step);
      if (earlier !== undefined) return earlier;
      const inputContract = inputContractSchema.parse(checkpoint.inputContract);
      await recordArtifacts(tx, [
        { sha256: checkpoint.sha256, byteSize: checkpoint.byteSize, mediaType: SAFETENSORS_MEDIA_TYPE },
      ]);
      const registered = await checkpoints.create(tx, model.id, { ...checkpoint, inputContract });
      await lineage.shareTrainedOn(tx, checkpoint.tensorDigest);
      return registered;
    },
    checkpointOfRun: async (runId, step) =>
      (await checkpoints.ofRuns([runId])).find((checkpoint) => checkpoint.step === step),
    recordGolden: (tx, checkpointId, golden) => checkpoints.fillGolden(tx, checkpointId, golden),
  };
}
