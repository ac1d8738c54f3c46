/**
 * Imports external checkpoints: from a file below an import root, from a URL, or from the catalogue of published
 * checkpoints.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import path from 'node:path';
import { DomainError } from '../../errors.ts';
import { digestOfInput, parseInput } from '../../input.ts';
import type { ArtifactStore, StoredBytes } from '../../platform/artifact-store.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import { createFairPool } from '../../platform/fair-pool.ts';
import { openImportFile } from '../../platform/import-roots.ts';
import { fetchRemoteFile } from '../../platform/remote-file.ts';
import type { UploadStore } from '../../platform/upload-store.ts';
import { authorise, personOf, type Viewer } from '../access/index.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import type { CheckpointStore, ImportRequest } from './checkpoints.store.ts';
import type { EncoderFacts, EncoderFileTask } from './encoder-file.ts';
import { readEncoderFileInSandbox, type ReadEncoder } from './encoder-process.ts';
import {
  fieldOfSource,
  fileNameOfUrl,
  importCheckpointSchema,
  importChoice,
  recordedUrl,
  validateImport,
  type ImportCheckpointInput,
  type ImportChoice,
  type ImportSource,
} from './import.rules.ts';
import type { LineageStore } from './lineage.store.ts';
import type { CheckpointRecord, ExternalSourceRecord } from './models.records.ts';
import { SAFETENSORS_MEDIA_TYPE } from './models.rules.ts';
import type { ModelStore } from './models.store.ts';

export interface CheckpointImportService {
  /**
   * Reads a checkpoint of any known format, maps its names strictly, stores it as safetensors, and registers it. The
   * same weights under the same contract are registered once in a model, and the same idempotencyKey gives the same
   * checkpoint. Null if the input is valid and says validateOnly. Throws BAD_INPUT, IDEMPOTENCY_KEY_REUSED,
   * CHECKPOINT_NOT_FOUND (no such published checkpoint), NOT_AVAILABLE (its URL is unknown), CONFLICT (it already has
   * other weights), and the errors of `readEncoderFile`, `fetchRemoteFile`, `openImportFile` and `UploadStore.consume`.
   */
  importCheckpoint(viewer: Viewer, input: unknown, clientGone?: AbortSignal): Promise<CheckpointRecord | null>;
}

