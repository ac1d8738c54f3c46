/** Backups of the database before each change of its schema, kept below the data directory. */
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { writeBackup } from './backup.ts';
import { programVersion } from './program-version.ts';

/** Number of backups to keep, and so of upgrades that can be undone. */
const BACKUPS_KEPT = 3;
const NAME_PATTERN = /^before-upgrade-.*\.tar$/;

/**
 * Backs up the rows, but not the stored bytes, which no upgrade changes, and removes all but the latest such backups.
 * @returns the file, for `paraffin restore --bytes-from`.
 */
export async function backUpBeforeUpgrade(databaseUrl: string, dataDir: string): Promise<string> {
  const folder = path.join(dataDir, 'backups');
  const file = path.join(folder, `before-upgrade-${new Date().toISOString().replaceAll(':', '-')}.tar`);
  await writeBackup({ databaseUrl, store: undefined, file, program: programVersion() });
  // The names sort chronologically.
  const outdated = (await readdir(folder))
    .filter((name) => NAME_PATTERN.test(name))
    .sort()
    .slice(0, -BACKUPS_KEPT);
  for (const name of outdated) await rm(path.join(folder, name));
  return file;
}
