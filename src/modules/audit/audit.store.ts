/** Audit entries in PostgreSQL. */
import type { AuditEntry, Prisma } from '../../generated/prisma/client.ts';
import { DomainError } from '../../errors.ts';
import { ADVISORY_LOCKS } from '../../platform/advisory-lock.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { EMPTY_HEAD, nextEntry, type AuditFacts, type AuditOutcome, type AuditRecord } from './audit.rules.ts';

export interface AuditFilter {
  readonly person?: string | null | undefined;
  readonly keyId?: string | null | undefined;
  readonly action?: string | null | undefined;
  readonly subject?: string | null | undefined;
  readonly outcome?: AuditOutcome | null | undefined;
  /** Inclusive. */
  readonly from?: Date | null | undefined;
  /** Exclusive. */
  readonly until?: Date | null | undefined;
}

export type AuditStore = ReturnType<typeof createAuditStore>;

export function createAuditStore(db: Database) {
  return {
    /**
     * Should be the last statement of a transaction: it blocks the entries of all other transactions until this one
     * ends.
     */
    append: async (tx: Transaction, facts: AuditFacts, at: Date): Promise<void> => {
      await tx.$executeRaw`SELECT pg_advisory_xact_lock(${ADVISORY_LOCKS.AUDIT_CHAIN})`;
      const last = await tx.auditEntry.findFirst({ orderBy: { sequence: 'desc' } });
      await tx.auditEntry.create({ data: nextEntry(last === null ? EMPTY_HEAD : toRecord(last), facts, at) });
    },

    /** Newest first. */
    list: async (page: PageArguments, { from, until, ...filter }: AuditFilter): Promise<Page<AuditRecord>> => {
      const size = pageSizeOf(page);
      const after = sequenceAfter(page);
      const equal = Object.fromEntries(Object.entries(filter).filter(([, value]) => value != null));
      const where: Prisma.AuditEntryWhereInput = {
        ...equal,
        at: { ...(from == null ? {} : { gte: from }), ...(until == null ? {} : { lt: until }) },
      };
      const rows = await db.auditEntry.findMany({
        where: after === undefined ? where : { AND: [where, { sequence: { lt: after } }] },
        orderBy: { sequence: 'desc' },
        take: size + 1,
      });
      return pageOf(
        rows.map(toRecord),
        size,
        (entry) => encodeCursor([entry.sequence]),
        after !== undefined,
        () => db.auditEntry.count({ where }),
      );
    },

    /** Entries after `sequence`, oldest first. */
    following: async (sequence: number, limit: number): Promise<AuditRecord[]> =>
      (
        await db.auditEntry.findMany({
          where: { sequence: { gt: sequence } },
          orderBy: { sequence: 'asc' },
          take: limit,
        })
      ).map(toRecord),
  };
}

function toRecord({ sequence, ...row }: AuditEntry): AuditRecord {
  return { ...row, sequence: Number(sequence) };
}

function sequenceAfter(page: PageArguments): number | undefined {
  const [sequence] = decodeCursor(page, 1) ?? [];
  if (sequence === undefined || (typeof sequence === 'number' && Number.isSafeInteger(sequence))) return sequence;
  throw new DomainError({
    code: 'CURSOR_INVALID',
    message: '`after` is not a cursor of this list.',
    field: 'after',
    hint: 'Pass pageInfo.endCursor of the previous page, with the same filter.',
  });
}
