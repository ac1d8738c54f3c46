/** Tells a database that is away (restarting, failing over, cut off) from a statement that it refuses. */
import { DomainError } from '../errors.ts';

/** Prisma's codes for a connection, PostgreSQL's SQLSTATEs, and those of the operating system. */
const CODES = new RegExp(
  `^(${[
    'P1\\d{3}|P2024|P2028|P2037',
    // PostgreSQL stops, starts or fails over; a standby that is not promoted yet; no connection is left.
    '57P0\\d|08\\w{3}|25006|53300',
    'ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ETIMEDOUT|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENOTFOUND|EAI_AGAIN',
    'ERR_STREAM_DESTROYED|ERR_STREAM_WRITE_AFTER_END',
  ].join('|')})$`,
);

/** The driver gives some of its errors no code, and Prisma repeats SQLSTATEs only in the message. */
const MESSAGES = new RegExp(
  [
    'Connection terminated|terminating connection|server closed the connection|is not queryable',
    'the database system is (starting up|shutting down|in recovery|not (yet )?accepting connections)',
    'cannot execute [A-Z ]+ in a read-only transaction',
    'Query read timeout|timeout exceeded when trying to connect|timeout expired',
    "Can't reach database server|ECONNREFUSED|ECONNRESET",
    '^(DatabaseNotReachable|ConnectionClosed|SocketTimeout|TooManyConnections)$',
  ].join('|'),
  'i',
);

/** True for a connection that was refused, broke or fell silent, not for a statement that was wrong. */
export function isDatabaseFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return CODES.test(code) || MESSAGES.test(error.message) || isDatabaseFault(error.cause);
}

/** What a client is told meanwhile. */
export function databaseUnreachable(cause: unknown): DomainError {
  return new DomainError({
    code: 'DATABASE_UNREACHABLE',
    message: 'The database does not answer at the moment.',
    hint: 'Ask again in a few seconds. A change may still have been made: check before you repeat it.',
    retryable: true,
    retryAfterSeconds: 2,
    cause,
  });
}
