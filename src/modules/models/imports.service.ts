/** Brings in checkpoints that were made elsewhere: from a file below an import root, from an address, or from the catalogue of published ones. */
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../../errors.ts';
import { parseInput } from '../../input.ts';
import type { ArtifactStore } from '../../platform/artifact-store.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import { resolveImportFile } from '../../platform/import-roots.ts';
import { fetchRemoteFile } from '../../platform/remote-file.ts';
import { authorise, type Viewer } from '../access/index.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import type { EncoderFile, EncoderFileTask } from './encoder-file.ts';
import { readEncoderFileInThread } from './encoder-thread.ts';
import { fileNameOfUrl, importCheckpointSchema, importChoice, recordedUrl, type ImportCheckpointInput, type ImportSource } from './import.rules.ts';
import type { CheckpointRecord, ExternalSourceRecord } from './models.records.ts';
import { SAFETENSORS_MEDIA_TYPE } from './models.rules.ts';
import type { ModelStore } from './models.store.ts';

export interface CheckpointImportService {
  /**
   * Reads a checkpoint of any known format, maps its names strictly, stores it as safetensors, and registers it. The same weights under the
   * same contract are registered once in a model. Throws BAD_INPUT, CHECKPOINT_NOT_FOUND (no such published one), NOT_AVAILABLE (its address
   * is not known), CONFLICT (it is here with other weights), and the errors of `readEncoderFile`, `fetchRemoteFile` and `resolveImportFile`.
   */
  importCheckpoint(viewer: Viewer, input: unknown): Promise<CheckpointRecord>;
}

export interface CheckpointImportParts {
  readonly store: ModelStore;
  readonly transact: Transact;
  readonly artifacts: ArtifactStore;
  readonly importRoots: readonly string[];
  /** For files on their way in. */
  readonly downloadsDir: string;
  readonly allowPrivateUrls: boolean;
  /** Asks a worker for the checkpoint's golden embedding, unless it has one; called in the transaction that registers the weights. */
  readonly queueGolden: (tx: Transaction, checkpointId: string) => Promise<void>;
}

/** What is known of a file before it is read. */
interface Expectation {
  readonly sha256: string | null;
  readonly byteSize: number | null;
}

/** As much as is read of a PyTorch checkpoint. */
const MAX_DOWNLOAD_BYTES = 4 * 1024 ** 3;
/** Chunks of what is stored, so that hashing them leaves the event loop to others. */
const CHUNK_BYTES = 1024 * 1024;

