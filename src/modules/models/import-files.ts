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
import { MAX_SHARD_INDEX_BYTES, SHARD_INDEX_ENDING, shardNamesOf } from '../../formats/sharded-safetensors.ts';
import { createFairPool } from '../../platform/fair-pool.ts';
import { openImportFile } from '../../platform/import-roots.ts';
import { fetchRemoteFile } from '../../platform/remote-file.ts';
import type { UploadStore } from '../../platform/upload-store.ts';
import { personOf, type Viewer } from '../access/index.ts';
import type { EncoderFacts, EncoderFileTask } from './encoder-file.ts';
import { readEncoderFileInSandbox, type ReadEncoder } from './encoder-process.ts';
import { explained } from './encoder-refusals.ts';
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
  /** One file, or its shards in their order. */
  readonly handles: readonly FileHandle[];
  /** The source, as recorded. */
  readonly fileName: string | null;
  readonly url: string | null;
  /** The expected sha256, if one was stated. */
  readonly sha256: string | null;
}

/** Memory of a reader process before it holds any weights. */
const READING_BASE_BYTES = 200 * 1024 ** 2;
/**
 * A reader holds one tensor at a time, as it is in the file and as float32. The largest one of a small network is a
 * fifth of its file; of a large one it is a hundredth.
 */
const READING_FRACTION = 0.3;

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
    budgetBytes: totalmem() / 4,
  });
  const readQueued = async <Kept>(
    viewer: Viewer,
    { handles }: LocalFile,
    task: EncoderFileTask,
    keep: (bytes: AsyncIterable<Uint8Array>) => Promise<Kept>,
  ): Promise<ReadEncoder<Kept>> => {
    const sizes = await Promise.all(handles.map(async (handle) => (await handle.stat()).size));
    const byteSize = sizes.reduce((sum, size) => sum + size, 0);
    return readings.run(personOf(viewer) ?? '', READING_BASE_BYTES + READING_FRACTION * byteSize, () =>
      readEncoderFileInSandbox(handles, task, downloadsDir, keep),
    );
  };

  /** Calls `work` with the file, then deletes the fetched or uploaded copy. */
  const withFile = async <Result>(
    { viewer, clientGone, source, field, expected }: FileRequest,
    work: (file: LocalFile) => Promise<Result>,
  ): Promise<Result> => {
    if (source.kind === 'PATH') {
      await using opened = new AsyncDisposableStack();
      const handles = await openWithShards(source.path, importRoots, opened);
      return await work({ handles, fileName: path.basename(source.path), url: null, sha256: expected.sha256 });
    }
    if (source.kind === 'UPLOAD')
      return uploads.consume(source.uploadId, viewer.kind === 'KEY' ? viewer.keyId : '', async (upload) => {
        const sha256 = sha256OfUpload(expected.sha256, upload.sha256);
        await using handle = await open(upload.path, 'r');
        return await work({ handles: [handle], fileName: upload.fileName, url: null, sha256 });
      });
    await mkdir(downloadsDir, { recursive: true });
    const destination = path.join(downloadsDir, randomUUID());
    try {
      await fetchRemoteFile({
        url: source.url,
        destination,
        // The disk is the limit: a download ends before it touches the reserve.
        maxBytes: Number.MAX_SAFE_INTEGER,
        isAllowedAddress: allowPrivateUrls ? () => true : undefined,
        expectedSha256: expected.sha256 ?? undefined,
        expectedByteSize: expected.byteSize ?? undefined,
        field,
        signal: clientGone,
      });
      await using handle = await open(destination, 'r');
      return await work({
        handles: [handle],
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

/** Opens a file, or the shards that an index names, which are beside it. */
async function openWithShards(
  file: string,
  importRoots: readonly string[],
  opened: AsyncDisposableStack,
): Promise<readonly FileHandle[]> {
  const open = async (each: string): Promise<FileHandle> =>
    opened.use(await openImportFile(each, importRoots, 'input.path'));
  const handle = await open(file);
  if (!file.endsWith(SHARD_INDEX_ENDING)) return [handle];
  const { size } = await handle.stat();
  if (size > MAX_SHARD_INDEX_BYTES)
    throw new DomainError({
      code: 'FILE_TOO_LARGE',
      message: `The index of the shards has ${size} bytes; at most ${MAX_SHARD_INDEX_BYTES} are read.`,
      hint: 'Import the index as the library wrote it.',
    });
  const index = (await handle.readFile()).toString('utf8');
  const shards: FileHandle[] = [];
  for (const name of shardsNamedIn(index)) shards.push(await open(path.join(path.dirname(file), name)));
  return shards;
}

function shardsNamedIn(index: string): readonly string[] {
  try {
    return shardNamesOf(index);
  } catch (error) {
    throw explained(error);
  }
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
