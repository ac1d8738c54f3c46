/** One sandboxed process that decodes images; requests and replies are frames through pipes. */
import { once } from 'node:events';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { z } from 'zod';
import { endingOf, startSandboxed, type SandboxKind } from '../../../src/platform/sandbox.ts';
import { createFrameReader, FramesEndedError, writeFrame, type Frame, type FrameHead } from './frames.ts';

/** The first message of a decoder, sent once its program is loaded. */
interface Greeting extends FrameHead {
  readonly kind: string;
}

export interface DecoderProcessOptions<Reply extends Greeting> {
  readonly program: string;
  readonly args?: readonly string[];
  /** The data directory, which the process must not see. */
  readonly hiddenFolder: string;
  /** Validates each reply; the first one is READY. */
  readonly replySchema: z.ZodType<Reply>;
  readonly nodeFlags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Open files that the process inherits, from FIRST_FILE on. */
  readonly files?: readonly number[];
  /** See `SandboxedProgram`: one of `files`, counted from FIRST_FILE. */
  readonly shownDescriptor?: number;
  /** See `SandboxedProgram`. If true, call `kill` only when no TensorFlow kernel runs, because of SIGCHLD. */
  readonly reportsExit?: boolean;
  readonly kind?: SandboxKind;
  /** Limit for one request or reply. */
  readonly timeoutMs?: number;
}

/** The process ended, took too long or broke the protocol. */
export class DecoderFailedError extends Error {
  override readonly name = 'DecoderFailedError';
  /** True if it took too long; a second attempt would take as long. */
  readonly isTimeout: boolean;

  constructor(message: string, options: { readonly isTimeout?: boolean; readonly cause?: unknown } = {}) {
    super(message, options);
    this.isTimeout = options.isTimeout ?? false;
  }
}

/** Its methods throw DecoderFailedError if it ends, takes too long or breaks the protocol. */
export interface DecoderProcess<Request extends FrameHead, Reply extends FrameHead> {
  ask(request: Request, body?: Iterable<Buffer> | AsyncIterable<Buffer>): Promise<void>;
  /** The next reply; the caller waits for one at a time. */
  reply(maxBodyBytes: number): Promise<Frame<Reply>>;
  isDead(): boolean;
  stderrTail(): string;
  /** Resolves once the process has ended. */
  kill(): Promise<void>;
}

const PROJECT_ROOT = path.resolve(import.meta.dirname, '../../..');
const OWN_PROGRAMS = import.meta.dirname;
const TIMEOUT_MS = 300_000;
const MAX_HEAP_MB = 256;
/** In addition to the memory that an import may use for images: Node's own, most of it never used. */
const MAX_MEMORY_MB = 4096;
const STDERR_TAIL_LENGTH = 2_000;
const NO_BODY = 0;

/** @throws Error if the process does not start, which is not the fault of an image. */
export async function startDecoderProcess<Request extends FrameHead, Reply extends Greeting>({
  program,
  args = [],
  hiddenFolder,
  replySchema,
  nodeFlags = [],
  env = {},
  files = [],
  shownDescriptor,
  reportsExit = false,
  kind,
  timeoutMs = TIMEOUT_MS,
}: DecoderProcessOptions<Reply>): Promise<DecoderProcess<Request, Reply>> {
  const child = await startSandboxed({
    ...{ program, args, hiddenFolder, nodeFlags, env, reportsExit, ...(kind === undefined ? {} : { kind }) },
    ...(shownDescriptor === undefined ? {} : { shownDescriptor }),
    ...{ hasNativeCode: true, maxHeapMb: MAX_HEAP_MB, maxMemoryMb: MAX_MEMORY_MB },
    reads: [
      'workers/*',
      ...(program.startsWith(OWN_PROGRAMS) ? [] : [path.join(path.relative(PROJECT_ROOT, path.dirname(program)), '*')]),
    ],
    stdio: ['pipe', 'pipe', 'pipe', reportsExit ? 'pipe' : 'ignore', ...files],
  });
  const { stdin, stdout, stderr } = child;
  const endPipe = child.stdio[3];
  if (stdin === null || stdout === null) throw new Error('The decoder was started without pipes.');
  let stderrTail = '';
  stderr?.on(
    'data',
    (chunk: Buffer) => (stderrTail = (stderrTail + chunk.toString('utf8')).slice(-STDERR_TAIL_LENGTH)),
  );
  // Bytes that a dead decoder no longer reads are lost; its missing reply shows that it is dead.
  stdin.on('error', () => undefined);
  const closed = once(child, 'close').catch(() => undefined);
  // Not 'close', which waits until its output has been read.
  const exited = once(child, 'exit').then(
    () => `The decoder ended with ${endingOf(child.exitCode, child.signalCode)}`,
    (error: unknown) => `The decoder did not start: ${String(error)}`,
  );
  const reportedEnd = Promise.withResolvers<string>();
  endPipe?.on('data', (code: Buffer) =>
    reportedEnd.resolve(`The decoder ended with ${endingOf(Number(code.toString('latin1')), null)}`),
  );
  const ended = Promise.race([exited, reportedEnd.promise]);
  let death: DecoderFailedError | undefined;
  /** The rejections of the calls that wait for the process. */
  const aborts = new Set<(reason: DecoderFailedError) => void>();
  void ended.then((ending) => {
    death = new DecoderFailedError(ending);
    for (const abort of aborts) abort(death);
  });
  const replies = createFrameReader(stdout, (text) => replySchema.parse(JSON.parse(text)));

  /** The result of `work`, if it completes in time and before the process ends. */
  const guarded = async <Result>(work: Promise<Result>, limitMs = timeoutMs): Promise<Result> => {
    // It may fail after its caller has stopped waiting.
    work.catch(() => undefined);
    if (death !== undefined) throw death;
    // A promise for this call only: callbacks that wait for the end of a process stay in memory until then.
    const aborted = Promise.withResolvers<never>();
    aborts.add(aborted.reject);
    const timer = setTimeout(() => {
      const late = new DecoderFailedError(`The decoder took more than ${limitMs / 1000} s`, { isTimeout: true });
      // A TensorFlow kernel may have blocked this thread; replies that arrived meanwhile are read first.
      void nextTurn().then(() => aborted.reject(late));
    }, limitMs);
    try {
      return await Promise.race([work, aborted.promise]);
    } finally {
      clearTimeout(timer);
      aborts.delete(aborted.reject);
    }
  };
  const nextReply = async (maxBodyBytes: number): Promise<Frame<Reply>> => {
    try {
      return await replies.next(maxBodyBytes);
    } catch (error) {
      if (error instanceof FramesEndedError) throw new DecoderFailedError(await ended);
      throw new DecoderFailedError('The decoder sent an invalid message', { cause: error });
    }
  };
  const decoder: DecoderProcess<Request, Reply> = {
    ask: (request, body) => guarded(writeFrame(stdin, request, body)),
    reply: (maxBodyBytes) => guarded(nextReply(maxBodyBytes)),
    isDead: () => death !== undefined,
    stderrTail: () => stderrTail,
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
      stdout.destroy();
      endPipe?.destroy();
      await closed;
    },
  };
  try {
    const { head } = await guarded(nextReply(NO_BODY), TIMEOUT_MS);
    if (head.kind !== 'READY') throw new DecoderFailedError(`The decoder began with ${head.kind}`);
    return decoder;
  } catch (error) {
    await decoder.kill();
    throw new Error(`The image decoder does not start: ${stderrTail}`, { cause: error });
  }
}
