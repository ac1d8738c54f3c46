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

/** Runs the work, and may run it again after a fault of the database, so the work must be idempotent. */
export type Persist = <Result>(work: () => Promise<Result>) => Promise<Result>;

export interface DatabaseOptions {
  readonly maxConnections: number;
  /** PostgreSQL cancels a statement that takes longer. */
  readonly statementTimeoutMs?: number;
  /**
   * A statement or a new connection that gets no answer for this long fails, and its connection is closed. Otherwise,
   * after a failover that closed no connections, a statement would wait for the kernel's timeout of a quarter of an
   * hour. Default: a little longer than statementTimeoutMs; without one there is no limit.
   */
  readonly silenceTimeoutMs?: number;
  /** Wraps each statement outside a transaction, for example to retry it. Default: the statement is sent once. */
  readonly persist?: Persist;
}

/** PostgreSQL's own limit comes first, because its error says more. */
const ANSWER_MARGIN_MS = 5_000;

/** @returns a client that opens its connections when they are first needed; the caller disconnects it. */
export function openDatabase(url: string, options: DatabaseOptions = { maxConnections: 10 }): Database {
  const { maxConnections, statementTimeoutMs, persist = once } = options;
  const silenceTimeoutMs =
    options.silenceTimeoutMs ?? (statementTimeoutMs === undefined ? undefined : statementTimeoutMs + ANSWER_MARGIN_MS);
  const pool = {
    connectionString: url,
    max: maxConnections,
    keepAlive: true,
    ...(statementTimeoutMs === undefined ? {} : { statement_timeout: statementTimeoutMs }),
    ...(silenceTimeoutMs === undefined
      ? {}
      : { query_timeout: silenceTimeoutMs, connectionTimeoutMillis: silenceTimeoutMs }),
  };
  const factory = new PrismaPg(pool, { statementNameGenerator: createStatementNames() });
  const { provider, adapterName } = factory;
  return new PrismaClient({
    adapter: { provider, adapterName, connect: async () => persistent(await factory.connect(), persist) },
  });
}

const once: Persist = (work) => work();

type Adapter = Awaited<ReturnType<PrismaPg['connect']>>;

/**
 * Passes each statement outside a transaction to `persist`. The statements of a transaction are left alone: after one
 * has failed, only the whole transaction can be retried.
 */
function persistent(adapter: Adapter, persist: Persist): Adapter {
  const { queryRaw, executeRaw } = adapter;
  return Object.assign(adapter, {
    queryRaw: (query: Parameters<Adapter['queryRaw']>[0]) => persist(() => queryRaw.call(adapter, query)),
    executeRaw: (query: Parameters<Adapter['executeRaw']>[0]) => persist(() => executeRaw.call(adapter, query)),
  });
}

/**
 * @param persist wraps each transaction as a whole. Default: it runs once.
 * @returns a `Transact` with time limits that suffice on a busy two-core machine.
 */
export function transactionsOf(db: Database, persist: Persist = once): Transact {
  return (work) =>
    persist(() => db.$transaction(work, { maxWait: 15_000, timeout: 60_000 })).catch((error: unknown) => {
      throw isWithoutConnection(error) ? overloaded(error) : error;
    });
}

/** Whether a transaction got no connection in time; Prisma's code P2028 also stands for other failures. */
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
    message: 'The database has no free connection.',
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
