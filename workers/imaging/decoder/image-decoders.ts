/**
 * The processes that decode the images of an import, as many as there are cores, each in a sandbox: a stranger's file
 * meets no decoder in a process that holds a key, a connection or another file. One that crashes, hangs or talks
 * nonsense costs the image that it had, and that only if a fresh one fails on it as well: what ended it may have come
 * from outside, and an import must give the same version on any day.
 */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { endingOf, startSandboxed } from '../../../src/platform/sandbox.ts';
import type { SourceFile } from '../source-file.ts';
import { FREE_DECODING_BYTES } from './decoder-limits.ts';
import { decoderReplySchema, type DecoderReply, type DecoderRequest } from './decoder-protocol.ts';
import { createFrameReader, FramesEndedError, writeFrame, type Frame } from './frames.ts';
import type { Prepared, PreparedImage } from './prepare.ts';

export interface ImageDecodersOptions {
  /** The data directory, which decoders must not see. */
  readonly hiddenFolder: string;
  /** Default: one for each core. */
  readonly processCount?: number;
  /** For one image, from the first byte that is sent or the room that is given. */
  readonly timeoutMs?: number;
  /** Told of every decoder that ended by itself. */
  readonly onFailure?: (failure: DecoderFailure) => void;
  /** Default: the decoder; a test puts something else into the same sandbox. */
  readonly program?: string;
}

export interface DecoderFailure {
  /** "SIGSEGV", "code 1" or what it did wrong. */
  readonly ending: string;
  /** The end of what it wrote to standard error. */
  readonly lastWords: string;
}

export interface FileToPrepare {
  readonly file: SourceFile;
  readonly patchSizePx: number | null;
  /** See `Preparation`. */
  readonly sampleBits: number | null;
  readonly looks: boolean;
  /** What one image may take. */
  readonly decodingBytesMax: number;
  /** Waits for room in memory, for an image that takes more than FREE_DECODING_BYTES. */
  readonly reserve: (byteCount: number) => Promise<void>;
}

export type PreparedFile = Prepared & { readonly images: readonly PreparedImage[] };

export interface ImageDecoders extends AsyncDisposable {
  readonly processCount: number;
  /**
   * As `prepareImage`, in a process of its own; an image that no decoder survives is refused as DECODER_FAILED.
   * @throws Error where no decoder starts.
   */
  prepare(request: FileToPrepare): Promise<PreparedFile>;
  /** As `makeThumbnail`. @param bytes of a prepared image. @throws Error where no decoder survives it. */
  thumbnail(bytes: Buffer): Promise<Buffer>;
}

const PROGRAM = path.join(import.meta.dirname, 'decoder.program.ts');
const PROJECT_ROOT = path.resolve(import.meta.dirname, '../../..');
const TIMEOUT_MS = 300_000;
const ATTEMPTS = 2;
const MAX_HEAP_MB = 256;
/** Beside what an import may have in images at all: Node's own, most of it never used. */
const MAX_MEMORY_MB = 4096;
/**
 * Blocks from 4 MiB on go back to the kernel when they are freed, so that what a large image took does not stay with
 * every decoder. Left alone, glibc raises this bound up to 32 MiB by itself.
 */
const DECODER_ENV = { MALLOC_MMAP_THRESHOLD_: '4194304', MALLOC_ARENA_MAX: '2' };
const LAST_WORDS_LENGTH = 2_000;
const NO_BODY = 0;
const THUMBNAIL_BYTES_MAX = 1024 * 1024;

/** It ended, or what it said is not what a decoder says. */
class DecoderFailedError extends Error {
  override readonly name = 'DecoderFailedError';
  /** It took too long: to try again would take as long. */
  readonly isTimeout: boolean;

  constructor(message: string, options: { readonly isTimeout?: boolean; readonly cause?: unknown } = {}) {
    super(message, options);
    this.isTimeout = options.isTimeout ?? false;
  }
}