export interface CheckpointImportParts {
  readonly models: ModelStore;
  readonly checkpoints: CheckpointStore;
  readonly lineage: LineageStore;
  readonly transact: Transact;
  readonly artifacts: ArtifactStore;
  readonly uploads: UploadStore;
  readonly importRoots: readonly string[];
  /** Folder for files that are being imported. */
  readonly downloadsDir: string;
  readonly allowPrivateUrls: boolean;
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

/** Facts of a file that are known before it is read. */
interface Expectation {
  readonly sha256: string | null;
  readonly byteSize: number | null;
}

interface FileRequest {
  readonly viewer: Viewer;
  readonly clientGone: AbortSignal | undefined;
  readonly source: ImportSource;
  /** The input field that named the source. */
  readonly field: string;
  readonly expected: Expectation;
}

/** A file that is ready to be read. */
interface LocalFile {
  readonly handle: FileHandle;
  /** The source, as recorded. */
  readonly fileName: string | null;
  readonly url: string | null;
  /** The expected sha256, if one was stated. */
  readonly sha256: string | null;
}

/** The largest file that is accepted: the size limit of PyTorch checkpoints. */
const MAX_DOWNLOAD_BYTES = 4 * 1024 ** 3;
/** Memory budget of all concurrent reads of weights; at most a quarter of the machine's memory. */
const READING_BUDGET_BYTES = 4 * 1024 ** 3;
/** Memory of a reader process before it holds any weights. */
const READING_BASE_BYTES = 200 * 1024 ** 2;
/** The part of a file that is in memory at once, counted a second time for the stored form. */
const LARGEST_WEIGHTS_BYTES = 1024 ** 3;

export function createCheckpointImports({
  models,
  checkpoints,
  lineage,
  transact,
  artifacts,
  uploads,
  importRoots,
  downloadsDir,
  allowPrivateUrls,
  queueGolden,
}: CheckpointImportParts): CheckpointImportService {
  const runExclusive = createKeyedMutex();
  const readings = createFairPool({
    // At least two, so that one slow file never blocks all other imports.
    places: Math.max(2, availableParallelism()),
    budgetBytes: Math.min(READING_BUDGET_BYTES, totalmem() / 4),
  });
  const readQueued = async (
    viewer: Viewer,
    { handle }: LocalFile,
    task: EncoderFileTask,
  ): Promise<ReadEncoder<StoredBytes>> => {
    const { size } = await handle.stat();
    return readings.run(personOf(viewer) ?? '', READING_BASE_BYTES + 2 * Math.min(size, LARGEST_WEIGHTS_BYTES), () =>
      readEncoderFileInSandbox(handle, task, downloadsDir, (bytes) => artifacts.put(bytes)),
    );
  };

  /** Calls `work` with the file, then deletes the fetched or uploaded copy. */
  const withFile = async <Result>(
    { viewer, clientGone, source, field, expected }: FileRequest,
    work: (file: LocalFile) => Promise<Result>,
  ): Promise<Result> => {
    if (source.kind === 'PATH') {
      await using handle = await openImportFile(source.path, importRoots, 'input.path');
      return await work({ handle, fileName: path.basename(source.path), url: null, sha256: expected.sha256 });
    }
    if (source.kind === 'UPLOAD')
      return uploads.consume(source.uploadId, viewer.kind === 'KEY' ? viewer.keyId : '', async (upload) => {
        const sha256 = sha256OfUpload(expected.sha256, upload.sha256);
        await using handle = await open(upload.path, 'r');
        return await work({ handle, fileName: upload.fileName, url: null, sha256 });
      });
    await mkdir(downloadsDir, { recursive: true });
    const destination = path.join(downloadsDir, randomUUID());
    try {
      await fetchRemoteFile({
        url: source.url,
        destination,
        maxBytes: MAX_DOWNLOAD_BYTES,
        isAllowedAddress: allowPrivateUrls ? () => true : undefined,
        expectedSha256: expected.sha256 ?? undefined,
        expectedByteSize: expected.byteSize ?? undefined,
        field,
        signal: clientGone,
      });
      await using handle = await open(destination, 'r');
      return await work({
        handle,
        fileName: fileNameOfUrl(source.url),
        url: recordedUrl(source.url),
        sha256: expected.sha256,
      });
    } finally {
      await rm(destination, { force: true });
    }
  };

  /** Reads the file, stores its weights and registers them; only then is the file closed. */
  const importFile = async (
    {
      viewer,
      clientGone,
      source,
      field,
      expected,
      ...task
    }: FileRequest & Pick<EncoderFileTask, 'encoder' | 'keyPrefix' | 'inputContract'>,
    register: (tx: Transaction, read: EncoderFacts, stored: StoredBytes, file: LocalFile) => Promise<CheckpointRecord>,
  ): Promise<CheckpointRecord> => {
    try {
      return await withFile({ viewer, clientGone, source, field, expected }, async (file) => {
        const { facts, kept } = await readQueued(viewer, file, {
          ...task,
          fileName: file.fileName,
          expectedSha256: file.sha256,
          expectedByteSize: expected.byteSize,
        });
        return transact((tx) => register(tx, facts, kept, file));
      });
    } catch (error) {
      throw withField(error, field);
    }
  };

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
        encoder: input.encoder ?? null,
        keyPrefix: input.keyPrefix ?? null,
        inputContract,
      },
      async (tx, read, stored, file) => {
        const made = await models.create(tx, {
          slug: modelSlug,
          name: input.name ?? modelSlug,
          description: input.description ?? null,
          licence,
        });
        const model = made ?? (await models.findBy({ slug: modelSlug }, tx));
        if (model === undefined) throw new Error(`Model ${modelSlug} was neither found nor created.`);
        await models.lock(tx, model.id);
        await recordArtifacts(tx, [{ ...stored, mediaType: SAFETENSORS_MEDIA_TYPE }]);
        const importedFrom = externalSource(file, read, licence);
        const checkpoint =
          (await checkpoints.findBySha256(tx, model.id, stored.sha256)) ??
          (await checkpoints.createImported(tx, model.id, {
            encoder: read.encoder,
            embeddingDim: read.embeddingDim,
            inputContract,
            importedFrom,
            ...stored,
            tensorDigest: read.tensorDigest,
          }));
        await lineage.shareTrainedOn(tx, read.tensorDigest);
        return settle(tx, request, checkpoint);
      },
    );
  };

  const importPublished = async (
    { viewer, clientGone, input, request }: ImportCall,
    choice: Extract<ImportChoice, { kind: 'PUBLISHED' }>,
  ): Promise<CheckpointRecord> => {
    const published = await checkpoints.findPublished(choice.slug);
    if (published === undefined) {
      throw new DomainError({
        code: 'CHECKPOINT_NOT_FOUND',
        message: `The published checkpoint "${choice.slug}" does not exist.`,
        field: 'input.publishedCheckpoint',
        hint: 'List the published checkpoints with checkpoints(filter: { published: true }).',
      });
    }
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
    const source =
      choice.source ?? (known === null || known.url === null ? undefined : ({ kind: 'URL', url: known.url } as const));
    if (source === undefined) {
      throw new DomainError({
        code: 'NOT_AVAILABLE',
        message: 'The URL of this published checkpoint is not known.',
        field: 'input.publishedCheckpoint',
        hint: 'Find the file at the source that its model names, and give its path or url together with publishedCheckpoint.',
      });
    }
    const { encoder, inputContract } = published;
    const field = choice.source === undefined ? 'input.publishedCheckpoint' : fieldOfSource(choice.source);
    const expected = { sha256: sha256 ?? input.sha256 ?? null, byteSize: known?.byteSize ?? null };
    return importFile(
      { viewer, clientGone, source, field, expected, encoder, keyPrefix: input.keyPrefix ?? null, inputContract },
      async (tx, read, stored, file) => {
        await models.lock(tx, published.modelId);
        await recordArtifacts(tx, [{ ...stored, mediaType: SAFETENSORS_MEDIA_TYPE }]);
        const found = externalSource(file, read, known?.licence ?? null);
        const importedFrom = { ...found, url: known?.url ?? found.url, fileName: known?.fileName ?? found.fileName };
        const filled =
          (await checkpoints.fillPublished(tx, published.id, {
            ...stored,
            tensorDigest: read.tensorDigest,
            importedFrom,
          })) ?? (await checkpoints.findPublished(choice.slug, tx));
        await lineage.shareTrainedOn(tx, read.tensorDigest);
        if (filled?.sha256 === stored.sha256) return settle(tx, request, filled);
        throw new DomainError({
          code: 'CONFLICT',
          message: 'This published checkpoint already has other weights in this registry.',
          field: 'input.publishedCheckpoint',
          hint: 'Import the file into a model of your own, by modelSlug.',
        });
      },
    );
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
          : { idempotencyKey: input.idempotencyKey, inputDigest: digestOfInput(input) };
      const call = { viewer, clientGone, input, request };
      const run = (): Promise<CheckpointRecord> =>
        choice.kind === 'OWN' ? importOwn(call, choice) : importPublished(call, choice);
      if (request === null) return run();
      return runExclusive(
        request.idempotencyKey,
        async () => (await sameRequestOrThrow(checkpoints, request)) ?? run(),
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

/** The sha256 that an upload must have, as stated in the input or when the upload began. */
function sha256OfUpload(stated: string | null, begunWith: string | null): string {
  if (stated !== null && begunWith !== null && stated !== begunWith) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: "The sha256 differs from that of the upload's metadata.",
      field: 'input.sha256',
      hint: 'Leave it out, or start another upload.',
    });
  }
  const sha256 = stated ?? begunWith;
  if (sha256 !== null) return sha256;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: 'The sha256 of the upload is missing, so damage could not be detected.',
    field: 'input.sha256',
    hint: 'Give the sha256 of the whole file, here or in the metadata of the upload.',
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

/** An error of a file's reader, attached to the input field that named the file. */
function withField(error: unknown, field: string): unknown {
  if (!(error instanceof DomainError) || error.field !== undefined) return error;
  const { code, message, hint, retryable } = error;
  return new DomainError({ code, message, field, retryable, cause: error, ...(hint === undefined ? {} : { hint }) });
}

function externalSource(
  { url, fileName }: LocalFile,
  read: EncoderFacts,
  licence: string | null,
): ExternalSourceRecord {
  return { url, fileName, byteSize: read.sourceByteSize, sha256: read.sourceSha256, licence, contents: read.contents };
}
