/** Formats errors for clients: a code, a sentence and a request id, never a stack or an internal message. */
import { GraphQLError, type GraphQLFormattedError } from 'graphql';
import { DomainError, type ErrorCode } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { databaseUnreachable, isDatabaseFault } from '../platform/database-fault.ts';

/** Codes of errors in the request itself, whose messages are written for clients and shown unchanged. */
const REQUEST_FAULTS: ReadonlySet<unknown> = new Set([
  'GRAPHQL_PARSE_FAILED',
  'GRAPHQL_VALIDATION_FAILED',
  'OPERATION_RESOLUTION_FAILURE',
  'OPERATION_TOO_LARGE',
  'BAD_USER_INPUT',
  'BAD_REQUEST',
  'PERSISTED_QUERY_NOT_FOUND',
  'PERSISTED_QUERY_NOT_SUPPORTED',
]);

/** GraphQL repeats a wrong value in its message, which may be a megabyte. */
const MESSAGE_LENGTH_MAX = 1000;

export interface FailureContext {
  readonly requestId: string;
  readonly logger: Logger;
}

/**
 * Formats one error of an operation.
 * @param formatted message, path and locations of the error, with the extensions.code of Apollo or graphql-ws.
 * @param error the thrown value. A DomainError is shown, and an unreachable database is answered as
 * DATABASE_UNREACHABLE; any other error is logged whole and answered as INTERNAL.
 */
export function presentError(
  formatted: GraphQLFormattedError,
  error: unknown,
  { requestId, logger }: FailureContext,
): GraphQLFormattedError {
  const { locations, path } = formatted;
  const place = { ...(locations === undefined ? {} : { locations }), ...(path === undefined ? {} : { path }) };
  const thrown = expectedFrom(error instanceof GraphQLError ? (error.originalError ?? error) : error, logger);
  if (thrown instanceof DomainError) {
    return { message: thrown.message, ...place, extensions: { ...factsOf(thrown), requestId } };
  }
  const code = isTooManyVariableFaults(thrown) ? 'BAD_USER_INPUT' : formatted.extensions?.code;
  if (REQUEST_FAULTS.has(code)) {
    return { message: shortened(formatted.message), ...place, extensions: { code, requestId } };
  }
  logger.error({ err: thrown, requestId, path }, 'A request failed unexpectedly');
  return { message: INTERNAL.message, ...place, extensions: { code: INTERNAL.code, hint: INTERNAL.hint, requestId } };
}

/** A database that restarts or fails over is an expected failure: the client may retry. */
function expectedFrom(error: unknown, logger: Logger): unknown {
  if (error instanceof DomainError || !isDatabaseFault(error)) return error;
  logger.warn({ err: error }, 'the database does not answer');
  return databaseUnreachable(error);
}

/** The error with which GraphQL ends a long list of invalid variables, which Apollo would answer as INTERNAL. */
function isTooManyVariableFaults(thrown: unknown): boolean {
  return thrown instanceof GraphQLError && thrown.message.startsWith('Too many errors processing variables');
}

export interface FailureFacts {
  readonly code: ErrorCode;
  readonly field?: string;
  readonly hint?: string;
  readonly retryable?: true;
}

function factsOf(error: DomainError): FailureFacts {
  return {
    code: error.code,
    ...(error.field === undefined ? {} : { field: error.field }),
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.retryable ? { retryable: true as const } : {}),
  };
}

const INTERNAL = {
  code: 'INTERNAL',
  message: 'Something went wrong on the server.',
  hint: 'Search the log of the server for this requestId.',
} as const;

/** A failed answer outside GraphQL. */
export interface HttpFailure {
  readonly status: number;
  readonly retryAfterSeconds?: number | undefined;
  readonly body: FailureFacts & { readonly message: string; readonly requestId: string };
}

/** As `presentError`, for the routes outside GraphQL. */
export function httpFailure(thrown: unknown, { requestId, logger }: FailureContext): HttpFailure {
  const error = expectedFrom(thrown, logger);
  if (error instanceof DomainError)
    return {
      status: httpStatusOf(error.code),
      retryAfterSeconds: error.retryAfterSeconds,
      body: { ...factsOf(error), message: error.message, requestId },
    };
  logger.error({ err: error, requestId }, 'A request failed unexpectedly');
  return { status: 500, body: { ...INTERNAL, requestId } };
}

/** The HTTP status of an answer that consists of this error. */
export function httpStatusOf(code: ErrorCode): number {
  if (code === 'PRECONDITION_FAILED') return 412;
  if (code.startsWith('STORE_')) return 503;
  if (code === 'RANGE_NOT_SATISFIABLE') return 416;
  if (code === 'EXPORT_CHECK_FAILED') return 409;
  if (code === 'EXPORT_FAILED') return 502;
  if (code === 'EXPORT_PENDING' || code === 'ENGINE_MISSING' || code === 'WORKER_MISSING') return 503;
  if (code === 'UNAUTHENTICATED') return 401;
  if (code === 'FORBIDDEN' || code === 'ORIGIN_NOT_ALLOWED') return 403;
  if (code === 'FILE_TOO_LARGE') return 413;
  if (code === 'TOO_MANY_UPLOADS') return 429;
  if (code === 'STORAGE_FULL') return 507;
  if (code === 'RATE_LIMITED') return 429;
  if (code === 'TIMED_OUT' || code === 'OVERLOADED' || code === 'DATABASE_UNREACHABLE') return 503;
  if (code === 'INTERNAL' || code === 'ARTIFACT_CORRUPT') return 500;
  if (
    code.endsWith('NOT_FOUND') ||
    code === 'FORMAT_NOT_AVAILABLE' ||
    code === 'SLIDE_UNAVAILABLE' ||
    code === 'CHECKPOINT_NOT_DOWNLOADABLE'
  )
    return 404;
  return 400;
}

function shortened(message: string): string {
  return message.length <= MESSAGE_LENGTH_MAX ? message : `${message.slice(0, MESSAGE_LENGTH_MAX)}…`;
}
