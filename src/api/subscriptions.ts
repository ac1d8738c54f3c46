/** GraphQL over WebSocket (protocol graphql-transport-ws), on the same port and path as over HTTP. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { GraphQLError, parse, type GraphQLFormattedError, type GraphQLSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import type { Logger } from '../logger.ts';
import type { Viewer } from '../modules/access/index.ts';
import { presentError } from './format-error.ts';
import { checkDocument, MAX_BODY_BYTES, MAX_TOKENS } from './limits.ts';

export interface SubscriptionOptions {
  readonly server: Server;
  readonly path: string;
  readonly schema: GraphQLSchema;
  /** `authorization` from the socket's connectionParams, else from the header of its HTTP request. */
  readonly viewerOf: (request: IncomingMessage, authorization: string | undefined) => Promise<Viewer>;
  /** A context for one operation. */
  readonly contextFor: (request: { readonly viewer: Viewer; readonly requestId: string }) => object;
  readonly logger: Logger;
}

export interface Subscriptions {
  readonly socketCount: () => number;
  /** Closes every socket with 1001 (going away), and what does not answer by the deadline without asking. */
  close(deadlineMs: number): Promise<void>;
}

interface SocketExtra extends Record<PropertyKey, unknown> {
  viewer?: Viewer;
}

/** What a client that sends no connection_init may hold. */
const INIT_TIMEOUT_MS = 10_000;
/** The close code of graphql-transport-ws for a connection that may not be. */
const FORBIDDEN = 4403;

export function serveSubscriptions({ server, path, schema, viewerOf, contextFor, logger }: SubscriptionOptions): Subscriptions {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_BODY_BYTES });
  const present = (requestId: string, errors: readonly GraphQLError[], code: RequestFault): GraphQLFormattedError[] =>
    errors.map((error) => presentError(classed(error, code), error, { requestId, logger }));

  const disposable = useServer<Record<string, unknown> | undefined, SocketExtra>(
    {
      schema,
      connectionInitWaitTimeout: INIT_TIMEOUT_MS,
      onConnect: async (connection) => {
        const { request, socket } = connection.extra;
        const parameter = connection.connectionParams?.authorization ?? connection.connectionParams?.Authorization;
        const authorization = typeof parameter === 'string' ? parameter : request.headers.authorization;
        try {
          connection.extra.viewer = await viewerOf(request, authorization);
          return true;
        } catch (error) {
          // A refused key is told apart from a fault of ours by its text; the protocol has one code for both.
          socket.close(FORBIDDEN, closeReason(presentError({ message: 'Forbidden' }, error, { requestId: randomUUID(), logger }).message));
          return false;
        }
      },
      onSubscribe: (connection, _id, { query, operationName, variables }) => {
        const requestId = randomUUID();
        const contextValue = contextFor({ viewer: connection.extra.viewer ?? { kind: 'ANONYMOUS', mayRead: false }, requestId });
        try {
          const document = parse(query, { maxTokens: MAX_TOKENS });
          const errors = checkDocument(schema, document, operationName, variables ?? {});
          if (errors.length > 0) return errors;
          return { schema, document, operationName: operationName ?? null, variableValues: variables ?? null, contextValue };
        } catch (error) {
          if (error instanceof GraphQLError) return [new GraphQLError(error.message, { source: error.source, positions: error.positions, extensions: { code: 'GRAPHQL_PARSE_FAILED' } })];
          throw error;
        }
      },
      onNext: (_connection, _id, _payload, args, { errors, data, extensions }) => {
        if (errors === undefined) return;
        return { ...(data === undefined ? {} : { data }), ...(extensions === undefined ? {} : { extensions }), errors: present(requestIdOf(args.contextValue), errors, 'BAD_USER_INPUT') };
      },
      onError: (_connection, _id, _payload, errors) => present(randomUUID(), errors, 'GRAPHQL_VALIDATION_FAILED'),
    },
    sockets,
  );

  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    if (new URL(request.url ?? '/', 'http://localhost').pathname !== path) return refuse(socket, '404 Not Found');
    if (!isSameOrigin(request)) return refuse(socket, '403 Forbidden');
    sockets.handleUpgrade(request, socket, head, (webSocket) => sockets.emit('connection', webSocket, request));
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

/** Browsers let any page open a socket to any host, and send its Origin: only our own pages may. Other clients send none. */
function isSameOrigin(request: IncomingMessage): boolean {
  const { origin, host } = request.headers;
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

type RequestFault = 'BAD_USER_INPUT' | 'GRAPHQL_VALIDATION_FAILED';

/**
 * Over HTTP, Apollo classes the errors that GraphQL raises before anything runs; here it is on us. They have no path, and nothing but
 * another GraphQLError (of a scalar) beneath them: over `next` they speak of variables, over `error` of the document.
 */
function classed(error: GraphQLError, code: RequestFault): GraphQLFormattedError {
  const formatted = error.toJSON();
  const isOfRequest = error.path === undefined && (error.originalError === undefined || error.originalError instanceof GraphQLError);
  return isOfRequest && formatted.extensions?.code === undefined ? { ...formatted, extensions: { ...formatted.extensions, code } } : formatted;
}

function requestIdOf(context: unknown): string {
  return typeof context === 'object' && context !== null && 'requestId' in context && typeof context.requestId === 'string' ? context.requestId : randomUUID();
}

/** A close frame carries at most 123 bytes of reason. */
function closeReason(text: string): string {
  return Buffer.byteLength(text) <= 123 ? text : 'Forbidden';
}
