/**
 * The processes that decode the images of an import, one for each core, each in a sandbox, so that no untrusted file is
 * decoded in a process that holds a key, a connection or another file.
 * If a decoder crashes, hangs or breaks the protocol, its image is tried once more with a new decoder and refused if
 * that fails too: the cause may have been external, and an import must give the same version on any day.
 */
import { writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { imageDecoderAddon } from '../../../src/platform/engine/image-decoder.ts';
import type { SourceFile } from '../source-file.ts';
import { FREE_DECODING_BYTES, REQUESTS_PER_DECODER, SHARED_BYTES_MAX } from './decoder-limits.ts';
import { DecoderFailedError, startDecoderProcess, type DecoderProcess } from './decoder-process.ts';
import {
  decoderReplySchema,
  type DecoderArgument,
  type DecoderReply,
  type DecoderRequest,
  type SharedBytes,
} from './decoder-protocol.ts';
import { openMemoryFile } from './memory-file.ts';
import { createRequestQueue, PredecessorFailedError, type RequestQueue } from './request-queue.ts';
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
  /** The addon of `loadNativeDecoder`; null for none. Default: that of this machine. */
  readonly addon?: string | null;
}

export interface DecoderFailure {
  /** "SIGSEGV", "code 1" or the protocol error. */
  readonly ending: string;
  /** The end of its standard error output. */
  readonly stderrTail: string;
}

export interface FileToPrepare {
  readonly file: SourceFile;
  readonly patchSizePx: number | null;
  /** See `Preparation`. */
  readonly sampleBits: number | null;
  readonly measuresFlatness: boolean;
  /** The memory that one image may take. */
  readonly decodingBytesMax: number;
  /** Waits until an image that takes more than FREE_DECODING_BYTES has its memory. */
  readonly reserve: (byteCount: number) => Promise<void>;
}

export type PreparedFile = Prepared & { readonly images: readonly PreparedImage[] };

