/** GraphQL over WebSocket (protocol graphql-transport-ws), on the same port and path as over HTTP. */
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
import type { Gate } from './gate.ts';
import { checkDocument, MAX_BODY_BYTES, MAX_TOKENS } from './limits.ts';
import { isFromAnotherSite } from './other-sites.ts';
import { timeoutOf } from './permissions.ts';
import type { Timeouts } from './slow-clients.ts';

export interface SubscriptionOptions {
  readonly server: Server;
  readonly path: string;
  readonly schema: GraphQLSchema;
  readonly gate: Gate;
  /** The same as over HTTP. */
  readonly queue: FairQueue;
  /** By which browsers reached us: they let any page open a socket to any host. */
  readonly hostOf: (request: IncomingMessage) => string | undefined;
  /** A context for one operation. */
  readonly contextFor: (
    request: Pick<ApiContext, 'viewer' | 'requestId' | 'address' | 'onRefusal' | 'clientGone'>,
  ) => ApiContext;
  readonly introspection: boolean;
  readonly timeouts: Pick<Timeouts, 'requestMs' | 'pingMs' | 'recheckMs'>;
  readonly logger: Logger;
}

export interface Subscriptions {
  readonly socketCount: () => number;
  /** Closes every socket with 1001 (going away), and what does not answer by the deadline without asking. */
  close(deadlineMs: number): Promise<void>;
}

interface SocketExtra extends Record<PropertyKey, unknown> {
  /** Of connectionParams, else of the header of the HTTP request. */
  authorization?: string | undefined;
  /** Aborted when the socket closes. */
  gone?: AbortSignal | undefined;
}

/** What a client that sends no connection_init may hold. */
const INIT_TIMEOUT_MS = 10_000;
/** The close code of graphql-transport-ws for a connection that may not be. */
const FORBIDDEN = 4403;
/** Operations under way over one socket. */
export const MAX_OPERATIONS_PER_SOCKET = 50;
/** What may wait in memory for a client that does not read. */
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
    errors.map((error) => presentError(classed(error, code), error, { requestId, logger }));

  /** Contexts of operations, by themselves: graphql-ws gives them back as unknown. */
  const timed = new WeakMap<object, TimedContext>();

  const disposable = useServer<Record<string, unknown> | undefined, SocketExtra>(
    {
      schema,
      connectionInitWaitTimeout: INIT_TIMEOUT_MS,
      onConnect: async (connection) => {
        const { request, socket } = connection.extra;
        const parameter = connection.connectionParams?.authorization ?? connection.connectionParams?.Authorization;
        const authorization = typeof parameter === 'string' ? parameter : request.headers.authorization;
        const forbid = async (error: unknown): Promise<false> => {
          const requestId = randomUUID();
          await gate.report(request, requestId, error);
          // A refused key is distinguished from a fault of ours by its text; the protocol has one code for both.
          socket.close(
            FORBIDDEN,
            closeReason(presentError({ message: 'Forbidden' }, error, { requestId, logger }).message),
          );
          return false;
        };
        try {
          await gate.admit(request, authorization);
          // Gone while its key was looked up: nobody would end what begins below.
          if (socket.readyState !== socket.OPEN) return false;
          connection.extra.authorization = authorization;
          // A key that is revoked or expires takes with it what it had opened.
          const recheck = setInterval(
            () => void gate.recheck(request, authorization).catch(forbid),
            timeouts.recheckMs,
          );
          // Not onClose: that waits for every subscription of the socket to end.
          const client = new AbortController();
          connection.extra.gone = client.signal;
          socket.once('close', () => {
            clearInterval(recheck);
            client.abort();
          });
          return true;
        } catch (error) {
          return forbid(error);
        }
      },
      onSubscribe: async (connection, _id, { query, operationName, variables }) => {
        const requestId = randomUUID();
        try {
          if (Object.keys(connection.subscriptions).length > MAX_OPERATIONS_PER_SOCKET) {
            throw new DomainError({
              code: 'RATE_LIMITED',
              message: `More than ${MAX_OPERATIONS_PER_SOCKET} operations are under way over this socket.`,
              hint: 'Complete some, or open another socket.',
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
            queue.placeFor(admitted.countedAs),
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
      // Queries and mutations over the socket, in the same time as over HTTP; a subscription lasts as long as it lasts,
      // each of its events does not.
      execute: async (args: ExecutionArgs) => {
        const context =
          typeof args.contextValue === 'object' && args.contextValue !== null
            ? timed.get(args.contextValue)
            : undefined;
        const operation = getOperationAST(args.document, args.operationName);
        if (context === undefined || operation == null || operation.operation === 'subscription') return execute(args);
        const { deadline, place } = context;
        const timeoutMs = timeoutOf(operation, timeouts.requestMs);
        try {
          if (timeoutMs <= timeouts.requestMs) await place.enter();
          deadline.start(timeoutMs);
          return await beforeDeadline(execute(args), deadline);
        } catch (error) {
          if (error instanceof DomainError)
            return { errors: [new GraphQLError(error.message, { originalError: error, path: [] })] };
          throw error;
        } finally {
          deadline.end();
          place.leave();
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
    // Express sees nothing of an upgrade: what is thrown here would end the process.
    try {
      const target = URL.parse(request.url ?? '/', 'http://localhost');
      if (target === null) return refuse(socket, '400 Bad Request');
      if (target.pathname !== path) return refuse(socket, '404 Not Found');
      if (isFromAnotherSite(request, hostOf(request))) return refuse(socket, '403 Forbidden');
      sockets.handleUpgrade(request, socket, head, (webSocket) => {
        sockets.emit('connection', webSocket, request);
        // graphql-ws writes to the console what a client does wrong, and hears the first such error alone. The socket
        // has been closed by then.
        webSocket
          .removeAllListeners('error')
          .on('error', (error) => logger.debug({ err: error }, 'a socket broke off'));
      });
    } catch (error) {
      logger.error({ err: error }, 'an upgrade met an unexpected failure');
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

/** A message to a client that has gone is sent, as far as graphql-ws knows: it would write that to the console. */
class ClientSocket extends WebSocket {
  override send(message: Message, sent?: Sent): void;
  override send(message: Message, options: SendOptions, sent?: Sent): void;
  override send(message: Message, options?: SendOptions | Sent, sent?: Sent): void {
    const done = typeof options === 'function' ? options : sent;
    super.send(message, typeof options === 'object' ? options : {}, () => done?.());
  }
}

/** Destroyed once that is sent: a peer that never closes its side would hold the connection for good. */
function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}

type RequestFault = 'BAD_USER_INPUT' | 'GRAPHQL_VALIDATION_FAILED';

/**
 * Over HTTP, Apollo classes the errors that GraphQL raises before anything runs; here it is on us. They have no path,
 * and nothing but another GraphQLError (of a scalar) beneath them: over `next` they speak of variables, over `error` of
 * the document.
 */
function classed(error: GraphQLError, code: RequestFault): GraphQLFormattedError {
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

/** A close frame carries at most 123 bytes of reason. */
function closeReason(text: string): string {
  return Buffer.byteLength(text) <= 123 ? text : 'Forbidden';
}
