/**
 * The processes that decode the images of an import, one for each core, each in a sandbox, so that no untrusted file is
 * decoded in a process that holds a key, a connection or another file.
 * If a decoder crashes, hangs or breaks the protocol, its image is tried once more with a new decoder and refused if
 * that fails too: the cause may have been external, and an import must give the same version on any day.
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
  /** The data directory, which is hidden from decoders. */
  readonly hiddenFolder: string;
  /** Default: one for each core. */
  readonly processCount?: number;
  /** For one image, from the first byte sent, or from the grant of its reservation. */
  readonly timeoutMs?: number;
  /** Called for every decoder that ended by itself. */
  readonly onFailure?: (failure: DecoderFailure) => void;
  /** Default: the decoder. A test runs another program in the same sandbox. */
  readonly program?: string;
}

export interface DecoderFailure {
  /** "SIGSEGV", "code 1" or the protocol error. */
  readonly ending: string;
  /** The end of its standard error output. */
  readonly lastWords: string;
}

export interface FileToPrepare {
  readonly file: SourceFile;
  readonly patchSizePx: number | null;
  /** See `Preparation`. */
  readonly sampleBits: number | null;
  readonly looks: boolean;
  /** The memory that one image may take. */
  readonly decodingBytesMax: number;
  /** Waits until an image that takes more than FREE_DECODING_BYTES has its memory. */
  readonly reserve: (byteCount: number) => Promise<void>;
}

export type PreparedFile = Prepared & { readonly images: readonly PreparedImage[] };

export interface ImageDecoders extends AsyncDisposable {
  readonly processCount: number;
  /**
   * Like `prepareImage`, in a separate process; an image on which every decoder fails is refused as DECODER_FAILED.
   * @throws Error if no decoder starts.
   */
  prepare(request: FileToPrepare): Promise<PreparedFile>;
  /**
   * Like `makeThumbnail`.
   * @param bytes of a prepared image.
   * @throws Error if every decoder fails on it.
   */
  thumbnail(bytes: Buffer): Promise<Buffer>;
}

const PROGRAM = path.join(import.meta.dirname, 'decoder.program.ts');
const PROJECT_ROOT = path.resolve(import.meta.dirname, '../../..');
const TIMEOUT_MS = 300_000;
const ATTEMPTS = 2;
const MAX_HEAP_MB = 256;
/** In addition to the memory that an import may use for images: Node's own, most of it never used. */
const MAX_MEMORY_MB = 4096;
/**
 * Blocks of 4 MiB and more return to the kernel when they are freed, so that a decoder does not keep the memory of a
 * large image. By default glibc raises this threshold up to 32 MiB by itself.
 */
const DECODER_ENV = { MALLOC_MMAP_THRESHOLD_: '4194304', MALLOC_ARENA_MAX: '2' };
const LAST_WORDS_LENGTH = 2_000;
const NO_BODY = 0;
const THUMBNAIL_BYTES_MAX = 1024 * 1024;

/** It ended, or it broke the protocol. */
class DecoderFailedError extends Error {
  override readonly name = 'DecoderFailedError';
  /** It took too long, and a second attempt would take as long. */
  readonly isTimeout: boolean;

  constructor(message: string, options: { readonly isTimeout?: boolean; readonly cause?: unknown } = {}) {
    super(message, options);
    this.isTimeout = options.isTimeout ?? false;
  }
}

/** The caller has at most `processCount` images in flight. */
export function openImageDecoders(options: ImageDecodersOptions): ImageDecoders {
  const { processCount = availableParallelism(), onFailure } = options;
  const all = new Set<Decoder>();
  const idle: Decoder[] = [];
  let isClosed = false;

  const take = async (attempt: number): Promise<Decoder> => {
    if (isClosed) throw new Error('The decoders were closed.');
    // Other idle decoders may have been killed from outside too, for which no image is to blame.
    const known = attempt === 1 ? idle.pop() : undefined;
    if (known !== undefined) return known;
    const fresh = await startDecoder(options);
    all.add(fresh);
    return fresh;
  };

  /** @throws DecoderFailedError if `work` failed with two decoders, or took too long with one. */
  const withDecoder = async <Result>(work: (decoder: Decoder) => Promise<Result>): Promise<Result> => {
    for (let attempt = 1; ; attempt += 1) {
      const decoder = await take(attempt);
      try {
        const result = await work(decoder);
        idle.push(decoder);
        return result;
      } catch (error) {
        // Its remaining messages do not concern the next image.
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

/** A second decoder gets the reservation of the first one, and no more. */
function reserveOnce(reserve: FileToPrepare['reserve']): FileToPrepare['reserve'] {
  let heldBytes: number | undefined;
  return async (byteCount) => {
    if (heldBytes !== undefined && byteCount > heldBytes)
      throw new DecoderFailedError('A second decoder requested more memory than the first');
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
        if (hasReserved || head.byteCount > decodingBytesMax) throw unexpectedReply(head);
        hasReserved = true;
        await reserve(head.byteCount);
        allowedBytes = head.byteCount;
        await decoder.ask({ kind: 'GRANT', bodyByteSize: 0 });
        break;
      case 'IMAGE': {
        const { kind: _kind, bodyByteSize: _bodyByteSize, isFile, pixelDigest, perceptualHash, ...facts } = head;
        const bytes = isFile ? file.bytes : body;
        if (bytes === null) throw unexpectedReply(head);
        allowedBytes -= bytes.length;
        if (allowedBytes < 0) throw unexpectedReply(head);
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
        throw unexpectedReply(head);
    }
  }
}

async function thumbnailBy(decoder: Decoder, bytes: Buffer): Promise<Buffer> {
  await decoder.ask({ kind: 'THUMBNAIL', bodyByteSize: bytes.length }, [bytes]);
  const { head, body } = await decoder.reply(THUMBNAIL_BYTES_MAX);
  if (head.kind !== 'THUMBNAIL') throw unexpectedReply(head);
  return body;
}

function unexpectedReply({ kind }: DecoderReply): DecoderFailedError {
  return new DecoderFailedError(`The decoder answered ${kind} without a request for it`);
}

/** One process. Its methods throw DecoderFailedError if it ends, takes too long or breaks the protocol. */
interface Decoder {
  ask(request: DecoderRequest, body?: Iterable<Buffer> | AsyncIterable<Buffer>): Promise<void>;
  reply(maxBodyBytes: number): Promise<Frame<DecoderReply>>;
  lastWords(): string;
  /** Resolves once the process has ended. */
  kill(): Promise<void>;
}

/** @throws Error if the process does not start, which is not the fault of an image. */
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
  // Bytes that a dead decoder no longer reads are lost; its missing reply shows that it is dead.
  stdin.on('error', () => undefined);
  const closed = once(child, 'close').catch(() => undefined);
  // Not 'close', which waits until its output has been read.
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

  /** The result of `work`, if it completes in time and before the process ends. */
  const guarded = async <Result>(work: Promise<Result>, limitMs = timeoutMs): Promise<Result> => {
    // It may fail after its caller has stopped waiting.
    work.catch(() => undefined);
    if (death !== undefined) throw death;
    // A promise for this call only: callbacks that wait for the end of a process stay in memory until then.
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
      throw new DecoderFailedError('The decoder sent an invalid message', { cause: error });
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
    if (head.kind !== 'READY') throw unexpectedReply(head);
    return decoder;
  } catch (error) {
    await decoder.kill();
    throw new Error(`The image decoder does not start: ${lastWords}`, { cause: error });
  }
}
