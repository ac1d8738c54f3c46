/** Access keys in PostgreSQL. */
import type { Database, Transaction } from '../../platform/db.ts';
import type { AccessRole } from './access.rules.ts';

export interface AccessKeyRecord {
  readonly id: string;
  readonly name: string;
  readonly role: AccessRole;
  readonly salt: string;
  readonly hash: string;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
}

/** Any number that nobody else on this database uses for an advisory lock: two servers never make two first keys. */
const FIRST_KEY_LOCK = 7_202_612;

export type AccessStore = ReturnType<typeof createAccessStore>;

export function createAccessStore(db: Database) {
  return {
    find: async (id: string): Promise<AccessKeyRecord | undefined> => (await db.accessKey.findUnique({ where: { id } })) ?? undefined,

    /** Until the transaction ends no other one passes here. */
    lockFirstKey: async (tx: Transaction): Promise<void> => {
      await tx.$executeRaw`SELECT pg_advisory_xact_lock(${FIRST_KEY_LOCK})`;
    },

    hasUsableAdmin: async (tx: Transaction, now: Date): Promise<boolean> =>
      (await tx.accessKey.count({ where: { role: 'ADMIN', revokedAt: null, OR: [{ expiresAt: null }, { expiresAt: { gt: now } }] } })) > 0,

    create: async (tx: Transaction, key: Pick<AccessKeyRecord, 'id' | 'name' | 'role' | 'salt' | 'hash'>): Promise<void> => {
      await tx.accessKey.create({ data: key });
    },

    /** Notes a use, unless one was noted after `since`. */
    touch: async (id: string, now: Date, since: Date): Promise<void> => {
      await db.accessKey.updateMany({ where: { id, OR: [{ lastUsedAt: null }, { lastUsedAt: { lt: since } }] }, data: { lastUsedAt: now } });
    },
  };
}
