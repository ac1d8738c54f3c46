/**
 * Decodes the images of sealed versions for trainings, evaluations and embeddings in a sandboxed process, so that no
 * untrusted file is decoded in the process that holds the run's credentials. The sandboxed process has no shard open:
 * this process writes the stored bytes of many images into an unlinked file that both have open (encoded-slots.ts), and
 * the sandboxed one writes their pixels into another, so that each request and each reply is one short message for many
 * images. If a request fails, its images are decoded once more, one at a time: this shows which image is at fault, and
 * passes over failures with an external cause.
 */
import { readSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { imageDecoderAddon } from '../../../src/platform/engine/image-decoder.ts';
import type { SandboxKind } from '../../../src/platform/sandbox.ts';
import { ImageDataError } from '../../engine/data/errors.ts';
import type {
  OpenStoredDecoder,
  StoredDecoder,
  StoredDecoderOptions,
  StoredImage,
} from '../../engine/data/stored-decoder.ts';
import { DecoderFailedError, startDecoderProcess } from './decoder-process.ts';
import { openEncodedSlots, partsOf } from './encoded-slots.ts';
import type { DecoderFailure } from './image-decoders.ts';
import { openMemoryFile } from './memory-file.ts';
import {
  storedDecoderReplySchema,
  type StoredDecoderArgument,
  type StoredDecoderReply,
  type StoredDecoderRequest,
} from './stored-protocol.ts';

export interface StoredDecoderSettings {
  /** The data directory, which the process must not see. */
  readonly hiddenFolder: string;
  /** The folder of the pixels and the stored bytes that do not fit into memory. */
  readonly scratchFolder: string;
  /** For the images of one request. */
  readonly timeoutMs?: number;
  /** Called for every decoder that failed. */
  readonly onFailure?: (failure: DecoderFailure) => void;
  /** Default: the decoder. A test runs another program in the same sandbox. */
  readonly program?: string;
  readonly kind?: SandboxKind;
  /** The addon of `loadNativeDecoder`; null for none. Default: that of this machine. */
  readonly addon?: string | null;
}

const PROGRAM = path.join(import.meta.dirname, 'stored.program.ts');
/** A request of a few kilobytes fits into the pipe's buffer, so that writing it never waits for a busy decoder. */
const IMAGES_PER_REQUEST = 128;
/** Threads of libuv's pool, in which images are decoded. */
const THREADS_MAX = 8;

/** The decoder works, but it could not decode the image; the message is its reason. */
class ImageFailedError extends Error {
  override readonly name = 'ImageFailedError';
}

/** @returns a function that starts a decoder for one reader of images. */
export function storedDecoders(settings: StoredDecoderSettings): OpenStoredDecoder {
  return async (options) => {
    const start = async (): Promise<Session> =>
      startSession(settings, options).catch((error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        throw new ImageDataError('READER_DIED', `The images cannot be read: ${why}`, {}, { cause: error });
      });
    return createStoredDecoder(await start(), start, options, settings.onFailure ?? (() => undefined));
  };
}

function createStoredDecoder(
  first: Session,
  start: () => Promise<Session>,
  { batchSize, batchesAtOnce, sizePx }: StoredDecoderOptions,
  onFailure: (failure: DecoderFailure) => void,
): StoredDecoder {
  const imageBytes = sizePx * sizePx * 3;
  /**
   * All that were started, failed ones included: a process is ended only in `close`, when no TensorFlow kernel runs
   * that its SIGCHLD could interrupt.
   */
  const sessions = [first];
  let current = first;
  /** Parts of the pixel file that no batch uses. */
  const freeParts = Array.from({ length: batchesAtOnce }, (_, part) => part * batchSize * imageBytes);
  let recoveryCount = 0;
  let lastRecovery: Promise<void> = Promise.resolve();
  let isClosed = false;

  const decodeInto = async (session: Session, images: readonly StoredImage[], batch: Batch): Promise<void> => {
    const positionOf = ({ place }: StoredImage): number => batch.position + place * imageBytes;
    await session.decode(images, positionOf);
    for (const image of images) {
      const start = image.place * imageBytes;
      session.read(batch.target.subarray(start, start + imageBytes), positionOf(image));
    }
  };

  /** Decodes one image at a time with a decoder that is otherwise idle. */
  const recover = async (images: readonly StoredImage[], batch: Batch): Promise<void> => {
    if (isClosed) throw new Error('The decoder was closed.');
    /** Started for this recovery, or has answered in it. One that was there before may be dead already, unnoticed. */
    let isKnownAlive = false;
    for (const image of images) {
      let name = '';
      const named = { ...image, read: async (target: Uint8Array) => (name = await image.read(target)) };
      for (let isDecoded = false; !isDecoded;) {
        if (current.hasFailed() || !current.isIdle()) {
          current = await start();
          sessions.push(current);
          isKnownAlive = true;
        }
        try {
          await decodeInto(current, [named], batch);
          isDecoded = true;
        } catch (error) {
          const hasDied = error instanceof DecoderFailedError;
          if (hasDied) onFailure({ ending: error.message, stderrTail: current.stderrTail() });
          if (!hasDied || isKnownAlive) throw imageDataErrorOf(error, name);
        }
        isKnownAlive = true;
      }
    }
  };

  const decodeSome = async (images: readonly StoredImage[], batch: Batch): Promise<void> => {
    while (recoveryCount > 0) await lastRecovery;
    const session = current;
    try {
      await decodeInto(session, images, batch);
    } catch (error) {
      if (isClosed) throw error;
      if (error instanceof DecoderFailedError) onFailure({ ending: error.message, stderrTail: session.stderrTail() });
      recoveryCount += 1;
      const recovery = lastRecovery.then(() => recover(images, batch));
      lastRecovery = recovery.catch(() => undefined).finally(() => (recoveryCount -= 1));
      await recovery;
    }
  };

  return {
    decode: async (images, target) => {
      const position = freeParts.pop();
      if (position === undefined) throw new RangeError(`More than ${batchesAtOnce} batches are decoded at once.`);
      const parts = partsOf(images, IMAGES_PER_REQUEST);
      const decoded = await Promise.allSettled(parts.map((part) => decodeSome(part, { target, position })));
      freeParts.push(position);
      for (const part of decoded) if (part.status === 'rejected') throw part.reason;
    },
    close: async () => {
      isClosed = true;
      const closeAll = () => Promise.all(sessions.map((session) => session.close()));
      await closeAll();
      // A recovery may have started another session meanwhile.
      await lastRecovery;
      await closeAll();
    },
  };
}

interface Batch {
  readonly target: Uint8Array;
  /** Byte offset of its pixels in the pixel file. */
  readonly position: number;
}

function imageDataErrorOf(error: unknown, key: string): unknown {
  if (error instanceof ImageFailedError)
    return new ImageDataError('IMAGE_UNREADABLE', `Image ${key} cannot be decoded: ${error.message}`, { key });
  if (error instanceof DecoderFailedError)
    return new ImageDataError('IMAGE_UNREADABLE', `Image ${key} cannot be decoded, twice: ${error.message}.`, { key });
  return error;
}

/** One decoder process and its two kinds of files, which only this process and the decoder have open. */
interface Session {
  /**
   * @param positionOf byte offset of the image's pixels in the pixel file.
   * @throws ImageFailedError or DecoderFailedError, and what the images' `read` throws.
   */
  decode(images: readonly StoredImage[], positionOf: (image: StoredImage) => number): Promise<void>;
  /** Fills `target` from the pixel file. @throws DecoderFailedError if the file is too short. */
  read(target: Uint8Array, position: number): void;
  /** The process ended or broke the protocol; its later replies are not used. */
  hasFailed(): boolean;
  /** Every request was answered. */
  isIdle(): boolean;
  stderrTail(): string;
  close(): Promise<void>;
}

async function startSession(
  {
    hiddenFolder,
    scratchFolder,
    timeoutMs,
    program = PROGRAM,
    kind,
    addon = imageDecoderAddon(),
  }: StoredDecoderSettings,
  { batchSize, batchesAtOnce, sizePx, quality, resizeRule, interpolation = 'BILINEAR' }: StoredDecoderOptions,
): Promise<Session> {
  const argument: StoredDecoderArgument = { sizePx, quality, resizeRule, interpolation, addon };
  await using opened = new AsyncDisposableStack();
  const pixels = opened.use(await openMemoryFile(scratchFolder, batchSize * batchesAtOnce * sizePx * sizePx * 3));
  const slots = opened.adopt(await openEncodedSlots(scratchFolder), (each) => each.close());
  const decoder = await startDecoderProcess<StoredDecoderRequest, StoredDecoderReply>({
    ...{ program, hiddenFolder, args: [JSON.stringify(argument)], replySchema: storedDecoderReplySchema },
    ...{ files: [pixels.fd, ...slots.files], reportsExit: true },
    env: { UV_THREADPOOL_SIZE: String(Math.min(THREADS_MAX, availableParallelism())) },
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(kind === undefined ? {} : { kind }),
  });
  const files = opened.move();
  let unansweredCount = 0;
  let hasFailed = false;
  let lastReply: Promise<unknown> = Promise.resolve();
  const replyOf = async (earlier: Promise<unknown>): Promise<void> => {
    await earlier;
    const { head } = await decoder.reply(0);
    if (head.kind === 'FAILED') throw new ImageFailedError(head.reason);
    if (head.kind === 'READY') throw new DecoderFailedError('The decoder answered READY without a request for it');
  };
  return {
    decode: (images, positionOf) =>
      slots.stage(images, async (staged) => {
        unansweredCount += 1;
        const request = decoder.ask({
          bodyByteSize: 0,
          images: staged.map(({ slot, byteOffset, byteSize, image }) => [
            slot,
            byteOffset,
            byteSize,
            positionOf(image),
          ]),
        });
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
      }),
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
    stderrTail: decoder.stderrTail,
    close: async () => {
      await decoder.kill();
      await files.disposeAsync();
    },
  };
}
