/** Locks between processes, held in PostgreSQL: they end with the connection, however the process ends. */
import { Client } from 'pg';
import { DomainError } from '../errors.ts';

/** Any number that nobody else on this database uses for an advisory lock. */
const STORED_BYTES_LOCK = 7_202_612;

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
    const { rows } = await client.query<{ taken: boolean }>(`SELECT ${take}($1) AS taken`, [STORED_BYTES_LOCK]);
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
