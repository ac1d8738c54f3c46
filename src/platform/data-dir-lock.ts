/** Ensures one server per data directory: a second one would stop the database of the first. */
import { chmod, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../errors.ts';
import { tryLockFile } from './file-lock.ts';

/** Every process that works on the directory holds this file open and locked. */
const LOCK_NAME = '.lock';
/** Exists during a restore, and remains if the restore was killed. */
const RESTORE_MARKER = '.restoring';

export interface DataDirLock {
  /** The note of the last holder if it was killed before it released the lock; otherwise undefined. */
  readonly leftBehind: string | undefined;
  /** Writes a note that the next holder finds if this one does not release the lock cleanly. */
  note(text: string): Promise<void>;
  release(): Promise<void>;
}

/**
 * Creates the data directory with access for its owner only, and restricts an existing one in the same way. A volume
 * that was mounted into a container may belong to another user: then only what is created in it is restricted.
 * @param folders names of folders to create in it.
 */
export async function makeDataDir(dataDir: string, folders: readonly string[] = []): Promise<void> {
  for (const folder of [dataDir, ...folders.map((name) => path.join(dataDir, name))])
    await mkdir(folder, { recursive: true, mode: 0o700 });
  const { mode, uid } = await stat(dataDir);
  const user = process.geteuid?.();
  if (user !== undefined && user !== 0 && user !== uid) return;
  // Group search permission is kept: a server that cannot pass on CAP_DAC_READ_SEARCH gives it to PostgreSQL's user.
  if ((mode & 0o777) !== 0o710) await chmod(dataDir, 0o700);
}

/**
 * Locks the data directory until `release` or the end of the process, even if it is killed. The lock also excludes a
 * server in another container that mounts the same volume.
 * @throws DomainError CONFLICT if another process holds it, or if it contains an unfinished restore.
 */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  const lock = await lockOrThrow(dataDir);
  if (!(await isRestoreUnfinished(dataDir))) return lock;
  await lock.release();
  throw new DomainError({
    code: 'CONFLICT',
    message: `The restore into ${dataDir} was not finished.`,
    hint: 'Restore again into the same folder, which first deletes what is left there.',
  });
}

/**
 * Locks an empty folder for a restore, and creates it if missing. The files of an unfinished restore are deleted first.
 * @throws DomainError CONFLICT if another process holds it, or if it is not empty.
 */
export async function lockForRestore(dataDir: string): Promise<DataDirLock & RestorePlace> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const names = await readdir(dataDir);
  if (names.length > 0 && !names.every((name) => name === LOCK_NAME) && !(await isRestoreUnfinished(dataDir)))
    throw notEmpty(dataDir);
  const lock = await lockOrThrow(dataDir);
  const clear = async (): Promise<void> => {
    // The marker is deleted last, so that remaining files can still be recognised as those of a restore.
    const left = (await readdir(dataDir)).filter((name) => name !== LOCK_NAME && name !== RESTORE_MARKER);
    for (const name of left) await rm(path.join(dataDir, name), { recursive: true, force: true });
    for (const name of [RESTORE_MARKER, LOCK_NAME]) await rm(path.join(dataDir, name), { force: true });
  };
  try {
    if (await isRestoreUnfinished(dataDir)) await clear();
    await writeFile(path.join(dataDir, RESTORE_MARKER), '', { mode: 0o600 });
  } catch (error) {
    await lock.release();
    throw error;
  }
  return {
    ...lock,
    clear,
    finish: () => rm(path.join(dataDir, RESTORE_MARKER)),
    paths: ['postgres', 'artifacts', RESTORE_MARKER, LOCK_NAME].map((name) => path.join(dataDir, name)),
  };
}

export interface RestorePlace {
  /** Empties the folder again. */
  clear(): Promise<void>;
  /** Marks the restore as complete: from here on the folder is a registry. */
  finish(): Promise<void>;
  /** Everything that a restore creates there. */
  readonly paths: readonly string[];
}

async function lockOrThrow(dataDir: string): Promise<DataDirLock> {
  const lock = await tryLockFile(path.join(dataDir, LOCK_NAME));
  if (lock === undefined)
    throw new DomainError({
      code: 'CONFLICT',
      message: `Another Paraffin server uses ${dataDir}.`,
      hint: 'Stop it, or set PARAFFIN_DATA_DIR to another folder.',
    });
  const leftBehind = (await lock.readFile('utf8')).trim();
  let isNoted = false;
  return {
    leftBehind: leftBehind === '' ? undefined : leftBehind,
    note: async (text) => {
      await lock.truncate(0);
      await lock.appendFile(`${text}\n`);
      isNoted = true;
    },
    release: async () => {
      if (isNoted) await lock.truncate(0);
      await lock.close();
    },
  };
}

async function isRestoreUnfinished(dataDir: string): Promise<boolean> {
  return stat(path.join(dataDir, RESTORE_MARKER)).then(
    () => true,
    () => false,
  );
}

function notEmpty(dataDir: string): DomainError {
  return new DomainError({
    code: 'CONFLICT',
    message: `${dataDir} is not empty.`,
    field: 'data-dir',
    hint: 'Restore into an empty folder; a restore never overwrites files.',
  });
}
