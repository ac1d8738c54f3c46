/** GraphQL over WebSocket (protocol graphql-transport-ws), on the port and path of GraphQL over HTTP. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import {
  execute,
  getOperationAST,
  GraphQLError,
  parse,
  type ExecutionArgs,
  type GraphQLFormattedError,
  type GraphQLSchema,
} from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocket, WebSocketServer } from 'ws';
import type { Logger } from '../logger.ts';
import { DomainError } from '../errors.ts';
import type { ApiContext } from './context.ts';
import { beforeDeadline, createDeadline, withDeadline, type TimedContext } from './deadline.ts';
import type { FairQueue } from './fair-queue.ts';
import { presentError } from './format-error.ts';
import { isUnauthenticated, type Gate } from './gate.ts';
import { checkDocument, MAX_BODY_BYTES, MAX_TOKENS } from './limits.ts';
import { isFromAnotherSite } from './other-sites.ts';
import { timeoutOf } from './permissions.ts';
import type { Timeouts } from './slow-clients.ts';

export interface SubscriptionOptions {
  readonly server: Server;
  readonly path: string;
  readonly schema: GraphQLSchema;
  readonly gate: Gate;
  /** Shared with HTTP. */
  readonly queue: FairQueue;
  /** The host in the browser's address bar; needed because browsers let any page open a WebSocket to any host. */
  readonly hostOf: (request: IncomingMessage) => string | undefined;
  /** Makes the context of one operation. */
  readonly contextFor: (
    request: Pick<ApiContext, 'viewer' | 'requestId' | 'address' | 'onRefusal' | 'clientGone'>,
  ) => ApiContext;
  readonly introspection: boolean;
  readonly timeouts: Pick<Timeouts, 'requestMs' | 'pingMs' | 'recheckMs'>;
  readonly logger: Logger;
}

export interface Subscriptions {
  readonly socketCount: () => number;
  /** Closes every socket with 1001 (going away), and terminates those that have not closed by the deadline. */
  close(deadlineMs: number): Promise<void>;
}

interface SocketExtra extends Record<PropertyKey, unknown> {
  /** From connectionParams, or else from the header of the HTTP request. */
  authorization?: string | undefined;
  /** Aborted when the socket closes. */
  gone?: AbortSignal | undefined;
}

/** A client that sends no connection_init is disconnected after this time. */
const INIT_TIMEOUT_MS = 10_000;
/** The close code of graphql-transport-ws for a refused connection. */
const FORBIDDEN = 4403;
/** Concurrent operations over one socket. */
export const MAX_OPERATIONS_PER_SOCKET = 50;
/** Bytes buffered for a client that does not read; above it, the client is disconnected. */
const MAX_WAITING_BYTES = 8_000_000;

