/**
 * Uploads to an S3-compatible store. Bytes whose name the caller knows go straight there, hashed on the way, and appear
 * only if their digest is the name. Others that can be read twice (a buffer, a file) are hashed first; the checksums
 * that the store checks are computed together with the sha256, so that a file that changes between the two readings is
 * refused. The name of any other stream is known only at its end: it goes to a temporary key, from which the store
 * copies it, and so every byte is written twice more.
 */
import { createHash, randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { createSha256 } from '../digest-thread.ts';
import type { OutgoingPart, S3Requests, UploadedPart } from './s3-client.ts';
import { isFileSource, type ByteSource, type FileSource, type StoredBytes } from './store.ts';
import { checksumOf, type UploadCheck } from './upload-check.ts';

/** The size of one part; a store accepts 10,000 of at least 5 MiB, so an artifact has at most 80 GB. */
export const PART_BYTES = 8 * 1024 * 1024;
export const PARTS_MAX = 10_000;
/** Parts in flight: enough to hide the round trips; each holds its bytes in memory. */
const PARTS_AT_ONCE = 4;
const NOTE_SUFFIX = '.upload';
const noteSchema = z.object({ key: z.string(), uploadId: z.string() });

/** Bytes that can be read as often as needed. */
export interface Rereadable extends AsyncDisposable {
  readonly byteSize: number;
  /** The bytes from a position on, at most PART_BYTES. @throws Error for a file that has become shorter. */
  part(first: number): Promise<Uint8Array>;
  /** The bytes of a part are no longer used: those of another one may take their place. */
  release(bytes: Uint8Array): void;
}

/** Undefined for a stream. */
export async function openRereadable(source: ByteSource): Promise<Rereadable | undefined> {
  if (source instanceof Uint8Array)
    return {
      byteSize: source.length,
      part: (first) => Promise.resolve(source.subarray(first, first + PART_BYTES)),
      release: () => undefined,
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  return isFileSource(source) ? openFile(source) : undefined;
}

async function openFile({ file }: FileSource): Promise<Rereadable> {
  const handle = await open(file, 'r');
  const { size: byteSize } = await handle.stat();
  /** New memory for each part would keep the garbage collector as busy as the hashing. A thread hashes it: shared. */
  const spare: Buffer[] = [];
  return {
    byteSize,
    part: async (first) => {
      const whole = spare.pop() ?? Buffer.from(new SharedArrayBuffer(Math.min(PART_BYTES, byteSize)));
      const bytes = whole.subarray(0, Math.min(PART_BYTES, byteSize - first));
      for (let filled = 0; filled < bytes.length;) {
        const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, first + filled);
        if (bytesRead === 0) throw new Error(`${file} has become shorter while it was stored.`);
        filled += bytesRead;
      }
      return bytes;
    },
    release: ({ buffer }) => void spare.push(Buffer.from(buffer)),
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

/** The parts of a source whose sha256 and checksums are known. */
export interface NamedParts extends StoredBytes {
  /** Reads the source again; may be called several times. */
  parts(): AsyncGenerator<OutgoingPart>;
}

/** Reads the source once. */
export async function namePartsOf(source: Rereadable, check: UploadCheck): Promise<NamedParts> {
  const digest = createSha256();
  const checksums: string[] = [];
  /** Of the part before, while the next one is read. */
  let hashing = Promise.resolve();
  for (let first = 0; first < source.byteSize; first += PART_BYTES) {
    const bytes = await source.part(first);
    await hashing;
    hashing = digest.update(bytes).then(() => source.release(bytes));
    // A failure is thrown at its next turn; until then it must not count as an unhandled rejection.
    hashing.catch(() => undefined);
    checksums.push(checksumOf(bytes, check));
  }
  await hashing;
  return {
    sha256: await digest.digest(),
    byteSize: source.byteSize,
    parts: async function* () {
      for (const [index, checksum] of checksums.entries()) {
        const bytes = await source.part(index * PART_BYTES);
        yield { partNumber: index + 1, bytes, checksum, release: () => source.release(bytes) };
      }
    },
  };
}

/** Parts that are hashed while they are sent. */
export interface HashedParts {
  /** All of them; called once. */
  parts(): AsyncGenerator<OutgoingPart>;
  /** Of all parts, after the last one was taken. */
  stored(): Promise<StoredBytes>;
}

/** Reads the source once. */
export function hashedPartsOf(source: Rereadable): HashedParts {
  const digest = createSha256();
  /** Of the parts that were taken. */
  let hashing = Promise.resolve();
  let sha256: Promise<string> | undefined;
  return {
    parts: async function* () {
      for (let first = 0; first < source.byteSize; first += PART_BYTES) {
        const bytes = await source.part(first);
        // At most one part waits to be hashed, so that the memory is bounded.
        await hashing;
        const hashed = digest.update(bytes);
        hashing = hashed;
        // A failure is thrown at its next turn; until then it must not count as an unhandled rejection.
        hashed.catch(() => undefined);
        const release = (): void => void hashed.finally(() => source.release(bytes)).catch(() => undefined);
        yield { partNumber: first / PART_BYTES + 1, bytes, release };
      }
    },
    stored: async () => {
      await hashing;
      return { sha256: await (sha256 ??= digest.digest()), byteSize: source.byteSize };
    },
  };
}

/** A stream in parts of equal size, because some stores require equal sizes. Its disposal ends the stream. */
export interface StreamParts extends HashedParts, AsyncDisposable {
  /** The beginning of the stream, at most PART_BYTES; the first part. */
  readonly first: Uint8Array;
  /** True if there is nothing after `first`. */
  readonly isWhole: boolean;
}

/** Hashes a stream while its parts are taken. */
export async function openStreamParts(source: NodeJS.ReadableStream | AsyncIterable<Uint8Array>): Promise<StreamParts> {
  const hash = createHash('sha256');
  let byteSize = 0;
  const chunks = cut(source, (bytes) => {
    hash.update(bytes);
    byteSize += bytes.length;
  });
  const { value: first = { bytes: Buffer.alloc(0), isLast: true } } = await chunks.next();
  return {
    first: first.bytes,
    isWhole: first.isLast,
    parts: async function* () {
      yield { partNumber: 1, bytes: first.bytes };
      let partNumber = 1;
      for await (const { bytes } of chunks) yield { partNumber: (partNumber += 1), bytes };
    },
    stored: () => Promise.resolve({ sha256: hash.copy().digest('hex'), byteSize }),
    [Symbol.asyncDispose]: async () => void (await chunks.return(undefined)),
  };
}

interface Piece {
  readonly bytes: Buffer;
  readonly isLast: boolean;
}

async function* cut(
  source: NodeJS.ReadableStream | AsyncIterable<Uint8Array>,
  arrived: (bytes: Buffer) => void,
): AsyncGenerator<Piece, undefined> {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  const take = (): Buffer => {
    const joined = pending.length === 1 && pending[0] !== undefined ? pending[0] : Buffer.concat(pending);
    const piece = joined.subarray(0, PART_BYTES);
    const rest = joined.subarray(PART_BYTES);
    pending = rest.length === 0 ? [] : [rest];
    pendingBytes = rest.length;
    return piece;
  };
  for await (const chunk of source) {
    const bytes =
      typeof chunk === 'string' ? Buffer.from(chunk) : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    arrived(bytes);
    pending.push(bytes);
    pendingBytes += bytes.length;
    // A full piece is held back until more bytes arrive, because the last piece is marked.
    while (pendingBytes > PART_BYTES) yield { bytes: take(), isLast: false };
  }
  yield { bytes: take(), isLast: true };
  return undefined;
}

export interface Upload {
  readonly key: string;
  readonly parts: AsyncIterable<OutgoingPart>;
  readonly check: UploadCheck;
  /** Below it, the upload leaves a note for as long as it is unfinished. */
  readonly notesPrefix: string;
  /** Called when all parts were sent; if it throws, the upload is aborted, and nothing appears. */
  readonly beforeCompletion?: () => Promise<void>;
}

/** Uploads all parts, several at once. Nothing is left behind when it fails. */
export async function uploadParts(
  requests: S3Requests,
  { key, parts, check, notesPrefix, beforeCompletion }: Upload,
): Promise<void> {
  const uploadId = await requests.createUpload(key);
  const noteKey = noteKeyOf(`${notesPrefix}${randomUUID()}`);
  const inFlight = new Set<Promise<void>>();
  const uploaded: UploadedPart[] = [];
  let failure: { readonly error: unknown } | undefined;
  const send = async (part: OutgoingPart): Promise<void> => {
    if (part.partNumber > PARTS_MAX) throw tooManyParts();
    const sending = requests.uploadPart(key, uploadId, part, check).then(
      (sent) => void uploaded.push(sent),
      (error: unknown) => {
        failure ??= { error };
      },
    );
    inFlight.add(sending);
    void sending.finally(() => {
      inFlight.delete(sending);
      part.release?.();
    });
    if (inFlight.size >= PARTS_AT_ONCE) await Promise.race(inFlight);
    if (failure !== undefined) throw failure.error;
  };
  try {
    await requests.put(noteKey, noteOf(key, uploadId));
    for await (const part of parts) await send(part);
    await Promise.all(inFlight);
    if (failure !== undefined) throw failure.error;
    await beforeCompletion?.();
    await requests.completeUpload(
      key,
      uploadId,
      uploaded.sort((a, b) => a.partNumber - b.partNumber),
    );
  } catch (error) {
    await Promise.all(inFlight);
    // If this fails too, the note stays, and the upload is removed when the writer's process has ended.
    await requests.abortUpload(key, uploadId).then(
      () => requests.delete(noteKey).catch(() => undefined),
      () => undefined,
    );
    throw error;
  }
  await requests.delete(noteKey).catch(() => undefined);
}

/** An unfinished upload is not an object, few stores list it, and its key does not say whose it is: a note does. */
export function noteKeyOf(name: string): string {
  return `${name}${NOTE_SUFFIX}`;
}

export function noteOf(key: string, uploadId: string): Buffer {
  return Buffer.from(JSON.stringify({ key, uploadId }));
}

export function tooManyParts(): DomainError {
  return new DomainError({
    code: 'FILE_TOO_LARGE',
    message: `An artifact in a bucket has at most ${(PART_BYTES * PARTS_MAX) / 1e9} GB.`,
    hint: 'Split the file.',
  });
}

/** Aborts the upload of which this object is the note; does nothing for any other object. */
export async function abortNoted(requests: S3Requests, objectKey: string): Promise<void> {
  if (!objectKey.endsWith(NOTE_SUFFIX)) return;
  const found = await requests.get(objectKey);
  if (found === undefined) return;
  const { data: note } = noteSchema.safeParse(parsed(await text(found.body)));
  if (note !== undefined) await requests.abortUpload(note.key, note.uploadId);
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}
