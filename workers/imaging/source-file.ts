/** Reads a listed file without assuming that it is unchanged since the listing. */
import { fstatSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { factsFrom, OpenError, type FileFacts, type OpenFolder } from '../../src/platform/open-folder.ts';
import { foreignKindOf } from './formats/foreign-formats.ts';
import type { Finding } from './formats/image-header.ts';
import { formatOf, MAGIC_BYTES } from './formats/index.ts';

/** The limit of an encoded file. */
export const FILE_BYTES_MAX = 1024 * 1024 * 1024;
/** For a larger file the first bytes are examined before the rest is read, and the rest is never in memory here. */
const WHOLE_BYTES_MAX = 1024 * 1024;
const CHUNK_BYTES = 1024 * 1024;

/** A file whose first bytes are those of a supported image format. */
export interface SourceFile extends AsyncDisposable {
  readonly byteSize: number;
  /** When it was opened. */
  readonly facts: FileFacts;
  /** All bytes of a small file, otherwise null. */
  readonly bytes: Buffer | null;
  /**
   * All bytes, from the beginning at each call.
   * @throws SourceFileError if the file no longer exists.
   */
  chunks(): Iterable<Buffer> | AsyncIterable<Buffer>;
}

export class SourceFileError extends Error {
  override readonly name = 'SourceFileError';
}

/**
 * Opens the file, or returns why it cannot. Links are not followed, and devices and pipes are never waited for.
 * @param folder the imported folder.
 * @param relativePath of the file below it.
 * @param reserve waits for the memory that the file will take.
 */
export async function openSourceFile(
  folder: OpenFolder,
  relativePath: string,
  reserve: (byteCount: number) => Promise<void>,
): Promise<SourceFile | Finding> {
  let handle: FileHandle;
  try {
    handle = await folder.openFile(relativePath);
  } catch (error) {
    return {
      issue: error instanceof OpenError && error.fault === 'NOT_A_REGULAR_FILE' ? 'NOT_A_REGULAR_FILE' : 'UNREADABLE',
    };
  }
  const opened: SourceFile | Finding = await openedFile(handle, reserve).catch(
    () => ({ issue: 'UNREADABLE' }) as const,
  );
  if (!('chunks' in opened)) await handle.close();
  return opened;
}

async function openedFile(
  handle: FileHandle,
  reserve: (byteCount: number) => Promise<void>,
): Promise<SourceFile | Finding> {
  const stats = fstatSync(handle.fd);
  const { size } = stats;
  const facts = factsFrom(stats);
  if (size > WHOLE_BYTES_MAX) {
    const foreign = unsupportedFinding(await readFully(handle, MAGIC_BYTES));
    if (foreign !== null) return foreign;
    if (size > FILE_BYTES_MAX) return { issue: 'TOO_LARGE', reason: tooLargeReason(size) };
    await reserve(size);
    return {
      byteSize: size,
      facts,
      bytes: null,
      chunks: () => chunksOf(handle, size),
      [Symbol.asyncDispose]: () => handle.close(),
    };
  }
  await reserve(size);
  const bytes = await readFully(handle, size);
  const foreign = unsupportedFinding(bytes);
  if (foreign !== null) return foreign;
  return {
    byteSize: bytes.length,
    facts,
    bytes,
    chunks: () => [bytes],
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

async function* chunksOf(handle: FileHandle, byteSize: number): AsyncGenerator<Buffer> {
  for (let position = 0; position < byteSize;) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, byteSize - position));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, position).catch((error: unknown) => {
      throw new SourceFileError('The file cannot be read.', { cause: error });
    });
    if (bytesRead === 0) throw new SourceFileError(`The file ends after ${position} of ${byteSize} bytes.`);
    yield chunk.subarray(0, bytesRead);
    position += bytesRead;
  }
}

/** Null for an image of a supported format. */
function unsupportedFinding(bytes: Buffer): Finding | null {
  if (formatOf(bytes) !== undefined) return null;
  const kind = foreignKindOf(bytes);
  if (kind !== undefined) return { issue: kind };
  const start = bytes.toString('hex', 0, 8).replaceAll(/(..)(?=.)/g, '$1 ');
  return { issue: 'NOT_AN_IMAGE', reason: `Not an image of a known format: it begins with the bytes ${start}.` };
}

function tooLargeReason(byteSize: number): string {
  return `The file has ${byteSize} bytes; at most ${FILE_BYTES_MAX} are read. Cut the image into smaller files.`;
}

async function readFully(handle: FileHandle, byteCount: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(byteCount);
  let filled = 0;
  while (filled < byteCount) {
    const { bytesRead } = await handle.read(bytes, filled, byteCount - filled, filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}
