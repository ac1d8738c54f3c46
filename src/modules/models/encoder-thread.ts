/** Starts the thread that reads a file of weights, waits for it, and ends it when it takes too long or too much. */
import { getCompileCacheDir } from 'node:module';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { z } from 'zod';
import { DomainError, ERROR_CODES, type ErrorCode } from '../../errors.ts';
import type { EncoderFile, EncoderFileTask } from './encoder-file.ts';
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

export type ThreadAnswer =
  | { readonly outcome: 'READ'; readonly file: EncoderFile }
  | { readonly outcome: 'REFUSED'; readonly code: ErrorCode; readonly message: string; readonly field: string | null; readonly hint: string | null };

const threadAnswerSchema: z.ZodType<ThreadAnswer> = z.discriminatedUnion('outcome', [
  z.object({
    outcome: z.literal('READ'),
    file: z.object({
      encoder: z.enum(IMPORTED_ENCODERS),
      embeddingDim: z.number(),
      sourceSha256: z.string(),
      sourceByteSize: z.number(),
      contents: importedContentsSchema,
      bytes: z.instanceof(Uint8Array<ArrayBuffer>),
    }),
  }),
  z.object({ outcome: z.literal('REFUSED'), code: z.enum(ERROR_CODES), message: z.string(), field: z.string().nullable(), hint: z.string().nullable() }),
]);

/** JavaScript's own memory; the tensors are outside of it, and bounded by the readers. */
const MAX_HEAP_MB = 768;
const TIMEOUT_MS = 300_000;

/** As `readEncoderFile`, in a thread of its own. @throws DomainError also TIMED_OUT, and OUT_OF_MEMORY for a file that takes too much. */
export async function readEncoderFileInThread(task: EncoderFileTask, timeoutMs: number = TIMEOUT_MS): Promise<EncoderFile> {
  const versionCache = getCompileCacheDir();
  // Nothing of the server's secrets; where Node keeps what it made of our TypeScript, which halves the thread's start.
  const env = versionCache === undefined ? {} : { NODE_COMPILE_CACHE: path.dirname(versionCache) };
  const thread = new Worker(new URL('./encoder-file.worker.ts', import.meta.url), { workerData: task, env, resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB } });
  let timer: NodeJS.Timeout | undefined;
  try {
    const message = await new Promise<unknown>((resolve, reject) => {
      timer = setTimeout(() => reject(new DomainError({ code: 'TIMED_OUT', message: `The file was not read within ${timeoutMs / 1000} s.`, hint: 'Save the state dict of the encoder alone.' })), timeoutMs);
      thread.once('message', resolve);
      thread.once('error', (error) => reject(threadFailure(error)));
      thread.once('exit', (code) => reject(new Error(`The reading thread ended with code ${code} and no answer.`)));
    });
    const answer = threadAnswerSchema.parse(message);
    if (answer.outcome === 'READ') return answer.file;
    const { code, message: text, field, hint } = answer;
    throw new DomainError({ code, message: text, ...(field === null ? {} : { field }), ...(hint === null ? {} : { hint }) });
  } finally {
    clearTimeout(timer);
    await thread.terminate();
  }
}

function threadFailure(error: unknown): Error {
  if (error instanceof Error && 'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new DomainError({ code: 'OUT_OF_MEMORY', message: `Reading the file took more than ${MAX_HEAP_MB} MB.`, hint: 'Save the state dict of the encoder alone.', cause: error });
  }
  return error instanceof Error ? error : new Error(String(error));
}
