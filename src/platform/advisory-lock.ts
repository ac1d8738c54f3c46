/** Locks between processes, held in PostgreSQL: they end with the connection, however the process ends. */
import { Client } from 'pg';
import { DomainError } from '../errors.ts';

/**
 * Every advisory lock of this program: the numbers are one space for the whole database, so that each name has its own.
 */
export const ADVISORY_LOCKS = {
  /** Two servers never migrate at once. */
  MIGRATIONS: 7_202_611,
  /** Stored bytes are read (shared) or deleted. Held for as long as a backup takes. */
  STORED_BYTES: 7_202_612,
  /** Two servers never seed the catalogue of published checkpoints at once. */
  SEED_CHECKPOINTS: 7_202_613,
  /** Entries of the audit log are appended one at a time. */
  AUDIT_CHAIN: 7_202_614,
  /** Two servers never make two first keys, and the last ADMIN key is never revoked twice. */
  ADMIN_KEYS: 7_202_615,
  /** Two servers never seed the catalogue of datasets at once. */
  SEED_CATALOGUE: 7_202_616,
  /** Launches of one lane take their turns one at a time; the lane is the second number. */
  RUN_TURNS: 7_202_617,
} as const;

/**
 * Works while no stored bytes may go (SHARED: several may read at once), or while nobody else relies on them
 * (EXCLUSIVE: to delete).
 * @throws DomainError CONFLICT when it is held by somebody in the other way.
 */
export async function withStoredBytesLock<Result>(
  databaseUrl: string,
  mode: 'SHARED' | 'EXCLUSIVE',
  work: () => Promise<Result>,
): Promise<Result> {
  const client = new Client({ connectionString: databaseUrl, keepAlive: true });
  // A connection that breaks is noticed by whatever asks next; without a listener it would end the process.
  client.on('error', () => undefined);
  await client.connect();
  try {
    const take = mode === 'SHARED' ? 'pg_try_advisory_lock_shared' : 'pg_try_advisory_lock';
    const { rows } = await client.query<{ taken: boolean }>(`SELECT ${take}($1) AS taken`, [
      ADVISORY_LOCKS.STORED_BYTES,
    ]);
    if (rows[0]?.taken !== true) {
      const holder =
        mode === 'SHARED' ? 'A garbage collection is' : 'A backup, a check or another garbage collection is';
      throw new DomainError({
        code: 'CONFLICT',
        message: `${holder} at work on this registry.`,
        hint: 'Try again when it has ended.',
        retryable: true,
      });
    }
    return await work();
  } finally {
    await client.end();
  }
}
