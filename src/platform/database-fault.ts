/** Distinguishes errors of an unreachable database (restart, failover, network) from errors of a statement. */
import { DomainError } from '../errors.ts';

/** Error codes of broken connections: of Prisma, of PostgreSQL (SQLSTATE), and of the operating system. */
const CODES = new RegExp(
  `^(${[
    'P1\\d{3}|P2024|P2028|P2037',
    // PostgreSQL stops, starts or fails over; a standby is not promoted yet; no connection is free.
    '57P0\\d|08\\w{3}|25006|53300',
    'ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ETIMEDOUT|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENOTFOUND|EAI_AGAIN',
    'ERR_STREAM_DESTROYED|ERR_STREAM_WRITE_AFTER_END',
  ].join('|')})$`,
);

/**
 * Messages of such errors, because some errors of the driver have no code, and Prisma puts SQLSTATEs in the message.
 */
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

/** True for a connection that was refused, broke or timed out; false for a wrong statement. */
export function isDatabaseFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return CODES.test(code) || MESSAGES.test(error.message) || isDatabaseFault(error.cause);
}

/** The error for clients while the database is unreachable. */
export function databaseUnreachable(cause: unknown): DomainError {
  return new DomainError({
    code: 'DATABASE_UNREACHABLE',
    message: 'The database does not answer at the moment.',
    hint: 'Try again in a few seconds. A change may still have been made: check before you repeat it.',
    retryable: true,
    retryAfterSeconds: 2,
    cause,
  });
}