export interface ImageDecoders extends AsyncDisposable {
  readonly processCount: number;
  /** The most requests that may be in flight together: each process has its next one before it needs it. */
  readonly requestCount: number;
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
const ATTEMPTS = 2;
/**
 * Blocks of 4 MiB and more return to the kernel when they are freed, so that a decoder does not keep the memory of a
 * large image. By default glibc raises this threshold up to 32 MiB by itself.
 */
const DECODER_ENV = { MALLOC_MMAP_THRESHOLD_: '4194304', MALLOC_ARENA_MAX: '2' };
const THUMBNAIL_BYTES_MAX = 1024 * 1024;

/** The caller has at most `requestCount` requests in flight. */
export function openImageDecoders(options: ImageDecodersOptions): ImageDecoders {
  const { processCount = availableParallelism(), onFailure } = options;
  const places = Array.from({ length: processCount }, createPlace);
  const all = new Set<Decoder>();
  let isClosed = false;

  const start = async (): Promise<Decoder> => {
    if (isClosed) throw new Error('The decoders were closed.');
    const decoder = await startDecoder(options);
    all.add(decoder);
    return decoder;
  };

  const end = async (decoder: Decoder): Promise<void> => {
    await decoder.kill();
    all.delete(decoder);
  };

  /**
   * A request that cannot be blamed on its file alone is repeated by a decoder of its own: it waits for no other
   * request there, and only it can be at fault.
   *
   * @throws DecoderFailedError if a request failed with two decoders, or took too long with one.
   */
  const withDecoder = async <Result>(work: (seat: Seat) => Promise<Result>): Promise<Result> => {
    const place = emptiestOf(places);
    const slot = place.freeSlots.pop();
    if (slot === undefined) throw new Error(`More than ${processCount * REQUESTS_PER_DECODER} requests at once.`);
    try {
      let failureCount = 0;
      for (let isShared = true; ; isShared = false) {
        const starting = isShared ? (place.decoder ??= start()) : start();
        let decoder: Decoder | undefined;
        try {
          decoder = await starting;
          const result = await work({ decoder, slot });
          if (isShared) return result;
          if (place.decoder === null) place.decoder = starting;
          else await end(decoder);
          return result;
        } catch (error) {
          // Before anything is awaited, so that no other request is sent to it.
          if (place.decoder === starting) place.decoder = null;
          if (decoder === undefined) throw error;
          // Its remaining messages do not concern the next image.
          await end(decoder);
          if (error instanceof PredecessorFailedError && !isClosed) continue;
          if (!(error instanceof DecoderFailedError) || isClosed) throw error;
          onFailure?.({ ending: error.message, stderrTail: decoder.stderrTail() });
          failureCount += 1;
          if (error.isTimeout || failureCount === ATTEMPTS) throw error;
        }
      }
    } finally {
      place.freeSlots.push(slot);
    }
  };

  return {
    processCount,
    requestCount: processCount * REQUESTS_PER_DECODER,
    prepare: async (request) => {
      const withOneReservation = { ...request, reserve: reserveOnce(request.reserve) };
      try {
        return await withDecoder((seat) => prepareAt(seat, withOneReservation));
      } catch (error) {
        if (!(error instanceof DecoderFailedError)) throw error;
        const reason = `${error.message}. Convert the image to PNG with a program that opens it, or leave it out.`;
        return { outcome: 'REFUSED', finding: { issue: 'DECODER_FAILED', reason }, images: [] };
      }
    },
    thumbnail: (bytes) => withDecoder((seat) => thumbnailAt(seat, bytes)),
    [Symbol.asyncDispose]: async () => {
      isClosed = true;
      await Promise.all([...all].map((decoder) => decoder.kill()));
    },
  };
}

/** Where one decoder runs at a time. */
interface Place {
  /** Null until the next request needs one. */
  decoder: Promise<Decoder> | null;
  /** Parts of the decoder's shared file that no request uses. */
  readonly freeSlots: number[];
}

/** What one request has of a decoder. */
interface Seat {
  readonly decoder: Decoder;
  /** Its part of the shared file. */
  readonly slot: number;
}

function createPlace(): Place {
  return { decoder: null, freeSlots: Array.from({ length: REQUESTS_PER_DECODER }, (_, slot) => slot) };
}

function emptiestOf(places: readonly Place[]): Place {
  return places.reduce((best, place) => (place.freeSlots.length > best.freeSlots.length ? place : best));
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

function prepareAt({ decoder, slot }: Seat, request: FileToPrepare): Promise<PreparedFile> {
  const { file, patchSizePx, sampleBits, measuresFlatness, decodingBytesMax } = request;
  const { bytes, byteSize } = file;
  const isShared = bytes !== null && bytes.length <= SHARED_BYTES_MAX;
  const options = { patchSizePx, sampleBits, measuresFlatness, decodingBytesMax, keepsFile: bytes !== null };
  return decoder.queue.run({
    isShort: isShared,
    send: async () => {
      if (!isShared)
        return decoder.ask({ kind: 'PREPARE', bodyByteSize: byteSize, shared: null, ...options }, file.chunks());
      const shared = decoder.share(bytes, slot);
      return decoder.ask({ kind: 'PREPARE', bodyByteSize: 0, shared, ...options });
    },
    receive: () => preparedBy(decoder, request),
  });
}

async function preparedBy(decoder: Decoder, { file, decodingBytesMax, reserve }: FileToPrepare): Promise<PreparedFile> {
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

function thumbnailAt({ decoder }: Seat, bytes: Buffer): Promise<Buffer> {
  return decoder.queue.run({
    isShort: false,
    send: () => decoder.ask({ kind: 'THUMBNAIL', bodyByteSize: bytes.length }, [bytes]),
    receive: async () => {
      const { head, body } = await decoder.reply(THUMBNAIL_BYTES_MAX);
      if (head.kind !== 'THUMBNAIL') throw unexpectedReply(head);
      return body;
    },
  });
}

function unexpectedReply({ kind }: DecoderReply): DecoderFailedError {
  return new DecoderFailedError(`The decoder answered ${kind} without a request for it`);
}

interface Decoder extends DecoderProcess<DecoderRequest, DecoderReply> {
  readonly queue: RequestQueue;
  /**
   * Puts a file of at most SHARED_BYTES_MAX where the decoder can read it: a pipe would pass it on in pieces of 64 KiB,
   * and wake both processes for each.
   */
  share(bytes: Buffer, slot: number): SharedBytes;
}

async function startDecoder({
  hiddenFolder,
  timeoutMs,
  program = PROGRAM,
  addon = imageDecoderAddon(),
}: ImageDecodersOptions): Promise<Decoder> {
  const argument: DecoderArgument = { addon };
  const shared = await openMemoryFile(hiddenFolder, SHARED_BYTES_MAX * REQUESTS_PER_DECODER);
  try {
    const decoder = await startDecoderProcess<DecoderRequest, DecoderReply>({
      ...{ program, hiddenFolder, args: [JSON.stringify(argument)], replySchema: decoderReplySchema },
      files: [shared.fd],
      nodeFlags: ['--expose-gc'],
      env: DECODER_ENV,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    return {
      ...decoder,
      queue: createRequestQueue(),
      share: (bytes, slot) => {
        const byteOffset = slot * SHARED_BYTES_MAX;
        // Synchronous, as a copy in memory.
        for (let written = 0; written < bytes.length;)
          written += writeSync(shared.fd, bytes, written, bytes.length - written, byteOffset + written);
        return { byteOffset, byteSize: bytes.length };
      },
      kill: async () => {
        await decoder.kill();
        await shared.close();
      },
    };
  } catch (error) {
    await shared.close();
    throw error;
  }
}
