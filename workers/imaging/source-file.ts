/** Reads a file that was listed, without trust in what stands there by now. */
import { constants, open, readlink, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { formatOf, MAGIC_BYTES } from './image-header.ts';
import type { Reserve } from './in-order.ts';
import type { IssueKind } from './issues.ts';

/** Of an encoded file. */
const FILE_BYTES_MAX = 1024 * 1024 * 1024;
/** Above this the first bytes are looked at before the rest is read. */
const PEEK_ABOVE_BYTES = 1024 * 1024;
const IMAGE_NAME = /\.(png|jpe?g|tiff?|bmp|webp)$/i;

export type SourceFile = { readonly bytes: Buffer } | { readonly issue: IssueKind };

/**
 * The whole file, or why not. A link is not followed, and a device or pipe is never waited for.
 * @param folder the real path of what is imported. @param relativePath of the file below it.
 */
export async function readSourceFile(folder: string, relativePath: string, reserve: Reserve): Promise<SourceFile> {
  const filePath = path.join(folder, relativePath);
  let handle: FileHandle;
  try {
    handle = await open(filePath, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    return {
      issue: error instanceof Error && 'code' in error && error.code === 'ELOOP' ? 'NOT_A_REGULAR_FILE' : 'UNREADABLE',
    };
  }
  try {
    const facts = await handle.stat();
    if (!facts.isFile() || !(await isStillThere(handle, filePath))) return { issue: 'NOT_A_REGULAR_FILE' };
    // A file that bears an image's name was meant as one.
    const notAnImage = { issue: IMAGE_NAME.test(filePath) ? 'UNREADABLE' : 'NOT_AN_IMAGE' } as const;
    if (facts.size > PEEK_ABOVE_BYTES) {
      if (formatOf(await readFully(handle, MAGIC_BYTES)) === undefined) return notAnImage;
      if (facts.size > FILE_BYTES_MAX) return { issue: 'TOO_LARGE' };
    }
    await reserve(facts.size);
    const bytes = await readFully(handle, facts.size);
    return formatOf(bytes) === undefined ? notAnImage : { bytes };
  } catch {
    return { issue: 'UNREADABLE' };
  } finally {
    await handle.close();
  }
}

/** False when a folder above the file was replaced by a link since it was listed: what is open then lies elsewhere. */
async function isStillThere({ fd }: FileHandle, filePath: string): Promise<boolean> {
  const found = await readlink(`/proc/self/fd/${fd}`).catch(() => undefined);
  return found === undefined || found === filePath;
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
