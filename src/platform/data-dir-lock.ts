/** One server for one data directory: a second one would stop the first one's database. */
import path from 'node:path';
import { DomainError } from '../errors.ts';
import { tryLockFile } from './file-lock.ts';

/** A name in the data directory that no restore and no check takes for content. */
export const DATA_DIR_LOCK_NAME = '.lock';

/**
 * Holds the data directory until `release` or the end of the process, however it ends; also against a server in
 * another container that has the same volume.
 * @throws DomainError CONFLICT when another process holds it.
 */
export async function lockDataDir(dataDir: string): Promise<{ release(): Promise<void> }> {
  const lock = await tryLockFile(path.join(dataDir, DATA_DIR_LOCK_NAME));
  if (lock === undefined)
    throw new DomainError({
      code: 'CONFLICT',
      message: `Another Paraffin serves ${dataDir}.`,
      hint: 'Stop it, or set PARAFFIN_DATA_DIR to another folder.',
    });
  return { release: () => lock.close() };
}