/** The caller has no more than `processCount` images under way at once. */
export function openImageDecoders(options: ImageDecodersOptions): ImageDecoders {
  const { processCount = availableParallelism(), onFailure } = options;
  const all = new Set<Decoder>();
  const idle: Decoder[] = [];
  let isClosed = false;

  const take = async (attempt: number): Promise<Decoder> => {
    if (isClosed) throw new Error('The decoders were closed.');
    // Another that waits may have been ended from outside as well, for which no image is to blame.
    const known = attempt === 1 ? idle.pop() : undefined;
    if (known !== undefined) return known;
    const fresh = await startDecoder(options);
    all.add(fresh);
    return fresh;
  };

  /** @throws DecoderFailedError once `work` has failed with two decoders, or has taken too long with one. */
  const withDecoder = async <Result>(work: (decoder: Decoder) => Promise<Result>): Promise<Result> => {
    for (let attempt = 1; ; attempt += 1) {
      const decoder = await take(attempt);
      try {
        const result = await work(decoder);
        idle.push(decoder);
        return result;
      } catch (error) {
        // What it has said and heard so far is of no use to the next image.
        await decoder.kill();
        all.delete(decoder);
        if (!(error instanceof DecoderFailedError) || isClosed) throw error;
        onFailure?.({ ending: error.message, lastWords: decoder.lastWords() });
        if (error.isTimeout || attempt === ATTEMPTS) throw error;
      }
    }
  };

  return {
    processCount,
    prepare: async (request) => {
      const careful = { ...request, reserve: reserveOnce(request.reserve) };
      try {
        return await withDecoder((decoder) => prepareBy(decoder, careful));
      } catch (error) {
        if (!(error instanceof DecoderFailedError)) throw error;
        const reason = `${error.message}. Convert the image to PNG with a program that opens it, or leave it out.`;
        return { outcome: 'REFUSED', finding: { issue: 'DECODER_FAILED', reason }, images: [] };
      }
    },
    thumbnail: (bytes) => withDecoder((decoder) => thumbnailBy(decoder, bytes)),
    [Symbol.asyncDispose]: async () => {
      isClosed = true;
      await Promise.all([...all].map((decoder) => decoder.kill()));
    },
  };
}

/** A second decoder may have what the first one was given, and no more. */
function reserveOnce(reserve: FileToPrepare['reserve']): FileToPrepare['reserve'] {
  let heldBytes: number | undefined;
  return async (byteCount) => {
    if (heldBytes !== undefined && byteCount > heldBytes)
      throw new DecoderFailedError('A second decoder asked for more room than the first');
    if (heldBytes !== undefined) return;
    heldBytes = byteCount;
    await reserve(byteCount);
  };
}

async function prepareBy(decoder: Decoder, request: FileToPrepare): Promise<PreparedFile> {
  const { file, patchSizePx, sampleBits, looks, decodingBytesMax, reserve } = request;
  const keepsFile = file.bytes !== null;
  const bodyByteSize = file.byteSize;
  const asked = { patchSizePx, sampleBits, looks, decodingBytesMax, keepsFile };
  await decoder.ask({ kind: 'PREPARE', bodyByteSize, ...asked }, file.chunks());
  const images: PreparedImage[] = [];
  let allowedBytes = FREE_DECODING_BYTES;
  let hasReserved = false;
  for (;;) {
    const { head, body } = await decoder.reply(allowedBytes);
    switch (head.kind) {
      case 'RESERVE':
        if (hasReserved || head.byteCount > decodingBytesMax) throw outOfTurn(head);
        hasReserved = true;
        await reserve(head.byteCount);
        allowedBytes = head.byteCount;
        await decoder.ask({ kind: 'GRANT', bodyByteSize: 0 });
        break;
      case 'IMAGE': {
        const { kind: _kind, bodyByteSize: _bodyByteSize, isFile, pixelDigest, perceptualHash, ...facts } = head;
        const bytes = isFile ? file.bytes : body;
        if (bytes === null) throw outOfTurn(head);
        allowedBytes -= bytes.length;
        if (allowedBytes < 0) throw outOfTurn(head);
        images.push({
          ...{ ...facts, bytes },
          pixelDigest: Buffer.from(pixelDigest, 'hex'),
          perceptualHash: Uint8Array.from(Buffer.from(perceptualHash, 'hex')),
        });
        break;
      }
      case 'PREPARED':
        return { outcome: 'PREPARED', blankCount: head.blankCount, notes: head.notes, images };
      case 'REFUSED':
        return { outcome: 'REFUSED', finding: head.finding, images: [] };
      case 'READY':
      case 'THUMBNAIL':
        throw outOfTurn(head);
    }
  }
}

