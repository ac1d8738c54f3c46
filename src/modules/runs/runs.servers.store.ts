/**
 * The servers of a registry, as they see each other in PostgreSQL. Each hears workers of its own; while it cannot reach
 * the database, the others see leases lapse whose workers are alive. All times are those of the database's clock.
 */
import type { Transaction } from '../../platform/db.ts';
import { LEASE_SECONDS } from '../../protocol/runs.ts';

/** Servers say every two seconds that they are there; one that misses three of them may be cut off. */
const ABSENT_SECONDS = 6;
/**
 * How long the others wait for one that is absent: it takes half a minute to replace connections that died without a
 * sign. Afterwards it counts as dead, because the runs of dead workers would wait as long.
 */
const DEAD_SECONDS = 120;

export type ServerStore = typeof serverStore;

export const serverStore = {
  /** Says that this server is there. One that was absent is a newcomer. */
  announce: async (tx: Transaction, id: string): Promise<void> => {
    await tx.$executeRaw`
      INSERT INTO "Server" AS server (id) VALUES (${id})
      ON CONFLICT (id) DO UPDATE SET "seenAt" = now(),
        "presentSince" = CASE WHEN server."seenAt" BETWEEN now() - make_interval(secs => ${ABSENT_SECONDS}) AND now()
          AND server."presentSince" <= now() THEN server."presentSince" ELSE now() END`;
    await tx.$executeRaw`DELETE FROM "Server" WHERE "seenAt" < now() - interval '1 day'`;
  },

  /** A server that stops cleanly hears nobody any more. */
  leave: async (tx: Transaction, id: string): Promise<void> => {
    await tx.$executeRaw`DELETE FROM "Server" WHERE id = ${id}`;
  },

  /** Those of a registry from whose backup this one was restored. */
  forgetAll: async (tx: Transaction): Promise<void> => {
    await tx.$executeRaw`DELETE FROM "Server"`;
  },

  /**
   * Whether another server may hear workers of which the database knows nothing: it is absent, or was until so recently
   * that its workers may not have renewed their leases yet.
   */
  mayAnotherHear: async (tx: Transaction, id: string): Promise<boolean> => {
    // A server may have written in the moment after this transaction began; one whose time is later than that was
    // written before the clock was set back.
    const rows = await tx.$queryRaw<unknown[]>`
      SELECT 1 FROM "Server" WHERE id <> ${id}
        AND "seenAt" BETWEEN now() - make_interval(secs => ${DEAD_SECONDS}) AND clock_timestamp() + interval '1 second'
        AND ("seenAt" < now() - make_interval(secs => ${ABSENT_SECONDS})
          OR "presentSince" > now() - make_interval(secs => ${LEASE_SECONDS})) LIMIT 1`;
    return rows.length > 0;
  },
};
