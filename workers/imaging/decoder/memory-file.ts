/** Files through which this process and a sandboxed one exchange bytes: unlinked, and in memory where that has room. */
import type { FileHandle } from 'node:fs/promises';
import { openUnlinked } from '../../../src/platform/unlinked-file.ts';

/** A file system in memory, on Linux. */
const MEMORY_FOLDER = '/dev/shm';
const ZEROS = Buffer.alloc(1024 * 1024);

/**
 * Written at its full size at once, so that a lack of space shows here and not in a later batch.
 * @param scratchFolder the folder of the file if it does not fit into memory.
 */
export async function openMemoryFile(scratchFolder: string, byteSize: number): Promise<FileHandle> {
  return openFilledFile(MEMORY_FOLDER, byteSize).catch(() => openFilledFile(scratchFolder, byteSize));
}

async function openFilledFile(folder: string, byteSize: number): Promise<FileHandle> {
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
