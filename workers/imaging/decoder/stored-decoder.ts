/**
 * Decodes the images of sealed versions for trainings, evaluations and embeddings in a process in a sandbox: a
 * stranger's file meets no decoder in the process that holds the credentials of the database. The process inherits the
 * shards as open descriptors and leaves pixels in a unlinked file that both have open, so that each request and
 * each reply is one short message for many images. What fails among others is tried once more alone: what ended the
 * process may have come from outside, and only then is it known which image is to blame.
 */
import { readSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { openUnlinked } from '../../../src/platform/unlinked-file.ts';
import type { SandboxKind } from '../../../src/platform/sandbox.ts';
import { ImageDataError } from '../../engine/data/errors.ts';
import type {
  OpenStoredDecoder,
  SquareRule,
  StoredDecoder,
  StoredDecoderOptions,
  StoredImage,
} from '../../engine/data/stored-decoder.ts';
import { DecoderFailedError, startDecoderProcess, type DecoderProcess } from './decoder-process.ts';
import type { DecoderFailure } from './image-decoders.ts';
import { storedDecoderReplySchema, type StoredDecoderReply, type StoredDecoderRequest } from './stored-protocol.ts';

export interface StoredDecoderSettings {
  /** The data directory, which the process must not see. */
  readonly hiddenFolder: string;
  /** Where the file of pixels lies if no memory can be had for it. */
  readonly scratchFolder: string;
  /** For the images of one request. */
  readonly timeoutMs?: number;
  /** Told of every process that ended by itself. */
  readonly onFailure?: (failure: DecoderFailure) => void;
  /** Default: the decoder; a test puts something else into the same sandbox. */
  readonly program?: string;
  readonly kind?: SandboxKind;
}

const PROGRAM = path.join(import.meta.dirname, 'stored.program.ts');
/** A few kilobytes, which a pipe takes at once, also while the decoder is busy. */
const IMAGES_PER_REQUEST = 128;
/** Of libuv's pool, in which images are decoded. */
const THREADS_MAX = 8;
/** Files in memory, on Linux. */
const MEMORY_FOLDER = '/dev/shm';
const ZEROS = Buffer.alloc(1024 * 1024);

/** The decoder has looked at the image, and says why it cannot be decoded. */
class ImageFailedError extends Error {
  override readonly name = 'ImageFailedError';
  readonly fault: Extract<StoredDecoderReply, { kind: 'FAILED' }>['fault'];

  constructor({ fault, reason }: Extract<StoredDecoderReply, { kind: 'FAILED' }>) {
    super(reason);
    this.fault = fault;
  }
}

/** @returns what opens the decoder of one reading. */
export function storedDecoders(settings: StoredDecoderSettings): OpenStoredDecoder {
  return async (options) => {
    const first = await startSession(settings, options);
    return decoderOf(first, () => startSession(settings, options), options, settings.onFailure ?? (() => undefined));
  };
}

function decoderOf(
  first: Session,
  start: () => Promise<Session>,
  { batchSize, batchesAtOnce, sizePx }: StoredDecoderOptions,
  onFailure: (failure: DecoderFailure) => void,
): StoredDecoder {
  const imageBytes = sizePx * sizePx * 3;
  /** All that were started. One that failed is ended with the others, when no kernel can be hit by its SIGCHLD. */
  const sessions = [first];
  let current = first;
  let batchCount = 0;
  let recoveryCount = 0;
  let lastRecovery: Promise<void> = Promise.resolve();
  let isClosed = false;

  const take = async (session: Session, images: readonly StoredImage[], batch: Batch): Promise<void> => {
    const positionOf = ({ place }: StoredImage): number => batch.position + place * imageBytes;
    await session.decode(images, positionOf);
    for (const image of images) {
      const start = image.place * imageBytes;
      session.read(batch.target.subarray(start, start + imageBytes), positionOf(image));
    }
  };

  /** One image after another, while the decoder has nothing else to do. */
  const recover = async (images: readonly StoredImage[], batch: Batch): Promise<void> => {
    if (isClosed) throw new Error('The decoder was closed.');
    if (current.hasFailed() || !current.isIdle()) {
      current = await start();
      sessions.push(current);
    }
    for (const image of images) {
      try {
        await take(current, [image], batch);
      } catch (error) {
        if (error instanceof DecoderFailedError) onFailure({ ending: error.message, lastWords: current.lastWords() });
        throw faultOf(error, image);
      }
    }
  };

  const decodeSome = async (images: readonly StoredImage[], batch: Batch): Promise<void> => {
    while (recoveryCount > 0) await lastRecovery;
    const session = current;
    try {
      await take(session, images, batch);
    } catch (error) {
      if (isClosed) throw error;
      if (error instanceof DecoderFailedError) onFailure({ ending: error.message, lastWords: session.lastWords() });
      recoveryCount += 1;
      const recovery = lastRecovery.then(() => recover(images, batch));
      lastRecovery = recovery.catch(() => undefined).finally(() => (recoveryCount -= 1));
      await recovery;
    }
  };

  return {
    decode: async (images, target) => {
      const batch: Batch = { target, position: (batchCount % batchesAtOnce) * batchSize * imageBytes };
      batchCount += 1;
      const requests: Promise<void>[] = [];
      for (let start = 0; start < images.length; start += IMAGES_PER_REQUEST)
        requests.push(decodeSome(images.slice(start, start + IMAGES_PER_REQUEST), batch));
      await Promise.all(requests);
    },
    close: async () => {
      isClosed = true;
      const closeAll = () => Promise.all(sessions.map((session) => session.close()));
      await closeAll();
      // It may have been starting another one.
      await lastRecovery;
      await closeAll();
    },
  };
}

interface Batch {
  readonly target: Uint8Array;
  /** Where its pixels begin in the file of pixels. */
  readonly position: number;
}

function faultOf(error: unknown, { key }: StoredImage): unknown {
  if (error instanceof ImageFailedError && error.fault === 'TRUNCATED')
    return new ImageDataError('SHARD_TRUNCATED', `The shard ends within image ${key}.`, { key });
  if (error instanceof ImageFailedError)
    return new ImageDataError('IMAGE_UNREADABLE', `Image ${key} cannot be decoded: ${error.message}`, { key });
  if (error instanceof DecoderFailedError)
    return new ImageDataError('IMAGE_UNREADABLE', `Image ${key} cannot be decoded, twice: ${error.message}.`, { key });
  return error;
}

/** One process and its file of pixels, which no other process can have changed. */
interface Session {
  /**
   * Throws ImageFailedError and DecoderFailedError. @param positionOf its pixels in the file of pixels.
   */
  decode(images: readonly StoredImage[], positionOf: (image: StoredImage) => number): Promise<void>;
  /** Fills `target` from the file. Throws DecoderFailedError where the file is shorter. */
  read(target: Uint8Array, position: number): void;
  /** It ended, or did what it may not: whatever it says from then on is of no use. */
  hasFailed(): boolean;
  /** Nothing is asked that it has not answered. */
  isIdle(): boolean;
  lastWords(): string;
  close(): Promise<void>;
}

async function startSession(
  { hiddenFolder, scratchFolder, timeoutMs, program = PROGRAM, kind }: StoredDecoderSettings,
  { shardFiles, batchSize, batchesAtOnce, sizePx, quality, resizeRule }: StoredDecoderOptions,
): Promise<Session> {
  const pixels = await openPixelFile(scratchFolder, batchSize * batchesAtOnce * sizePx * sizePx * 3);
  const rule: SquareRule = { sizePx, quality, resizeRule };
  let decoder: DecoderProcess<StoredDecoderRequest, StoredDecoderReply>;
  try {
    decoder = await startDecoderProcess({
      ...{ program, hiddenFolder, args: [JSON.stringify(rule)], replySchema: storedDecoderReplySchema },
      ...{ files: [pixels.fd, ...shardFiles], tellsEnd: true },
      env: { UV_THREADPOOL_SIZE: String(Math.min(THREADS_MAX, availableParallelism())) },
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(kind === undefined ? {} : { kind }),
    });
  } catch (error) {
    await pixels.close();
    throw error;
  }
  let unansweredCount = 0;
  let hasFailed = false;
  let lastReply: Promise<unknown> = Promise.resolve();
  const replyOf = async (earlier: Promise<unknown>): Promise<void> => {
    await earlier;
    const { head } = await decoder.reply(0);
    if (head.kind === 'FAILED') throw new ImageFailedError(head);
    if (head.kind === 'READY') throw new DecoderFailedError('The decoder answered READY without a request for it');
  };
  return {
    decode: async (images, positionOf) => {
      unansweredCount += 1;
      const asked = images.map((image) => [image.shard, image.byteOffset, image.byteSize, positionOf(image)] as const);
      const request = decoder.ask({ bodyByteSize: 0, images: asked });
      const reply = replyOf(lastReply);
      lastReply = reply.catch(() => undefined);
      try {
        await Promise.all([request, reply]);
      } catch (error) {
        hasFailed ||= error instanceof DecoderFailedError;
        throw error;
      } finally {
        unansweredCount -= 1;
      }
    },
    read: (target, position) => {
      for (let filled = 0; filled < target.length;) {
        const count = readSync(pixels.fd, target, filled, target.length - filled, position + filled);
        if (count === 0) {
          hasFailed = true;
          throw new DecoderFailedError('The decoder left fewer pixels than it announced');
        }
        filled += count;
      }
    },
    hasFailed: () => hasFailed || decoder.isDead(),
    isIdle: () => unansweredCount === 0,
    lastWords: decoder.lastWords,
    close: async () => {
      await decoder.kill();
      await pixels.close();
    },
  };
}

/** A unlinked file that has its whole size already: room that is missing is missed here, and not in a batch. */
async function openPixelFile(scratchFolder: string, byteSize: number): Promise<FileHandle> {
  return openFilled(MEMORY_FOLDER, byteSize).catch(() => openFilled(scratchFolder, byteSize));
}

async function openFilled(folder: string, byteSize: number): Promise<FileHandle> {
  const file = await openUnlinked(folder);
  try {
    for (let position = 0; position < byteSize; position += ZEROS.length)
      await file.write(ZEROS, 0, Math.min(ZEROS.length, byteSize - position), position);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
