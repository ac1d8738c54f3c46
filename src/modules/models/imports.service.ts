/**
 * Imports external checkpoints: from a file below an import root, from a URL, or from the catalogue of published
 * checkpoints.
 */
import { DomainError } from '../../errors.ts';
import { contractInFile } from '../../formats/encoder-export.ts';
import { describeEncoder } from '../../formats/encoders/index.ts';
import { digestOfInput, parseInput } from '../../input.ts';
import type { StoredBytes } from '../../platform/artifact-store/index.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import type { CheckpointStore, ImportRequest } from './checkpoints.store.ts';
import type { EncoderFacts } from './encoder-file.ts';
import { createImportFiles, type ImportFileParts, type LocalFile, type ReadingPlan } from './import-files.ts';
import {
  fieldOfSource,
  importCheckpointSchema,
  importChoice,
  validateImport,
  type ImportCheckpointInput,
  type ImportChoice,
} from './import.rules.ts';
import type { LineageStore } from './lineage.store.ts';
import type { CheckpointRecord, ExternalSourceRecord } from './models.records.ts';
import { SAFETENSORS_MEDIA_TYPE } from './models.rules.ts';
import type { ModelStore } from './models.store.ts';

export interface CheckpointImportService {
  /**
   * Reads a checkpoint of any known format, maps its names strictly, stores it as safetensors, and registers it. The
   * same weights under the same contract are registered once in a model, and the same idempotencyKey gives the same
   * checkpoint. Null if the input is valid and sets validateOnly. Throws BAD_INPUT, IDEMPOTENCY_KEY_REUSED,
   * CHECKPOINT_NOT_FOUND (no such published checkpoint, or a file that is none of them),
   * NOT_AVAILABLE (its URL is unknown, or its publisher asks for consent), CONFLICT (it already has
   * other weights), and the errors of `ImportFiles.importFile`.
   */
  importCheckpoint(viewer: Viewer, input: unknown, clientGone?: AbortSignal): Promise<CheckpointRecord | null>;
}

export interface CheckpointImportParts extends ImportFileParts {
  readonly models: ModelStore;
  readonly checkpoints: CheckpointStore;
  readonly lineage: LineageStore;
  readonly transact: Transact;
  /**
   * Queues the measurement of the checkpoint's golden embedding, unless it has one; called in the transaction that
   * registers the weights.
   */
  readonly queueGolden: (tx: Transaction, checkpointId: string) => Promise<void>;
}

interface ImportCall {
  readonly viewer: Viewer;
  /** Aborts the fetch if the client has disconnected. */
  readonly clientGone: AbortSignal | undefined;
  readonly input: ImportCheckpointInput;
  readonly request: ImportRequest | null;
}

