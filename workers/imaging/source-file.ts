/** Reads a file that was listed, without trust in what is there by now. */
import type { FileHandle } from 'node:fs/promises';
import { OpenError, type OpenFolder } from '../../src/platform/open-folder.ts';
import { foreignKindOf } from './formats/foreign-formats.ts';
import type { Finding } from './formats/image-header.ts';
import { formatOf, MAGIC_BYTES } from './formats/index.ts';
import type { Reserve } from './in-order.ts';

/** Of an encoded file. */
const FILE_BYTES_MAX = 1024 * 1024 * 1024;
/** Above this the first bytes are looked at before the rest is read. */
const PEEK_ABOVE_BYTES = 1024 * 1024;

export type SourceFile = { readonly bytes: Buffer } | Finding;

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
    if (facts.size > PEEK_ABOVE_BYTES) {
      const foreign = foreignFinding(await readFully(handle, MAGIC_BYTES));
      if (foreign !== null) return foreign;
      if (facts.size > FILE_BYTES_MAX) return { issue: 'TOO_LARGE', reason: tooLargeReason(facts.size) };
    }
    await reserve(facts.size);
    const bytes = await readFully(handle, facts.size);
    return foreignFinding(bytes) ?? { bytes };
  } catch {
    return { issue: 'UNREADABLE' };
  } finally {
    await handle.close();
  }
}

/** Null for an image of a format that is read. */
function foreignFinding(bytes: Buffer): Finding | null {
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
