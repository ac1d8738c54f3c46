/** Sessions in PostgreSQL. A session that ends is deleted; an expired one may remain until the next sign-in. */
import type { Prisma } from '../../generated/prisma/client.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import {
  decodeIdCursor,
  encodeCursor,
  pageOf,
  pageSizeOf,
  type Page,
  type PageArguments,
} from '../../platform/page.ts';
import { SECRETS, type AccessKeyRecord } from './access.store.ts';

export interface SessionRecord {
  readonly id: string;
  readonly key: AccessKeyRecord;
  /** Address from which the user signed in; null if unknown. */
  readonly address: string | null;
  readonly createdAt: Date;
  readonly lastUsedAt: Date | null;
  readonly expiresAt: Date;
}

export interface SessionFilter {
  /** Owner of the key. */
  readonly owner?: string | null | undefined;
}

export interface NewSession {
  readonly keyId: string;
  readonly tokenDigest: string;
  readonly address: string | null;
  readonly expiresAt: Date;
}

export type SessionStore = ReturnType<typeof createSessionStore>;

const WITH_KEY = {
  omit: { tokenDigest: true },
  include: { key: { omit: SECRETS } },
} as const satisfies Prisma.SessionDefaultArgs;

export function createSessionStore(db: Database) {
  return {
    findByDigest: async (tokenDigest: string): Promise<SessionRecord | undefined> =>
      (await db.session.findUnique({ where: { tokenDigest }, ...WITH_KEY })) ?? undefined,

    /** Sessions that have not expired, newest first. */
    list: async (page: PageArguments, { owner }: SessionFilter, now: Date): Promise<Page<SessionRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeIdCursor(page);
      const where: Prisma.SessionWhereInput = {
        expiresAt: { gt: now },
        ...(owner == null ? {} : { key: { owner } }),
      };
      // Ids are uuid v7: newest first by id alone.
      const rows = await db.session.findMany({
        where: after === undefined ? where : { AND: [where, { id: { lt: after } }] },
        orderBy: { id: 'desc' },
        take: size + 1,
        ...WITH_KEY,
      });
      return pageOf(
        rows,
        size,
        (session) => encodeCursor([session.id]),
        after !== undefined,
        () => db.session.count({ where }),
      );
    },

    create: async (tx: Transaction, session: NewSession): Promise<SessionRecord> =>
      tx.session.create({ data: session, ...WITH_KEY }),

    removeExpired: async (tx: Transaction, now: Date): Promise<void> => {
      await tx.session.deleteMany({ where: { expiresAt: { lte: now } } });
    },

    /** Deletes all but the newest `keep` sessions of a key, so that one key cannot fill the table. */
    removeOldest: async (tx: Transaction, keyId: string, keep: number): Promise<void> => {
      const old = await tx.session.findMany({
        where: { keyId },
        orderBy: { id: 'desc' },
        skip: keep,
        select: { id: true },
      });
      if (old.length > 0) await tx.session.deleteMany({ where: { id: { in: old.map(({ id }) => id) } } });
    },

    /** Deletes a session. @returns the deleted session; undefined if there was none. */
    remove: async (
      tx: Transaction,
      where: { id: string } | { tokenDigest: string },
    ): Promise<SessionRecord | undefined> => {
      const session = await tx.session.findUnique({ where, ...WITH_KEY });
      if (session !== null) await tx.session.deleteMany({ where: { id: session.id } });
      return session ?? undefined;
    },

    removeOfKey: async (tx: Transaction, keyId: string): Promise<void> => {
      await tx.session.deleteMany({ where: { keyId } });
    },

    /** Records that the session was used, unless a use after `since` is recorded already. */
    touch: async (id: string, now: Date, since: Date): Promise<void> => {
      await db.session.updateMany({
        where: { id, OR: [{ lastUsedAt: null }, { lastUsedAt: { lt: since } }] },
        data: { lastUsedAt: now },
      });
    },
  };
}
