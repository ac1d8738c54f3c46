/** Reserved disk space: PostgreSQL cannot start on a full disk, and without PostgreSQL nothing can be deleted. */
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { Transform } from 'node:stream';
import { DomainError } from '../errors.ts';

/** Upper limit of the reserve: enough for PostgreSQL's write-ahead log and for cleaning up. */
const RESERVE_BYTES = 1_000_000_000;
/** On a small disk, the reserve is this fraction of its size. */
const RESERVE_FRACTION = 1 / 20;
/** Interval between two checks of the free space, which other programs use as well. */
const CHECK_EVERY_BYTES = 4 * 1024 * 1024;

/**
 * @returns the bytes that can be written to a folder's file system before the reserve is touched. The folder need not
 * exist yet.
 */
export async function freeBytesOf(folder: string): Promise<number> {
  try {
    const { blocks, bavail, bsize } = await statfs(folder);
    return Math.max(0, bavail * bsize - Math.min(RESERVE_BYTES, blocks * bsize * RESERVE_FRACTION));
  } catch (error) {
    const parent = path.dirname(folder);
    if (parent === folder || !(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    return freeBytesOf(parent);
  }
}

/** @throws DomainError STORAGE_FULL if writing this many bytes would touch the reserve of that file system. */
export async function requireSpace(folder: string, byteCount: number): Promise<void> {
  if ((await freeBytesOf(folder)) < byteCount) throw storageFull();
}

/** A stream that passes bytes on to a file in a folder, and fails with STORAGE_FULL before they touch the reserve. */
export function spaceGuard(folder: string): Transform {
  let uncheckedBytes = CHECK_EVERY_BYTES;
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      uncheckedBytes += chunk.length;
      if (uncheckedBytes < CHECK_EVERY_BYTES) {
        done(null, chunk);
        return;
      }
      uncheckedBytes = 0;
      requireSpace(folder, CHECK_EVERY_BYTES + chunk.length).then(
        () => done(null, chunk),
        (error: unknown) => done(error instanceof Error ? error : new Error(String(error))),
      );
    },
  });
}

export function storageFull(): DomainError {
  return new DomainError({
    code: 'STORAGE_FULL',
    message: 'The disk of the server is nearly full, and the rest is reserved for its database.',
    hint: 'Ask the administrator of the server to free space with "paraffin gc" or "paraffin uploads clear", or to add disk space.',
    retryable: true,
  });
}
