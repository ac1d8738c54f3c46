/** Reads a file that was listed, without trust in what stands there by now. */
import type { FileHandle } from 'node:fs/promises';
import { OpenError, type OpenFolder } from '../../src/platform/open-folder.ts';
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
 * @param folder what is imported. @param relativePath of the file below it.
 */
export async function readSourceFile(folder: OpenFolder, relativePath: string, reserve: Reserve): Promise<SourceFile> {
  let handle: FileHandle;
  try {
    handle = await folder.openFile(relativePath);
  } catch (error) {
    return {
      issue: error instanceof OpenError && error.fault === 'NOT_A_REGULAR_FILE' ? 'NOT_A_REGULAR_FILE' : 'UNREADABLE',
    };
  }
  try {
    const facts = await handle.stat();
    // A file that bears an image's name was meant as one.
    const notAnImage = { issue: IMAGE_NAME.test(relativePath) ? 'UNREADABLE' : 'NOT_AN_IMAGE' } as const;
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