export function serveSubscriptions({
  server,
  path,
  schema,
  gate,
  queue,
  hostOf,
  contextFor,
  introspection,
  timeouts,
  logger,
}: SubscriptionOptions): Subscriptions {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_BODY_BYTES, WebSocket: ClientSocket });
  const present = (requestId: string, errors: readonly GraphQLError[], code: RequestFault): GraphQLFormattedError[] =>
    errors.map((error) => presentError(withErrorCode(error, code), error, { requestId, logger }));

  /** Maps each context to itself with its type, because graphql-ws returns contexts as unknown. */
  const timed = new WeakMap<object, TimedContext>();

  const disposable = useServer<Record<string, unknown> | undefined, SocketExtra>(
    {
      schema,
      connectionInitWaitTimeout: INIT_TIMEOUT_MS,
      onConnect: async (connection) => {
        const { request, socket } = connection.extra;
        const parameter = connection.connectionParams?.authorization ?? connection.connectionParams?.Authorization;
        const authorization = typeof parameter === 'string' ? parameter : request.headers.authorization;
        const refuseConnection = async (error: unknown): Promise<false> => {
          const requestId = randomUUID();
          await gate.report(request, requestId, error);
          // The protocol has one code for a refused key and for a failure of the server; the reason distinguishes them.
          socket.close(
            FORBIDDEN,
            closeReason(presentError({ message: 'Forbidden' }, error, { requestId, logger }).message),
          );
          return false;
        };
        try {
          await gate.admit(request, authorization);
          // If the socket closed while its key was checked, no event would end the timer below.
          if (socket.readyState !== socket.OPEN) return false;
          connection.extra.authorization = authorization;
          // When a key expires or is revoked, its sockets are closed.
          const recheck = setInterval(
            () =>
              void gate.recheck(request, authorization).catch(async (error: unknown) => {
                if (isUnauthenticated(error)) await refuseConnection(error);
                else logger.warn({ err: error }, 'the key of a socket could not be checked again');
              }),
            timeouts.recheckMs,
          );
          // Not onClose, which waits until every subscription of the socket has ended.
          const client = new AbortController();
          connection.extra.gone = client.signal;
          socket.once('close', () => {
            clearInterval(recheck);
            client.abort();
          });
          return true;
        } catch (error) {
          return refuseConnection(error);
        }
      },
      onSubscribe: async (connection, _id, { query, operationName, variables }) => {
        const requestId = randomUUID();
        try {
          if (Object.keys(connection.subscriptions).length > MAX_OPERATIONS_PER_SOCKET) {
            throw new DomainError({
              code: 'RATE_LIMITED',
              message: `More than ${MAX_OPERATIONS_PER_SOCKET} operations are running over this socket.`,
              hint: 'Complete some of them, or open another socket.',
            });
          }
          const admitted = await gate.admit(connection.extra.request, connection.extra.authorization);
          const document = parse(query, { maxTokens: MAX_TOKENS });
          const errors = checkDocument(schema, document, operationName, variables ?? {}, introspection);
          if (errors.length > 0) return errors;
          const deadline = createDeadline();
          const { viewer, address } = admitted;
          const contextValue = withDeadline(
            contextFor({
              viewer,
              address,
              requestId,
              onRefusal: (act, code) => gate.refused(admitted, act, code),
              clientGone: connection.extra.gone,
            }),
            deadline,
            queue.slotFor(admitted.countedAs),
          );
          timed.set(contextValue, contextValue);
          return {
            schema,
            document,
            operationName: operationName ?? null,
            variableValues: variables ?? null,
            contextValue,
          };
        } catch (error) {
          if (error instanceof GraphQLError)
            return [
              new GraphQLError(error.message, {
                source: error.source,
                positions: error.positions,
                extensions: { code: 'GRAPHQL_PARSE_FAILED' },
              }),
            ];
          if (error instanceof DomainError) return [new GraphQLError(error.message, { originalError: error })];
          throw error;
        }
      },
      // Queries, mutations and the single events of a subscription have the timeout of HTTP; a subscription as a whole
      // has none.
      execute: async (args: ExecutionArgs) => {
        const context =
          typeof args.contextValue === 'object' && args.contextValue !== null
            ? timed.get(args.contextValue)
            : undefined;
        const operation = getOperationAST(args.document, args.operationName);
        if (context === undefined || operation == null || operation.operation === 'subscription') return execute(args);
        const { deadline, slot } = context;
        const timeoutMs = timeoutOf(operation, timeouts.requestMs);
        try {
          if (timeoutMs <= timeouts.requestMs) await slot.acquire();
          deadline.start(timeoutMs);
          return await beforeDeadline(execute(args), deadline);
        } catch (error) {
          if (error instanceof DomainError)
            return { errors: [new GraphQLError(error.message, { originalError: error, path: [] })] };
          throw error;
        } finally {
          deadline.end();
          slot.release();
        }
      },
      onNext: (connection, _id, _payload, args, { errors, data, extensions }) => {
        if (connection.extra.socket.bufferedAmount > MAX_WAITING_BYTES) connection.extra.socket.terminate();
        if (errors === undefined) return;
        return {
          ...(data === undefined ? {} : { data }),
          ...(extensions === undefined ? {} : { extensions }),
          errors: present(requestIdOf(args.contextValue), errors, 'BAD_USER_INPUT'),
        };
      },
      onError: (_connection, _id, _payload, errors) => present(randomUUID(), errors, 'GRAPHQL_VALIDATION_FAILED'),
    },
    sockets,
    timeouts.pingMs,
  );

  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // Express does not handle upgrades, so an exception here would end the process.
    try {
      const target = URL.parse(request.url ?? '/', 'http://localhost');
      if (target === null) return refuse(socket, '400 Bad Request');
      if (target.pathname !== path) return refuse(socket, '404 Not Found');
      if (isFromAnotherSite(request, hostOf(request))) return refuse(socket, '403 Forbidden');
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        sockets.emit('connection', webSocket, request);
        // graphql-ws prints errors of clients to the console, and handles only the first of them. The socket is closed
        // by then, so they are only logged.
        webSocket
          .removeAllListeners('error')
          .on('error', (error) => logger.debug({ err: error }, 'the connection of a WebSocket broke'));
      });
    } catch (error) {
      logger.error({ err: error }, 'an upgrade failed unexpectedly');
      socket.destroy();
    }
  };
  server.on('upgrade', upgrade);

  return {
    socketCount: () => sockets.clients.size,
    close: async (deadlineMs) => {
      server.off('upgrade', upgrade);
      const deadline = setTimeout(() => {
        for (const client of sockets.clients) client.terminate();
      }, deadlineMs);
      await disposable.dispose();
      clearTimeout(deadline);
    },
  };
}

type Message = Parameters<WebSocket['send']>[0];
type SendOptions = Exclude<Parameters<WebSocket['send']>[1], undefined>;
type Sent = (error?: Error) => void;

/** Hides errors of sending to a disconnected client from graphql-ws, which would print them to the console. */
class ClientSocket extends WebSocket {
  override send(message: Message, sent?: Sent): void;
  override send(message: Message, options: SendOptions, sent?: Sent): void;
  override send(message: Message, options?: SendOptions | Sent, sent?: Sent): void {
    const done = typeof options === 'function' ? options : sent;
    super.send(message, typeof options === 'object' ? options : {}, () => done?.());
  }
}

/** Answers and then destroys the socket, because a client that never closes its side would keep it open forever. */
function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}

type RequestFault = 'BAD_USER_INPUT' | 'GRAPHQL_VALIDATION_FAILED';

/**
 * Adds the code of an error that GraphQL raises before execution, as Apollo does over HTTP. Such an error has no path,
 * and its originalError is at most another GraphQLError (of a scalar). In a `next` message it concerns the variables,
 * in an `error` message the document.
 */
function withErrorCode(error: GraphQLError, code: RequestFault): GraphQLFormattedError {
  const formatted = error.toJSON();
  const isOfRequest =
    error.path === undefined && (error.originalError === undefined || error.originalError instanceof GraphQLError);
  return isOfRequest && formatted.extensions?.code === undefined
    ? { ...formatted, extensions: { ...formatted.extensions, code } }
    : formatted;
}

function requestIdOf(context: unknown): string {
  return typeof context === 'object' &&
    context !== null &&
    'requestId' in context &&
    typeof context.requestId === 'string'
    ? context.requestId
    : randomUUID();
}

/** The reason in a close frame has at most 123 bytes. */
function closeReason(text: string): string {
  return Buffer.byteLength(text) <= 123 ? text : 'Forbidden';
}