export function createCheckpointImports({ store, transact, artifacts, importRoots, downloadsDir, allowPrivateUrls, queueGolden }: CheckpointImportParts): CheckpointImportService {
  let lastReading: Promise<unknown> = Promise.resolve();
  /** One after another: each may take hundreds of megabytes. */
  const readInTurn = (task: EncoderFileTask): Promise<EncoderFile> => {
    const reading = lastReading.then(() => readEncoderFileInThread(task));
    lastReading = reading.catch(() => undefined);
    return reading;
  };

  /** Gives the file to `work`, and takes away again what was fetched for it. */
  const withFile = async <Result>(source: ImportSource, expected: Expectation, work: (file: string) => Promise<Result>): Promise<Result> => {
    if (source.kind === 'PATH') return work(await resolveImportFile(source.path, importRoots, 'input.path'));
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
        field: 'input.url',
      });
      return await work(destination);
    } finally {
      await rm(destination, { force: true });
    }
  };

  /** Reads the file and stores what it holds. */
  const bringIn = async (source: ImportSource, expected: Expectation, task: Pick<EncoderFileTask, 'encoder' | 'keyPrefix' | 'inputContract'>) =>
    withFile(source, expected, async (file) => {
      const read = await readInTurn({ ...task, path: file, expectedSha256: expected.sha256, expectedByteSize: expected.byteSize }).catch((error: unknown) => {
        throw atField(error, source.kind === 'PATH' ? 'input.path' : 'input.url');
      });
      const stored = await artifacts.put(chunksOf(read.bytes));
      return { read, stored };
    });

  const importOwn = async (input: ImportCheckpointInput, choice: Extract<ReturnType<typeof importChoice>, { kind: 'OWN' }>): Promise<CheckpointRecord> => {
    const { source, modelSlug, inputContract } = choice;
    const { read, stored } = await bringIn(source, { sha256: input.sha256 ?? null, byteSize: null }, { encoder: input.encoder ?? null, keyPrefix: input.keyPrefix ?? null, inputContract });
    const licence = input.licence ?? null;
    return transact(async (tx) => {
      const made = await store.create(tx, { slug: modelSlug, name: input.name ?? modelSlug, description: input.description ?? null, licence });
      const model = made ?? (await store.findBy({ slug: modelSlug }, tx));
      if (model === undefined) throw new Error(`Model ${modelSlug} was neither found nor made.`);
      await store.lock(tx, model.id);
      await recordArtifacts(tx, [{ ...stored, mediaType: SAFETENSORS_MEDIA_TYPE }]);
      const importedFrom = externalSource(source, read, licence);
      const checkpoint =
        (await store.findCheckpointBySha256(tx, model.id, stored.sha256)) ??
        (await store.createImportedCheckpoint(tx, model.id, { encoder: read.encoder, embeddingDim: read.embeddingDim, inputContract, importedFrom, ...stored }));
      await queueGolden(tx, checkpoint.id);
      return checkpoint;
    });
  };

  const importPublished = async (input: ImportCheckpointInput, choice: Extract<ReturnType<typeof importChoice>, { kind: 'PUBLISHED' }>): Promise<CheckpointRecord> => {
    const published = await store.findPublished(choice.slug);
    if (published === undefined) {
      throw new DomainError({ code: 'CHECKPOINT_NOT_FOUND', message: `There is no published checkpoint "${choice.slug}".`, field: 'input.publishedCheckpoint', hint: 'List them: checkpoints(filter: { published: true }).' });
    }
    if (input.encoder != null && input.encoder !== published.encoder) {
      throw new DomainError({ code: 'CHECKPOINT_INCOMPATIBLE', message: `The published checkpoint is a ${published.encoder}, not the stated ${input.encoder}.`, field: 'input.encoder', hint: 'Leave encoder out.' });
    }
    if (published.sha256 !== null && choice.source === undefined) return published;
    const known = published.importedFrom;
    const sha256 = known?.sha256 ?? null;
    if (sha256 !== null && input.sha256 != null && input.sha256 !== sha256) {
      throw new DomainError({ code: 'DIGEST_MISMATCH', message: `The published file's sha256 is ${sha256}, not the stated one.`, field: 'input.sha256', hint: 'Leave it out.' });
    }
    const source = choice.source ?? (known === null || known.url === null ? undefined : ({ kind: 'URL', url: known.url } as const));
    if (source === undefined) {
      throw new DomainError({ code: 'NOT_AVAILABLE', message: 'The address of this published checkpoint is not known.', field: 'input.publishedCheckpoint', hint: 'Find the file where its model says that it was released, and give its path or url beside publishedCheckpoint.' });
    }
    const { encoder, inputContract } = published;
    const { read, stored } = await bringIn(source, { sha256: sha256 ?? input.sha256 ?? null, byteSize: known?.byteSize ?? null }, { encoder, keyPrefix: input.keyPrefix ?? null, inputContract });
    return transact(async (tx) => {
      await store.lock(tx, published.modelId);
      await recordArtifacts(tx, [{ ...stored, mediaType: SAFETENSORS_MEDIA_TYPE }]);
      const found = externalSource(source, read, known?.licence ?? null);
      const importedFrom = { ...found, url: known?.url ?? found.url, fileName: known?.fileName ?? found.fileName };
      const filled = (await store.fillPublished(tx, published.id, { ...stored, importedFrom })) ?? (await store.findPublished(choice.slug, tx));
      if (filled?.sha256 === stored.sha256) {
        await queueGolden(tx, filled.id);
        return filled;
      }
      throw new DomainError({ code: 'CONFLICT', message: 'This published checkpoint is here already, with other weights.', field: 'input.publishedCheckpoint', hint: 'Import the file into a model of your own, by modelSlug.' });
    });
  };

  return {
    importCheckpoint: async (viewer, raw) => {
      // The server reads files and fetches addresses for whoever may do this.
      authorise(viewer, 'OPERATOR');
      const input = parseInput(importCheckpointSchema, raw);
      const choice = importChoice(input);
      return choice.kind === 'OWN' ? importOwn(input, choice) : importPublished(input, choice);
    },
  };
}

/** What a file's reader found wrong, at the input that named the file. */
function atField(error: unknown, field: string): unknown {
  if (!(error instanceof DomainError) || error.field !== undefined) return error;
  const { code, message, hint, retryable } = error;
  return new DomainError({ code, message, field, retryable, cause: error, ...(hint === undefined ? {} : { hint }) });
}

function externalSource(source: ImportSource, read: EncoderFile, licence: string | null): ExternalSourceRecord {
  const facts = { byteSize: read.sourceByteSize, sha256: read.sourceSha256, licence, contents: read.contents };
  return source.kind === 'PATH' ? { url: null, fileName: path.basename(source.path), ...facts } : { url: recordedUrl(source.url), fileName: fileNameOfUrl(source.url), ...facts };
}

async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) yield bytes.subarray(start, start + CHUNK_BYTES);
}
