/** One server for one data directory: a second one would stop the first one's database. */
import { chmod, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../errors.ts';
import { tryLockFile } from './file-lock.ts';

/** Held open and locked by anyone who works on the directory. */
const LOCK_NAME = '.lock';
/** There while a restore is under way, and after one that was killed. */
const RESTORE_MARKER = '.restoring';

export interface DataDirLock {
  /** What the last holder noted, where it was killed before it could let go; undefined otherwise. */
  readonly leftBehind: string | undefined;
  /** Notes something that the next holder finds unless this one lets go cleanly. */
  note(text: string): Promise<void>;
  release(): Promise<void>;
}

/**
 * Makes the data directory for its owner alone, and one that was open to others closed. @param folders below it.
 */
export async function makeDataDir(dataDir: string, folders: readonly string[] = []): Promise<void> {
  for (const folder of [dataDir, ...folders.map((name) => path.join(dataDir, name))])
    await mkdir(folder, { recursive: true, mode: 0o700 });
  const { mode } = await stat(dataDir);
  // Group search is what a server without the right to search everything gives to its PostgreSQL's user.
  if ((mode & 0o777) !== 0o710) await chmod(dataDir, 0o700);
}

/**
 * Holds the data directory until `release` or the end of the process, however it ends; also against a server in
 * another container that has the same volume.
 * @throws DomainError CONFLICT when another process holds it, and for what a broken restore has left.
 */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  const lock = await lockOrThrow(dataDir);
  if (!(await isHalfRestored(dataDir))) return lock;
  await lock.release();
  throw new DomainError({
    code: 'CONFLICT',
    message: `The restore into ${dataDir} was not finished.`,
    hint: 'Restore again into the same folder: that begins by deleting what is left.',
  });
}

/**
 * Holds an empty folder, made if it is not there, for a restore. What an unfinished one left is deleted first.
 * @throws DomainError CONFLICT when another process holds it, or when it is not empty.
 */
export async function lockForRestore(dataDir: string): Promise<DataDirLock & RestorePlace> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const names = await readdir(dataDir);
  if (names.length > 0 && !names.every((name) => name === LOCK_NAME) && !(await isHalfRestored(dataDir)))
    throw notEmpty(dataDir);
  const lock = await lockOrThrow(dataDir);
  const clear = async (): Promise<void> => {
    // The marker last: what is left by then is known for what it is.
    const left = (await readdir(dataDir)).filter((name) => name !== LOCK_NAME && name !== RESTORE_MARKER);
    for (const name of left) await rm(path.join(dataDir, name), { recursive: true, force: true });
    for (const name of [RESTORE_MARKER, LOCK_NAME]) await rm(path.join(dataDir, name), { force: true });
  };
  try {
    if (await isHalfRestored(dataDir)) await clear();
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
  /** What was empty is empty again. */
  clear(): Promise<void>;
  /** From now on it is a registry. */
  finish(): Promise<void>;
  /** All that a restore makes there. */
  readonly paths: readonly string[];
}

async function lockOrThrow(dataDir: string): Promise<DataDirLock> {
  const lock = await tryLockFile(path.join(dataDir, LOCK_NAME));
  if (lock === undefined)
    throw new DomainError({
      code: 'CONFLICT',
      message: `Another Paraffin serves ${dataDir}.`,
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

async function isHalfRestored(dataDir: string): Promise<boolean> {
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
    hint: 'Restore into an empty folder; nothing is ever overwritten.',
  });
}