export function createCheckpointImports({
  models,
  checkpoints,
  lineage,
  transact,
  queueGolden,
  ...fileParts
}: CheckpointImportParts): CheckpointImportService {
  const runExclusive = createKeyedMutex();
  const files = createImportFiles(fileParts);
  const importFile = (
    request: Parameters<typeof files.importFile>[0],
    plan: Parameters<typeof files.importFile>[1],
    register: (tx: Transaction, read: EncoderFacts, stored: StoredBytes, file: LocalFile) => Promise<CheckpointRecord>,
  ): Promise<CheckpointRecord> =>
    files.importFile(request, plan, (read, stored, file) => transact((tx) => register(tx, read, stored, file)));

  /**
   * The last step of every import: queues the measurement of the golden embedding, and ties the idempotency key to this
   * checkpoint.
   */
  const settle = async (
    tx: Transaction,
    request: ImportRequest | null,
    checkpoint: CheckpointRecord,
  ): Promise<CheckpointRecord> => {
    await queueGolden(tx, checkpoint.id);
    return request === null
      ? checkpoint
      : ((await sameRequestOrThrow(checkpoints, request, tx)) ??
          (await checkpoints.recordImport(tx, request, checkpoint)));
  };

  const importOwn = async (
    { viewer, clientGone, input, request }: ImportCall,
    choice: Extract<ImportChoice, { kind: 'OWN' }>,
  ): Promise<CheckpointRecord> => {
    const { source, modelSlug, inputContract } = choice;
    const licence = input.licence ?? null;
    const expected = { sha256: input.sha256 ?? null, byteSize: null };
    return importFile(
      {
        viewer,
        clientGone,
        source,
        field: fieldOfSource(source),
        expected,
      },
      {
        encoder: input.encoder ?? null,
        network: null,
        keyPrefix: input.keyPrefix ?? null,
        specification: input.specification ?? null,
        inputContract,
      },
      async (tx, read, stored, file) => {
        const created = await models.create(tx, {
          slug: modelSlug,
          name: input.name ?? modelSlug,
          description: input.description ?? null,
          licence,
        });
        const model = created ?? (await models.findBy({ slug: modelSlug }, tx));
        if (model === undefined) throw new Error(`Model ${modelSlug} was neither found nor created.`);
        await models.lock(tx, model.id);
        await recordArtifacts(tx, [{ ...stored, mediaType: SAFETENSORS_MEDIA_TYPE }]);
        const importedFrom = externalSource(file, read, licence);
        const checkpoint =
          (await checkpoints.findBySha256(tx, model.id, stored.sha256)) ??
          (await checkpoints.createImported(tx, model.id, {
            architecture: read.architecture,
            embeddingDim: read.embeddingDim,
            inputContract: { ...inputContract, weightsDtype: read.weightsDtype },
            importedFrom,
            ...stored,
            tensorDigest: read.tensorDigest,
          }));
        await lineage.shareTrainedOn(tx, read.tensorDigest);
        return settle(tx, request, checkpoint);
      },
    );
  };

  const publishedNamed = async (slug: string): Promise<CheckpointRecord> => {
    const published = await checkpoints.findPublished(slug);
    if (published !== undefined) return published;
    throw new DomainError({
      code: 'CHECKPOINT_NOT_FOUND',
      message: `The published checkpoint "${slug}" does not exist.`,
      field: 'input.publishedCheckpoint',
      hint: 'List the published checkpoints with checkpoints(filter: { published: true }).',
    });
  };

  /** What the file's tensors tell of the network is kept; the catalogue knows the rest. */
  const planOf = ({ architecture, inputContract }: CheckpointRecord, input: ImportCheckpointInput): ReadingPlan => {
    const { name, statedFacts } = describeEncoder(architecture);
    return {
      encoder: null,
      network: name,
      keyPrefix: input.keyPrefix ?? null,
      specification: { ...statedFacts, ...input.specification },
      inputContract,
    };
  };

  /** Adds the file's weights to the published checkpoint. @throws DomainError CONFLICT if it has others. */
  const registerPublished =
    (published: CheckpointRecord, request: ImportRequest | null) =>
    async (tx: Transaction, read: EncoderFacts, stored: StoredBytes, file: LocalFile): Promise<CheckpointRecord> => {
      const known = published.importedFrom;
      await models.lock(tx, published.modelId);
      await recordArtifacts(tx, [{ ...stored, mediaType: SAFETENSORS_MEDIA_TYPE }]);
      const found = externalSource(file, read, known?.licence ?? null);
      const importedFrom = {
        ...found,
        url: known?.url ?? found.url,
        fileName: known?.fileName ?? found.fileName,
        accessUrl: known?.accessUrl ?? null,
      };
      const filled =
        (await checkpoints.fillPublished(tx, published.id, {
          ...stored,
          architecture: read.architecture,
          inputContract: { ...published.inputContract, weightsDtype: read.weightsDtype },
          tensorDigest: read.tensorDigest,
          importedFrom,
        })) ?? (await checkpoints.findPublished(published.publishedSlug ?? '', tx));
      await lineage.shareTrainedOn(tx, read.tensorDigest);
      if (filled?.sha256 === stored.sha256) return settle(tx, request, filled);
      throw new DomainError({
        code: 'CONFLICT',
        message: 'This published checkpoint already has other weights in this registry.',
        field: 'input.publishedCheckpoint',
        hint: 'Import the file into a model of your own, by modelSlug.',
      });
    };

  const importPublished = async (
    { viewer, clientGone, input, request }: ImportCall,
    choice: Extract<ImportChoice, { kind: 'PUBLISHED' }>,
  ): Promise<CheckpointRecord> => {
    const published = await publishedNamed(choice.slug);
    if (input.encoder != null && input.encoder !== published.encoder) {
      throw new DomainError({
        code: 'CHECKPOINT_INCOMPATIBLE',
        message: `The published checkpoint is a ${published.encoder}, not the stated ${input.encoder}.`,
        field: 'input.encoder',
        hint: 'Leave encoder out.',
      });
    }
    if (published.sha256 !== null && choice.source === undefined)
      return transact((tx) => settle(tx, request, published));
    const known = published.importedFrom;
    const sha256 = known?.sha256 ?? null;
    if (sha256 !== null && input.sha256 != null && input.sha256 !== sha256) {
      throw new DomainError({
        code: 'DIGEST_MISMATCH',
        message: `The published file's sha256 is ${sha256}, not the stated one.`,
        field: 'input.sha256',
        hint: 'Leave it out.',
      });
    }
    const source = choice.source ?? (known?.url == null ? undefined : ({ kind: 'URL', url: known.url } as const));
    if (source === undefined) throw notAvailable(published);
    const field = choice.source === undefined ? 'input.publishedCheckpoint' : fieldOfSource(choice.source);
    const expected = { sha256: sha256 ?? input.sha256 ?? null, byteSize: known?.byteSize ?? null };
    return importFile(
      { viewer, clientGone, source, field, expected },
      planOf(published, input),
      registerPublished(published, request),
    );
  };

  const importRecognised = async (
    { viewer, clientGone, input, request }: ImportCall,
    { source }: Extract<ImportChoice, { kind: 'RECOGNISED' }>,
  ): Promise<CheckpointRecord> => {
    let published: CheckpointRecord | undefined;
    return importFile(
      {
        viewer,
        clientGone,
        source,
        field: fieldOfSource(source),
        expected: { sha256: input.sha256 ?? null, byteSize: null },
      },
      async (identify) => {
        const { encoder = null, keyPrefix = null, specification = null } = input;
        const facts = await identify({ encoder, keyPrefix, specification });
        const [found] = await checkpoints.findPublishedByFile({
          sha256: facts.sourceSha256,
          tensorDigest: facts.tensorDigest,
        });
        published = found;
        if (found === undefined) throw notRecognised(facts, await checkpoints.allPublished());
        return planOf(found, input);
      },
      (tx, read, stored, file) => {
        if (published === undefined) throw new Error('The file was not identified.');
        return registerPublished(published, request)(tx, read, stored, file);
      },
    );
  };

  const importAs = (call: ImportCall, choice: ImportChoice): Promise<CheckpointRecord> => {
    switch (choice.kind) {
      case 'OWN':
        return importOwn(call, choice);
      case 'PUBLISHED':
        return importPublished(call, choice);
      case 'RECOGNISED':
        return importRecognised(call, choice);
    }
  };

  return {
    importCheckpoint: async (viewer, raw, clientGone) => {
      authorise(viewer, 'CONTRIBUTOR');
      const input = parseInput(importCheckpointSchema, raw);
      if (input.validateOnly === true) {
        validateImport(input);
        return null;
      }
      const choice = importChoice(input);
      // An upload belongs to the caller; files and URLs are read by the server for any caller with the permission.
      if (choice.source?.kind !== 'UPLOAD') authorise(viewer, 'OPERATOR');
      const request =
        input.idempotencyKey == null
          ? null
          : {
              idempotencyKey: input.idempotencyKey,
              inputDigest: digestOfInput({
                ...input,
                inputContract: input.inputContract == null ? null : contractInFile(input.inputContract),
              }),
            };
      const call = { viewer, clientGone, input, request };
      if (request === null) return importAs(call, choice);
      return runExclusive(
        request.idempotencyKey,
        async () => (await sameRequestOrThrow(checkpoints, request)) ?? importAs(call, choice),
      );
    },
  };
}

