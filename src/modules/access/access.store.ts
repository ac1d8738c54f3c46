/** Access keys in PostgreSQL. */
import type { Prisma } from '../../generated/prisma/client.ts';
import { ADVISORY_LOCKS } from '../../platform/advisory-lock.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import {
  decodeIdCursor,
  encodeCursor,
  pageOf,
  pageSizeOf,
  type Page,
  type PageArguments,
} from '../../platform/page.ts';
import type { KeyFacts } from './access.rules.ts';

/** A key without its secrets. */
export interface AccessKeyRecord extends KeyFacts {
  readonly createdAt: Date;
  readonly lastUsedAt: Date | null;
}

/** A key with the salt and hash that its secret is checked against. */
export interface StoredKeyRecord extends AccessKeyRecord {
  readonly salt: string;
  readonly hash: string;
}

export type NewKey = Omit<StoredKeyRecord, 'id' | 'createdAt' | 'lastUsedAt' | 'revokedAt'>;

export interface KeyFilter {
  readonly owner?: string | null | undefined;
  /** True selects keys that are neither revoked nor expired, false the others. */
  readonly usable?: boolean | null | undefined;
}

/** Columns that no query for users may select. */
export const SECRETS = { salt: true, hash: true } as const;

export type AccessStore = ReturnType<typeof createAccessStore>;

export function createAccessStore(db: Database) {
  return {
    findStored: async (id: string): Promise<StoredKeyRecord | undefined> =>
      (await db.accessKey.findUnique({ where: { id } })) ?? undefined,

    find: async (tx: Transaction, id: string): Promise<AccessKeyRecord | undefined> =>
      (await tx.accessKey.findUnique({ where: { id }, omit: SECRETS })) ?? undefined,

    /** Newest first. */
    list: async (page: PageArguments, filter: KeyFilter, now: Date): Promise<Page<AccessKeyRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeIdCursor(page);
      const usable = usableAt(now);
      const where: Prisma.AccessKeyWhereInput = {
        ...(filter.owner == null ? {} : { owner: filter.owner }),
        ...(filter.usable == null ? {} : filter.usable ? usable : { NOT: usable }),
      };
      // Ids are uuid v7: newest first by id alone.
      const rows = await db.accessKey.findMany({
        where: after === undefined ? where : { AND: [where, { id: { lt: after } }] },
        orderBy: { id: 'desc' },
        take: size + 1,
        omit: SECRETS,
      });
      return pageOf(
        rows,
        size,
        (key) => encodeCursor([key.id]),
        after !== undefined,
        () => db.accessKey.count({ where }),
      );
    },

    /** Takes a lock that other transactions wait for until this one ends. */
    lockAdminKeys: async (tx: Transaction): Promise<void> => {
      await tx.$executeRaw`SELECT pg_advisory_xact_lock(${ADVISORY_LOCKS.ADMIN_KEYS})`;
    },

    /** Whether a key other than `exceptId` may administer this registry. */
    hasUsableAdmin: async (tx: Transaction, now: Date, exceptId?: string): Promise<boolean> => {
      const mayAdminister: Prisma.AccessKeyWhereInput = {
        role: 'ADMIN',
        resources: { isEmpty: true },
        OR: [{ actions: { isEmpty: true } }, { actions: { has: 'ADMINISTER' } }],
      };
      return (
        (await tx.accessKey.count({
          where: { AND: [mayAdminister, usableAt(now)], ...(exceptId === undefined ? {} : { NOT: { id: exceptId } }) },
        })) > 0
      );
    },

    create: async (tx: Transaction, { actions, resources, ...key }: NewKey): Promise<AccessKeyRecord> =>
      tx.accessKey.create({ data: { ...key, actions: [...actions], resources: [...resources] }, omit: SECRETS }),

    revoke: async (tx: Transaction, id: string, now: Date): Promise<AccessKeyRecord> =>
      tx.accessKey.update({ where: { id }, data: { revokedAt: now }, omit: SECRETS }),

    /** Records that the key was used, unless a use after `since` is recorded already. */
    touch: async (id: string, now: Date, since: Date): Promise<void> => {
      await db.accessKey.updateMany({
        where: { id, OR: [{ lastUsedAt: null }, { lastUsedAt: { lt: since } }] },
        data: { lastUsedAt: now },
      });
    },
  };
}

function usableAt(now: Date): Prisma.AccessKeyWhereInput {
  return { revokedAt: null, OR: [{ expiresAt: null }, { expiresAt: { gt: now } }] };
}
