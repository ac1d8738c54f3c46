/**
 * Starts the process that reads a file of weights, receives its answer, and kills it if it exceeds its time or memory.
 *
 * The file is untrusted. The process that reads it holds no secret, inherits the file as an open descriptor, and may
 * open only our program's files: Node's permission model refuses all others. It returns the weights in a file that is
 * already unlinked, so that the file disappears when this process ends.
 */
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { DomainError, ERROR_CODES, type ErrorCode } from '../../errors.ts';
import { freeBytesOf } from '../../platform/free-space.ts';
import { architectureSchema, WEIGHTS_DTYPES } from '../../formats/encoders/index.ts';
import { openUnlinked } from '../../platform/unlinked-file.ts';
import { endingOf, startSandboxed } from '../../platform/sandbox.ts';
import type { EncoderFacts, EncoderFileTask } from './encoder-file.ts';
import { importedContentsSchema } from './models.rules.ts';

export type ProcessAnswer =
  | { readonly outcome: 'READ'; readonly facts: EncoderFacts; readonly byteSize: number }
  | {
      readonly outcome: 'REFUSED';
      readonly code: ErrorCode;
      readonly message: string;
      readonly field: string | null;
      readonly hint: string | null;
    };

const processAnswerSchema: z.ZodType<ProcessAnswer> = z.discriminatedUnion('outcome', [
  z.object({
    outcome: z.literal('READ'),
    facts: z.object({
      architecture: architectureSchema,
      embeddingDim: z.number(),
      weightsDtype: z.enum(WEIGHTS_DTYPES),
      sourceSha256: z.string(),
      sourceByteSize: z.number(),
      tensorDigest: z.string(),
      contents: importedContentsSchema,
    }),
    byteSize: z.number(),
  }),
  z.object({
    outcome: z.literal('REFUSED'),
    code: z.enum(ERROR_CODES),
    message: z.string(),
    field: z.string().nullable(),
    hint: z.string().nullable(),
  }),
]);

/** What the process receives on its standard input. */
export interface ProcessTask extends EncoderFileTask {
  /** Disk space that the weights may use; the rest is reserved for the database. */
  readonly spaceBytes: number;
  /** One, or the number of shards. */
  readonly fileCount: number;
}

export interface ReadingBounds {
  readonly timeoutMs: number;
  /** Limit of the JavaScript heap; tensors are outside the heap, one at a time. */
  readonly maxHeapMb: number;
}

/** A slow disk reads 20 MB/s; a file is read twice and written once. */
const READ_BYTES_PER_MS = 20_000 / 3;

function boundsOf(byteSize: number): ReadingBounds {
  return { timeoutMs: 300_000 + Math.ceil(byteSize / READ_BYTES_PER_MS), maxHeapMb: 768 };
}

const PROGRAM = path.join(import.meta.dirname, 'encoder-file.program.ts');
/**
 * The environment contains none of the server's secrets. Huge pages halve the time of reading 94 MB: with 4 KB pages,
 * page faults of fresh memory take as long as all other work. Node's compile cache would speed up the start, but needs
 * write permission.
 */
const READER_ENV = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' };
/** The reader truncates names in its answer. */
const MAX_ANSWER_BYTES = 1024 * 1024;
const STDERR_TAIL_LENGTH = 2_000;
/** Small enough that hashing the weights does not block the event loop. */
const CHUNK_BYTES = 1024 * 1024;

export interface ReadEncoder<Kept> {
  readonly facts: EncoderFacts;
  readonly kept: Kept;
}

/**
 * Runs `readEncoderFile` in a separate process.
 * @param files one file, or its shards in their order, open to read; the caller closes them.
 * @param scratchDir folder of the unlinked file of weights. Its parent, the data directory, is hidden from the process.
 * @param keep stores the safetensors once they are complete.
 * @throws DomainError also TIMED_OUT or OUT_OF_MEMORY for a file that exceeds the limits, and STORAGE_FULL before the
 * weights use the reserved disk space.
 */