/**
 * The checkpoint that an earlier import with the same key registered; undefined for a new key.
 *
 * @throws DomainError IDEMPOTENCY_KEY_REUSED.
 */
async function sameRequestOrThrow(
  checkpoints: CheckpointStore,
  request: ImportRequest,
  tx?: Transaction,
): Promise<CheckpointRecord | undefined> {
  const earlier = await checkpoints.findImport(request.idempotencyKey, tx);
  if (earlier === undefined || earlier.inputDigest === request.inputDigest) return earlier?.checkpoint;
  throw new DomainError({
    code: 'IDEMPOTENCY_KEY_REUSED',
    message: 'The idempotencyKey was already used with another input.',
    field: 'input.idempotencyKey',
    hint: `Use a new key; the old one belongs to checkpoint ${earlier.checkpoint.id}.`,
  });
}

/** Serialises work with the same key, so that a request that is repeated during the first one finds its result. */
function createKeyedMutex(): <Result>(key: string, work: () => Promise<Result>) => Promise<Result> {
  const last = new Map<string, Promise<unknown>>();
  return async (key, work) => {
    const current = (last.get(key) ?? Promise.resolve()).then(work);
    const settled = current.catch(() => undefined);
    last.set(key, settled);
    try {
      return await current;
    } finally {
      if (last.get(key) === settled) last.delete(key);
    }
  };
}

