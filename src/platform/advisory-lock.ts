/**
 * Locks between processes, held in PostgreSQL: they are released with the connection, even if the process is killed.
 */
import { Client } from 'pg';
import { DomainError } from '../errors.ts';

/**
 * Every advisory lock of this program. All locks of a database share one number space, so each name has its own number.
 */
export const ADVISORY_LOCKS = {
  /** Prevents two servers from migrating concurrently. */
  MIGRATIONS: 7_202_611,
  /**
   * Protects stored bytes: shared for readers such as a backup, exclusive for deletion. A backup holds it until it
   * ends.
   */
  STORED_BYTES: 7_202_612,
  /** Prevents two servers from seeding the catalogue of published checkpoints concurrently. */
  SEED_CHECKPOINTS: 7_202_613,
  /** Entries of the audit log are appended one at a time. */
  AUDIT_CHAIN: 7_202_614,
  /** Prevents two servers from creating two first keys, and two requests from revoking the last two ADMIN keys. */
  ADMIN_KEYS: 7_202_615,
  /** Prevents two servers from seeding the catalogue of datasets concurrently. */
  SEED_CATALOGUE: 7_202_616,
  /** Serialises the launches of one lane; the lane is the second number. */
  RUN_TURNS: 7_202_617,
} as const;

/**
 * Calls `work` while no stored bytes may be deleted (SHARED, for several readers), or while no reader relies on them
 * (EXCLUSIVE, to delete).
 * @throws DomainError CONFLICT if another process holds the lock in the other mode.
 */
export async function withStoredBytesLock<Result>(
  databaseUrl: string,
  mode: 'SHARED' | 'EXCLUSIVE',
  work: () => Promise<Result>,
): Promise<Result> {
  const client = new Client({ connectionString: databaseUrl, keepAlive: true });
  // The next query reports a broken connection; without a listener, the error event would end the process.
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
        message: `${holder} running on this registry.`,
        hint: 'Try again when it has ended.',
        retryable: true,
      });
    }
    return await work();
  } finally {
    await client.end();
  }
}
