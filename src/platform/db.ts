/** Access to PostgreSQL for the stores. */
import { PrismaPg } from '@prisma/adapter-pg';
import { DomainError } from '../errors.ts';
import { PrismaClient } from '../generated/prisma/client.ts';
import type { Prisma } from '../generated/prisma/client.ts';
import { createStatementNames } from './statement-names.ts';

export type Database = PrismaClient;
/** A running transaction, or the database itself if a single statement is enough. */
export type Transaction = Prisma.TransactionClient;

/** Runs work in one atomic transaction. Services only pass `tx` on to stores. */
export type Transact = <Result>(work: (tx: Transaction) => Promise<Result>) => Promise<Result>;

export interface DatabaseOptions {
  readonly maxConnections: number;
  /** PostgreSQL cancels a statement that takes longer. */
  readonly statementTimeoutMs?: number;
}

export function openDatabase(url: string, options: DatabaseOptions = { maxConnections: 10 }): Database {
  const pool = {
    connectionString: url,
    max: options.maxConnections,
    ...(options.statementTimeoutMs === undefined ? {} : { statement_timeout: options.statementTimeoutMs }),
  };
  return new PrismaClient({ adapter: new PrismaPg(pool, { statementNameGenerator: createStatementNames() }) });
}

/** @returns a `Transact` with time limits that suffice on a busy two-core machine. */
export function transactionsOf(db: Database): Transact {
  return (work) =>
    db.$transaction(work, { maxWait: 15_000, timeout: 60_000 }).catch((error: unknown) => {
      throw isWithoutConnection(error) ? overloaded(error) : error;
    });
}

/** Prisma's code for a transaction that got no connection in time, among other ends of one. */
function isWithoutConnection(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    error.code === 'P2028' &&
    error.message.includes('Unable to start a transaction in the given time')
  );
}

function overloaded(cause: unknown): DomainError {
  return new DomainError({
    code: 'OVERLOADED',
    message: 'The database has no connection free.',
    hint: 'Try again in a second, and send fewer requests at once.',
    retryable: true,
    retryAfterSeconds: 1,
    cause,
  });
}

/** The version that the server reports, e.g. `18.4`. Also the cheapest query that proves that the database answers. */
export async function databaseVersion(db: Database): Promise<string> {
  const [row] = await db.$queryRaw<{ server_version: string }[]>`SHOW server_version`;
  return row?.server_version ?? 'unknown';
}