export async function readEncoderFileInSandbox<Kept>(
  files: readonly FileHandle[],
  task: EncoderFileTask,
  scratchDir: string,
  keep: (bytes: AsyncIterable<Uint8Array>) => Promise<Kept>,
  bounds?: ReadingBounds,
): Promise<ReadEncoder<Kept>> {
  await using weights = await openUnlinked(scratchDir);
  const spaceBytes = await freeBytesOf(scratchDir);
  const byteSizes = await Promise.all(files.map(async (file) => (await file.stat()).size));
  const answer = await answerTo(
    files,
    { ...task, spaceBytes, fileCount: files.length },
    weights,
    path.dirname(scratchDir),
    bounds ?? boundsOf(byteSizes.reduce((sum, byteSize) => sum + byteSize, 0)),
  );
  if (answer.outcome === 'READ') return { facts: answer.facts, kept: await keep(wholeOf(weights, answer.byteSize)) };
  const { code, message: text, field, hint } = answer;
  throw new DomainError({
    code,
    message: text,
    ...(field === null ? {} : { field }),
    ...(hint === null ? {} : { hint }),
  });
}

/** Runs the process to its end. */
async function answerTo(
  files: readonly FileHandle[],
  task: ProcessTask,
  weights: FileHandle,
  hiddenDir: string,
  { timeoutMs, maxHeapMb }: ReadingBounds,
): Promise<ProcessAnswer> {
  const reader = await startSandboxed({
    program: PROGRAM,
    hiddenFolder: hiddenDir,
    maxHeapMb,
    env: READER_ENV,
    stdio: ['pipe', 'pipe', 'pipe', weights.fd, ...files.map(({ fd }) => fd)],
    timeoutMs,
  });
  let answerText = '';
  let stderrTail = '';
  reader.stdout?.on('data', (chunk: Buffer) => {
    answerText += chunk.toString('latin1');
    if (answerText.length > MAX_ANSWER_BYTES) reader.kill('SIGKILL');
  });
  reader.stderr?.on(
    'data',
    (chunk: Buffer) => (stderrTail = (stderrTail + chunk.toString('utf8')).slice(-STDERR_TAIL_LENGTH)),
  );
  reader.stdin?.on('error', () => undefined);
  const startedMs = performance.now();
  reader.stdin?.end(JSON.stringify(task));
  const code = await new Promise<number | null>((resolve, reject) => {
    reader.once('close', resolve);
    // If the machine cannot start another process, no close event follows.
    reader.once('error', reject);
  });
  if (code === 0) return processAnswerSchema.parse(JSON.parse(Buffer.from(answerText, 'latin1').toString('utf8')));
  const hint = 'Save only the state dict of the encoder.';
  if (performance.now() - startedMs >= timeoutMs)
    throw new DomainError({
      code: 'TIMED_OUT',
      message: `Reading the file took longer than ${Math.round(timeoutMs / 1000)} s.`,
      hint,
    });
  if (/heap out of memory|Allocation failed/i.test(stderrTail))
    throw new DomainError({ code: 'OUT_OF_MEMORY', message: `Reading the file took more than ${maxHeapMb} MB.`, hint });
  throw new Error(`The reading process ended with ${endingOf(code, reader.signalCode)}: ${stderrTail}`);
}

async function* wholeOf(weights: FileHandle, byteSize: number): AsyncGenerator<Uint8Array> {
  const { size } = await weights.stat();
  if (size !== byteSize) throw new Error(`The reading process announced ${byteSize} bytes and wrote ${size}.`);
  for (let position = 0; position < byteSize;) {
    const { bytesRead, buffer } = await weights.read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, position);
    if (bytesRead === 0) throw new Error(`The weights end after ${position} of ${byteSize} bytes.`);
    yield buffer.subarray(0, bytesRead);
    position += bytesRead;
  }
}