function externalSource(
  { url, fileName }: LocalFile,
  read: EncoderFacts,
  licence: string | null,
): ExternalSourceRecord {
  return {
    url,
    fileName,
    byteSize: read.sourceByteSize,
    sha256: read.sourceSha256,
    licence,
    accessUrl: null,
    contents: read.contents,
  };
}

/** The error for a published checkpoint that cannot be fetched: it says where a person gets the file. */
function notAvailable({ publishedSlug, importedFrom }: CheckpointRecord): DomainError {
  const accessUrl = importedFrom?.accessUrl ?? null;
  const then = `Then import it with path (or paraffin models import FILE --published ${publishedSlug ?? ''}).`;
  return new DomainError({
    code: 'NOT_AVAILABLE',
    field: 'input.publishedCheckpoint',
    ...(accessUrl === null
      ? {
          message: 'The URL of this published checkpoint is not known.',
          hint: `Find the file at the source that its model names. ${then}`,
        }
      : {
          message: 'The publisher gives this file only to those who accept its conditions.',
          hint: `Ask for access at ${accessUrl} and download the file. ${then}`,
        }),
  });
}

/** How many published checkpoints an error names. */
const MAX_CANDIDATES = 8;

/** The error for a file that the catalogue does not know, with the published checkpoints of the same network. */
function notRecognised({ architecture }: EncoderFacts, published: readonly CheckpointRecord[]): DomainError {
  const { name } = describeEncoder(architecture);
  const candidates = published.filter((checkpoint) => describeEncoder(checkpoint.architecture).name === name);
  const slugs = candidates.slice(0, MAX_CANDIDATES).map(({ publishedSlug }) => publishedSlug);
  const more = candidates.length - slugs.length;
  const own = 'give modelSlug and inputContract';
  return new DomainError({
    code: 'CHECKPOINT_NOT_FOUND',
    message: `The file contains a ${name}, and its sha256 and tensors are those of no published checkpoint in the catalogue.`,
    hint:
      slugs.length === 0
        ? `To import it, ${own}.`
        : `Published with this network: ${slugs.join(', ')}${more > 0 ? ` and ${more} more` : ''}. If the file is one of them, give its name as publishedCheckpoint; otherwise ${own}.`,
  });
}
