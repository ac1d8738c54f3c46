/**
 * The database of a registry for commands that work without the server: an external one, the running server's, or one
 * that is started for the command.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../errors.ts';
import { lockDataDir } from './data-dir-lock.ts';
import { findRunningPostgres, startPostgres } from './postgres.ts';

export interface ReachedDatabase {
  readonly url: string;
  /** Stops the database if it was started for this command. */
  release(): Promise<void>;
}

export interface RegistryPlace {
  readonly dataDir: string;
  /** Undefined means the embedded database below the data directory. */
  readonly databaseUrl: string | undefined;
}

/**
 * Commands access the database and the files directly, not through the server, because they are needed most when the
 * server does not start, and a user who can read the data directory needs no key. If a server is running, the command
 * shares its database and does not disturb it.
 * @throws DomainError NOT_FOUND if there is no registry, CONFLICT while a server is starting there.
 */
export async function reachRegistryDatabase({ dataDir, databaseUrl }: RegistryPlace): Promise<ReachedDatabase> {
  if (databaseUrl !== undefined) return { url: databaseUrl, release: () => Promise.resolve() };
  const folder = path.join(dataDir, 'postgres');
  if (
    !(await stat(folder).then(
      (facts) => facts.isDirectory(),
      () => false,
    ))
  ) {
    throw new DomainError({
      code: 'NOT_FOUND',
      message: `The folder ${dataDir} does not contain a registry.`,
      hint: 'Set PARAFFIN_DATA_DIR to the data directory of a registry.',
    });
  }
  const lock = await lockDataDir(dataDir).catch((error: unknown) => {
    if (error instanceof DomainError && error.code === 'CONFLICT') return undefined;
    throw error;
  });
  if (lock === undefined) {
    const url = await findRunningPostgres(folder);
    if (url !== undefined) return { url, release: () => Promise.resolve() };
    throw new DomainError({
      code: 'CONFLICT',
      message: `The Paraffin server of ${dataDir} is starting or stopping.`,
      hint: 'Try again in a moment.',
      retryable: true,
    });
  }
  try {
    const postgres = await startPostgres(folder);
    return {
      url: postgres.url,
      release: async () => {
        await postgres.stop();
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}
