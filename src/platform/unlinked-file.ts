/** Files that only processes which inherit their descriptor can reach. */
import { randomUUID } from 'node:crypto';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import path from 'node:path';

/** An unlinked file: no other program can open it, and it is deleted when it is closed, however this program ends. */
export async function openUnlinked(folder: string): Promise<FileHandle> {
  await mkdir(folder, { recursive: true });
  const file = path.join(folder, randomUUID());
  const handle = await open(file, 'wx+', 0o600);
  await rm(file);
  return handle;
}
