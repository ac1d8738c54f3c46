/** Work in a process of its own, which measures itself: the two sides of the messages between it and its parent. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { z } from 'zod';
import { peakBytesOf } from './usage.ts';

const PROGRESS_EVERY_MS = 500;

const measureSchema = z.object({
  durationMs: z.number(),
  processorMs: z.number(),
  /** The most memory that the process had. */
  peakBytes: z.number(),
  storedBytes: z.number(),
});
export type ProgramMeasure = Readonly<z.infer<typeof measureSchema>>;

const replySchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('PROGRESS'), fraction: z.number() }),
  measureSchema.extend({ kind: z.literal('DONE') }),
]);
type Reply = z.infer<typeof replySchema>;

export interface MeasuredProgram {
  /** For messages of errors. */
  readonly name: string;
  /** A program that calls `answerParent`. */
  readonly file: string;
  readonly request: object;
  readonly signal: AbortSignal;
  readonly onProgress: (fraction: number) => void;
}

/** @throws Error with the error of the program; the reason of the signal, after which the process is gone. */
export async function runMeasured({
  name,
  file,
  request,
  signal,
  onProgress,
}: MeasuredProgram): Promise<ProgramMeasure> {
  signal.throwIfAborted();
  const child = fork(file, { stdio: ['ignore', 'inherit', 'pipe', 'ipc'] });
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (errors += text));
  let measured: ProgramMeasure | undefined;
  child.on('message', (message) => {
    const reply = replySchema.parse(message);
    if (reply.kind === 'PROGRESS') onProgress(reply.fraction);
    else measured = measureSchema.parse(reply);
  });
  try {
    child.send(request);
    await once(child, 'close');
  } finally {
    signal.removeEventListener('abort', stop);
  }
  signal.throwIfAborted();
  if (measured === undefined) throw new Error(`${name} failed: ${/Error: .*/.exec(errors)?.[0] ?? errors}`);
  return measured;
}

/** Answers the one request of the parent. @param work returns the bytes that it stored. */
export async function answerParent<Request>(
  schema: z.ZodType<Request>,
  work: (request: Request, onProgress: (fraction: number) => void) => Promise<number>,
): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  const [message]: unknown[] = await once(process, 'message');
  const request = schema.parse(message);
  const send = (reply: Reply): void => void process.send?.(reply);
  let reportedAtMs = 0;
  const onProgress = (fraction: number): void => {
    if (performance.now() - reportedAtMs < PROGRESS_EVERY_MS) return;
    reportedAtMs = performance.now();
    send({ kind: 'PROGRESS', fraction });
  };
  const startMs = performance.now();
  const startUsage = process.cpuUsage();
  const storedBytes = await work(request, onProgress);
  const { user, system } = process.cpuUsage(startUsage);
  send({
    kind: 'DONE',
    durationMs: performance.now() - startMs,
    processorMs: (user + system) / 1000,
    peakBytes: await peakBytesOf(process.pid),
    storedBytes,
  });
  process.disconnect();
}
