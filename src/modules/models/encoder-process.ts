/**
 * Starts the process that reads a file of weights, takes its answer, and ends it when it takes too long or too much.
 *
 * The file is a stranger's. The process that reads it holds no secret, may read that file and our program and nothing else, and may write
 * nowhere: Node's permission model refuses the rest. The weights come over a pipe, so that the server never holds them whole.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';
import { DomainError, ERROR_CODES, type ErrorCode } from '../../errors.ts';
import type { EncoderFacts, EncoderFileTask } from './encoder-file.ts';
import { IMPORTED_ENCODERS } from './import.rules.ts';
import { importedContentsSchema, inputContractSchema } from './models.rules.ts';

export const encoderFileTaskSchema: z.ZodType<EncoderFileTask> = z.object({
  path: z.string(),
  expectedSha256: z.string().nullable(),
  expectedByteSize: z.number().nullable(),
  encoder: z.enum(IMPORTED_ENCODERS).nullable(),
  keyPrefix: z.string().nullable(),
  inputContract: inputContractSchema,
});

export type ProcessAnswer =
  | { readonly outcome: 'READ'; readonly facts: EncoderFacts; readonly byteSize: number }
  | { readonly outcome: 'REFUSED'; readonly code: ErrorCode; readonly message: string; readonly field: string | null; readonly hint: string | null };

const processAnswerSchema: z.ZodType<ProcessAnswer> = z.discriminatedUnion('outcome', [
  z.object({
    outcome: z.literal('READ'),
    facts: z.object({ encoder: z.enum(IMPORTED_ENCODERS), embeddingDim: z.number(), sourceSha256: z.string(), sourceByteSize: z.number(), contents: importedContentsSchema }),
    byteSize: z.number(),
  }),
  z.object({ outcome: z.literal('REFUSED'), code: z.enum(ERROR_CODES), message: z.string(), field: z.string().nullable(), hint: z.string().nullable() }),
]);

export interface ReadingBounds {
  readonly timeoutMs: number;
  /** JavaScript's own memory; the tensors are outside of it, and bounded by the readers. */
  readonly maxHeapMb: number;
}

const BOUNDS: ReadingBounds = { timeoutMs: 300_000, maxHeapMb: 768 };
const PROJECT_ROOT = path.resolve(import.meta.dirname, '../../..');
const PROGRAM = path.join(import.meta.dirname, 'encoder-file.program.ts');
/** The answer is one line of JSON before the bytes; names in it are cut short by the reader. */
const MAX_ANSWER_BYTES = 1024 * 1024;
const LAST_WORDS_LENGTH = 2_000;

/** Node's flags for a process that reads one file and our program, and does nothing else to the machine. */
export function readingRights(file: string): string[] {
  return ['--permission', `--allow-fs-read=${PROJECT_ROOT}/*`, `--allow-fs-read=${file}`, '--disable-warning=ExperimentalWarning', '--disable-warning=SecurityWarning'];
}

export interface ReadEncoder<Kept> {
  readonly facts: EncoderFacts;
  readonly kept: Kept;
}

/**
 * As `readEncoderFile`, in a process of its own.
 * @param keep takes the safetensors as they come; it is given what breaks off before its end as an error.
 * @throws DomainError also TIMED_OUT, and OUT_OF_MEMORY for a file that takes too much.
 */
export async function readEncoderFileApart<Kept>(task: EncoderFileTask, keep: (bytes: AsyncIterable<Uint8Array>) => Promise<Kept>, { timeoutMs, maxHeapMb }: ReadingBounds = BOUNDS): Promise<ReadEncoder<Kept>> {
  const file = await realpath(task.path);
  const reader = spawn(
    process.execPath,
    [...readingRights(file), `--max-old-space-size=${maxHeapMb}`, PROGRAM],
    // Nothing of the server's secrets. Its end of standard input closes with us. Node's compile cache, which would halve the start, needs the right to write.
    { env: {}, stdio: ['pipe', 'pipe', 'pipe'] },
  );
  let lastWords = '';
  const ended = new Promise<void>((resolve) => {
    reader.once('close', () => resolve());
    // A machine that starts no more processes: nothing closes then.
    reader.once('error', (error) => {
      lastWords += error.message;
      resolve();
    });
  });
  reader.stderr.on('data', (chunk: Buffer) => (lastWords = (lastWords + chunk.toString('utf8')).slice(-LAST_WORDS_LENGTH)));
  reader.stdin.on('error', () => undefined);
  reader.stdin.write(`${JSON.stringify({ ...task, path: file } satisfies EncoderFileTask)}\n`);
  let hasTimedOut = false;
  const timer = setTimeout(() => {
    hasTimedOut = true;
    reader.kill('SIGKILL');
  }, timeoutMs);
  try {
    const output = reader.stdout[Symbol.asyncIterator]();
    const { answer, rest } = await readAnswer(output);
    if (answer.outcome === 'READ') return { facts: answer.facts, kept: await keep(wholeOf(rest, output, answer.byteSize)) };
    const { code, message: text, field, hint } = answer;
    throw new DomainError({ code, message: text, ...(field === null ? {} : { field }), ...(hint === null ? {} : { hint }) });
  } catch (error) {
    if (!(error instanceof BrokenOff)) throw error;
    await ended;
    const hint = 'Save the state dict of the encoder alone.';
    if (hasTimedOut) throw new DomainError({ code: 'TIMED_OUT', message: `The file was not read within ${timeoutMs / 1000} s.`, hint, cause: error });
    if (/heap out of memory|Allocation failed/i.test(lastWords)) throw new DomainError({ code: 'OUT_OF_MEMORY', message: `Reading the file took more than ${maxHeapMb} MB.`, hint, cause: error });
    throw new Error(`The reading process ended with ${reader.signalCode ?? `code ${reader.exitCode}`}: ${lastWords}`, { cause: error });
  } finally {
    clearTimeout(timer);
    await gone(reader, ended);
  }
}

/** The process ended before it had said everything. */
class BrokenOff extends Error {}

type Output = AsyncIterator<Uint8Array, unknown>;

async function readAnswer(output: Output): Promise<{ answer: ProcessAnswer; rest: Uint8Array }> {
  let head = Buffer.alloc(0);
  for (;;) {
    const lineEnd = head.indexOf(0x0a);
    if (lineEnd >= 0) return { answer: processAnswerSchema.parse(JSON.parse(head.toString('utf8', 0, lineEnd))), rest: head.subarray(lineEnd + 1) };
    if (head.length > MAX_ANSWER_BYTES) throw new Error('The answer of the reading process has no end.');
    const { done, value } = await output.next();
    if (done === true) throw new BrokenOff('no answer');
    head = Buffer.concat([head, value]);
  }
}

/** Exactly `byteSize` bytes, or an error: half of an encoder is none. */
async function* wholeOf(first: Uint8Array, output: Output, byteSize: number): AsyncGenerator<Uint8Array> {
  let seen = 0;
  let chunk = first;
  for (;;) {
    seen += chunk.length;
    if (seen > byteSize) throw new Error('The reading process sent more than it announced.');
    if (chunk.length > 0) yield chunk;
    if (seen === byteSize) return;
    const { done, value } = await output.next();
    if (done === true) throw new BrokenOff(`${seen} of ${byteSize} bytes`);
    chunk = value;
  }
}

async function gone(reader: ChildProcessByStdio<Writable, Readable, Readable>, ended: Promise<void>): Promise<void> {
  reader.kill('SIGKILL');
  reader.stdout.destroy();
  await ended;
}
