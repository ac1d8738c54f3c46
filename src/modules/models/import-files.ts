/**
 * How the source of an import becomes stored weights: the file is opened, taken from an upload or fetched, read in a
 * sandbox within a memory budget, and its copy is deleted afterwards.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import path from 'node:path';
import { DomainError } from '../../errors.ts';
import type { ArtifactStore, StoredBytes } from '../../platform/artifact-store/index.ts';
import { createFairPool } from '../../platform/fair-pool.ts';
import { openImportFile } from '../../platform/import-roots.ts';
import { fetchRemoteFile } from '../../platform/remote-file.ts';
import type { UploadStore } from '../../platform/upload-store.ts';
import { personOf, type Viewer } from '../access/index.ts';
import type { EncoderFacts, EncoderFileTask } from './encoder-file.ts';
import { readEncoderFileInSandbox, type ReadEncoder } from './encoder-process.ts';
import type { InputContract } from '../../protocol/checkpoint.ts';
import { fileNameOfUrl, recordedUrl, type ImportSource } from './import.rules.ts';

export interface ImportFiles {
  /**
   * Reads the file, stores its weights and calls `register` with them; only then is the file closed. Throws the errors
   * of `readEncoderFile`, `fetchRemoteFile`, `openImportFile` and `UploadStore.consume`, each with the input field that
   * named the source.
   * @param plan how the file is to be read, or a function that decides it by what the file contains.
   */
  importFile<Result>(
    request: FileRequest,
    plan: ReadingPlan | ((identify: Identify) => Promise<ReadingPlan>),
    register: (read: EncoderFacts, stored: StoredBytes, file: LocalFile) => Promise<Result>,
  ): Promise<Result>;
}

export interface ImportFileParts {
  readonly artifacts: ArtifactStore;
  readonly uploads: UploadStore;
  readonly importRoots: readonly string[];
  /** Folder for files that are being imported. */
  readonly downloadsDir: string;
  readonly allowPrivateUrls: boolean;
}

/** Reads the file without storing its weights. */
export type Identify = (
  stated: Pick<EncoderFileTask, 'encoder' | 'keyPrefix' | 'specification'>,
) => Promise<EncoderFacts>;

/** What to find in a file, and how images are prepared for it. */
export type ReadingPlan = Pick<EncoderFileTask, 'encoder' | 'network' | 'keyPrefix' | 'specification'> & {
  readonly inputContract: InputContract;
};

/** Facts of a file that are known before it is read. */
interface Expectation {
  readonly sha256: string | null;
  readonly byteSize: number | null;
}

export interface FileRequest {
  readonly viewer: Viewer;
  readonly clientGone: AbortSignal | undefined;
  readonly source: ImportSource;
  /** The input field that named the source. */
  readonly field: string;
  readonly expected: Expectation;
}

/** A file that is ready to be read. */
export interface LocalFile {
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

export function createImportFiles({
  artifacts,
  uploads,
  importRoots,
  downloadsDir,
  allowPrivateUrls,
}: ImportFileParts): ImportFiles {
  const readings = createFairPool({
    // At least two, so that one slow file never blocks all other imports.
    slotCount: Math.max(2, availableParallelism()),
    budgetBytes: Math.min(READING_BUDGET_BYTES, totalmem() / 4),
  });
  const readQueued = async <Kept>(
    viewer: Viewer,
    { handle }: LocalFile,
    task: EncoderFileTask,
    keep: (bytes: AsyncIterable<Uint8Array>) => Promise<Kept>,
  ): Promise<ReadEncoder<Kept>> => {
    const { size } = await handle.stat();
    // Half precision takes twice its size in the stored form, which is whole in memory.
    return readings.run(personOf(viewer) ?? '', READING_BASE_BYTES + 2 * size, () =>
      readEncoderFileInSandbox(handle, task, downloadsDir, keep),
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

  return {
    importFile: async (request, plan, register) => {
      const { viewer, field, expected } = request;
      try {
        return await withFile(request, async (file) => {
          const known = {
            fileName: file.fileName,
            expectedSha256: file.sha256,
            expectedByteSize: expected.byteSize,
          };
          const identify: Identify = async (stated) => {
            const task = { ...known, ...stated, network: null, inputContract: null };
            return (await readQueued(viewer, file, task, async () => undefined)).facts;
          };
          const task = typeof plan === 'function' ? await plan(identify) : plan;
          const { facts, kept } = await readQueued(viewer, file, { ...known, ...task }, (bytes) =>
            artifacts.put(bytes),
          );
          return register(facts, kept, file);
        });
      } catch (error) {
        throw withField(error, field);
      }
    },
  };
}

/** The sha256 that an upload must have, as stated in the input or when the upload began. */
function sha256OfUpload(stated: string | null, declaredAtStart: string | null): string {
  if (stated !== null && declaredAtStart !== null && stated !== declaredAtStart) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: "The sha256 differs from that of the upload's metadata.",
      field: 'input.sha256',
      hint: 'Leave it out, or start another upload.',
    });
  }
  const sha256 = stated ?? declaredAtStart;
  if (sha256 !== null) return sha256;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: 'The sha256 of the upload is missing, so damage could not be detected.',
    field: 'input.sha256',
    hint: 'Give the sha256 of the whole file, here or in the metadata of the upload.',
  });
}

/** An error of a file's reader, attached to the input field that named the file. */
function withField(error: unknown, field: string): unknown {
  if (!(error instanceof DomainError) || error.field !== undefined) return error;
  const { code, message, hint, retryable } = error;
  return new DomainError({ code, message, field, retryable, cause: error, ...(hint === undefined ? {} : { hint }) });
}
