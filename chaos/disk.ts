/**
 * The disk of the tested system's artifacts: a file system in memory, so that it can fill up without filling a real
 * disk.
 */
import { execFile } from 'node:child_process';
import { mkdir, statfs } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

const EMPTY_SIZE = '4g';
/** Enough for everything except a training state of about 90 MB. */
export const LEFT_BYTES = 20_000_000;

export interface Disk {
  /** Leaves room for LEFT_BYTES: writes beyond that fail with ENOSPC. */
  fill(): Promise<void>;
  clear(): Promise<void>;
  close(): Promise<void>;
}

/** @returns undefined if mounting is not allowed: without root, and in most containers. */
export async function openDisk(folder: string): Promise<Disk | undefined> {
  await mkdir(folder, { recursive: true });
  const isMounted = await run('mount', [
    '-t',
    'tmpfs',
    '-o',
    `size=${EMPTY_SIZE},mode=0755`,
    'paraffin-chaos',
    folder,
  ]).then(
    () => true,
    () => false,
  );
  if (!isMounted) return undefined;
  const resize = async (size: string): Promise<void> => {
    await run('mount', ['-o', `remount,size=${size}`, folder]);
  };
  return {
    fill: async () => {
      const { blocks, bfree, bsize } = await statfs(folder);
      await resize(String((blocks - bfree) * bsize + LEFT_BYTES));
    },
    clear: () => resize(EMPTY_SIZE),
    close: async () => {
      // Unmounts lazily if the file system is still in use: it disappears with its last reader.
      await run('umount', [folder]).catch(() => run('umount', ['-l', folder]));
    },
  };
}