async function thumbnailBy(decoder: Decoder, bytes: Buffer): Promise<Buffer> {
  await decoder.ask({ kind: 'THUMBNAIL', bodyByteSize: bytes.length }, [bytes]);
  const { head, body } = await decoder.reply(THUMBNAIL_BYTES_MAX);
  if (head.kind !== 'THUMBNAIL') throw outOfTurn(head);
  return body;
}

function outOfTurn({ kind }: DecoderReply): DecoderFailedError {
  return new DecoderFailedError(`The decoder answered ${kind} where nobody asked for it`);
}

/** One process. Its methods throw DecoderFailedError when it ends, takes too long or sends what it may not. */
interface Decoder {
  ask(request: DecoderRequest, body?: Iterable<Buffer> | AsyncIterable<Buffer>): Promise<void>;
  reply(maxBodyBytes: number): Promise<Frame<DecoderReply>>;
  lastWords(): string;
  /** Resolves once it is gone. */
  kill(): Promise<void>;
}

/** @throws Error where it does not come up: that is not an image's fault. */
async function startDecoder({
  hiddenFolder,
  timeoutMs = TIMEOUT_MS,
  program = PROGRAM,
}: ImageDecodersOptions): Promise<Decoder> {
  const child = await startSandboxed({
    ...{ program, hiddenFolder, hasNativeCode: true, maxHeapMb: MAX_HEAP_MB, maxMemoryMb: MAX_MEMORY_MB },
    reads: ['workers/*', ...(program === PROGRAM ? [] : [path.relative(PROJECT_ROOT, program)])],
    nodeFlags: ['--expose-gc'],
    env: DECODER_ENV,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null) throw new Error('The decoder was started without pipes.');
  let lastWords = '';
  stderr?.on('data', (chunk: Buffer) => (lastWords = (lastWords + chunk.toString('utf8')).slice(-LAST_WORDS_LENGTH)));
  // What a dead decoder no longer reads; that it is dead is met by its reply.
  stdin.on('error', () => undefined);
  const closed = once(child, 'close').catch(() => undefined);
  // Not 'close', for which what it has written must have been read.
  const ended = once(child, 'exit').then(
    () => `The decoder ended with ${endingOf(child.exitCode, child.signalCode)}`,
    (error: unknown) => `The decoder did not start: ${String(error)}`,
  );
  let death: DecoderFailedError | undefined;
  let abort: (reason: DecoderFailedError) => void = () => undefined;
  void ended.then((ending) => {
    death = new DecoderFailedError(ending);
    abort(death);
  });
  const replies = createFrameReader(stdout, (text) => decoderReplySchema.parse(JSON.parse(text)));

  /** What comes of `work`, if it comes in time and the process lives so long. */
  const guarded = async <Result>(work: Promise<Result>, limitMs = timeoutMs): Promise<Result> => {
    // It may fail after nobody waits for it any more.
    work.catch(() => undefined);
    if (death !== undefined) throw death;
    // Of this call alone: whatever waits for the end of a process stays in memory until then.
    const aborted = Promise.withResolvers<never>();
    abort = aborted.reject;
    const timer = setTimeout(
      () => abort(new DecoderFailedError(`The decoder took more than ${limitMs / 1000} s`, { isTimeout: true })),
      limitMs,
    );
    try {
      return await Promise.race([work, aborted.promise]);
    } finally {
      clearTimeout(timer);
    }
  };
  const nextReply = async (maxBodyBytes: number): Promise<Frame<DecoderReply>> => {
    try {
      return await replies.next(maxBodyBytes);
    } catch (error) {
      if (error instanceof FramesEndedError) throw new DecoderFailedError(await ended);
      throw new DecoderFailedError('The decoder sent what it may not', { cause: error });
    }
  };
  const decoder: Decoder = {
    ask: (request, body) => guarded(writeFrame(stdin, request, body)),
    reply: (maxBodyBytes) => guarded(nextReply(maxBodyBytes)),
    lastWords: () => lastWords,
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
      stdout.destroy();
      await closed;
    },
  };
  try {
    const { head } = await guarded(nextReply(NO_BODY), TIMEOUT_MS);
    if (head.kind !== 'READY') throw outOfTurn(head);
    return decoder;
  } catch (error) {
    await decoder.kill();
    throw new Error(`No decoder of images comes up: ${lastWords}`, { cause: error });
  }
}
