/** The HTTP server: GraphQL, uploads, downloads, pages, health and metrics on one port. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { hostname } from 'node:os';
import { ApolloServer, HeaderMap } from '@apollo/server';
import {
  ApolloServerPluginCacheControlDisabled,
  ApolloServerPluginLandingPageDisabled,
} from '@apollo/server/plugin/disabled';
import { expressMiddleware } from '@as-integrations/express5';
import express, {
  type ErrorRequestHandler,
  type Express,
  type Request,
  type RequestHandler,
  type Response,
} from 'express';
import { GraphQLError, type GraphQLSchema } from 'graphql';
import { DomainError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { authorise, type AccessService, type Viewer } from '../modules/access/index.ts';
import type { ApiContext, Services } from './context.ts';
import { createDeadline, withDeadline, type TimedContext } from './deadline.ts';
import type { UploadStore } from '../platform/upload-store.ts';
import { createCards } from './cards.ts';
import { createDownloads, type DownloadSources } from './downloads.ts';
import { createFairQueue, DEFAULT_QUEUE_LIMITS, type FairQueue, type FairQueueLimits } from './fair-queue.ts';
import { httpFailure, httpStatusOf, presentError } from './format-error.ts';
import { createGate, type Admitted, type Gate, type RunAdmitted } from './gate.ts';
import { boundsOfText, checkCost, MAX_BODY_BYTES, MAX_TOKENS } from './limits.ts';
import { createMetrics } from './metrics.ts';
import { createPages } from './pages.ts';
import { refuseOtherSites } from './other-sites.ts';
import { timeoutOf } from './permissions.ts';
import { DEFAULT_RATE_LIMITS, type RateLimits } from './rate-limit.ts';
import type { Sender } from './sender.ts';
import { limitConnections, DEFAULT_TIMEOUTS, receiveWithin, type Timeouts } from './slow-clients.ts';
import { createSessionCookie } from './session-cookie.ts';
import { createSessions } from './sessions.ts';
import { createSlideTiles } from './slide-tiles.ts';
import { serveSubscriptions } from './subscriptions.ts';
import { createUploads } from './uploads.ts';
import { createWorkerProtocol, type WorkerProtocolOptions } from './worker-protocol.ts';
import { WELCOME_PAGE } from './welcome-page.ts';

export interface HttpServerOptions {
  readonly schema: GraphQLSchema;
  /** Makes the context of one operation. */
  readonly contextFor: ContextMaker;
  readonly access: Pick<AccessService, 'viewerOf' | 'sessions'>;
  /** Address, host and scheme from which a request was sent. */
  readonly senderOf: (request: IncomingMessage) => Sender;
  readonly services: Pick<
    Services,
    'artifacts' | 'audit' | 'cards' | 'datasets' | 'embeddings' | 'exports' | 'slideTiles'
  >;
  readonly artifacts: WorkerProtocolOptions['artifacts'];
  /** What workers ask; undefined: this server has none. */
  readonly workers?: Pick<WorkerProtocolOptions, 'desk' | 'ownWorkerKey'>;
  /** True: large files are redirected to the artifact store, if it can make links. */
  readonly redirectDownloads?: boolean;
  readonly uploads: UploadStore;
  /** False or a rejection: the server answers requests but cannot do its work. */
  readonly isReady: () => Promise<boolean>;
  /** Runs by status, for the metrics. */
  readonly runCounts: () => Promise<Readonly<Record<string, number>>>;
  readonly logger: Logger;
  /** Folder of the built pages; without it, / shows how to use the API. */
  readonly pagesDir?: string;
  readonly stallTimeoutMs?: number;
  /** Whether introspection is allowed. Default true. */
  readonly introspection?: boolean;
  /** Whether pages are served at /. Default true. */
  readonly landingPage?: boolean;
  readonly rateLimits?: RateLimits;
  readonly queueLimits?: FairQueueLimits;
  /** Base of the URLs in model and dataset cards, without a final slash. Default: the address that it listens on. */
  readonly publicUrl?: string | undefined;
  readonly timeouts?: Timeouts;
}

/** Makes the context of one operation. */
export type ContextMaker = (
  request: Pick<ApiContext, 'viewer' | 'requestId' | 'address' | 'onRefusal' | 'clientGone'>,
) => ApiContext;

export interface HttpServer {
  readonly app: Express;
  readonly server: Server;
  /** @param address port 0 selects a free port. @returns the port that is used. Rejects if the port is in use. */
  listen(address: {
    readonly host: string;
    readonly port: number;
  }): Promise<{ readonly port: number; readonly url: string }>;
  /**
   * Accepts no more connections, closes WebSockets with 1001, waits for open requests until the deadline, then closes
   * their connections. Safe to call twice.
   */
  drain(deadlineMs: number): Promise<void>;
}

/** The id of the current request, which Apollo does not pass to `formatError` for its earliest errors. */
const currentRequest = new AsyncLocalStorage<string>();

const GRAPHQL_PATH = '/graphql';
/** A readiness check must answer even if the database hangs. */
const READY_TIMEOUT_MS = 2_000;

export function createHttpServer(options: HttpServerOptions): HttpServer {
  const { schema, contextFor, logger } = options;
  const metrics = createMetrics(options.runCounts);
  const app = express();
  const timeouts = options.timeouts ?? DEFAULT_TIMEOUTS;
  const introspection = options.introspection ?? true;
  // requestTimeout is off because an upload may take hours; receiveWithin limits the time of bodies instead.
  const server = createServer(
    {
      headersTimeout: timeouts.headersMs,
      requestTimeout: 0,
      keepAliveTimeout: timeouts.idleMs,
      connectionsCheckingInterval: Math.min(1_000, timeouts.headersMs / 2),
    },
    app,
  );
  limitConnections(server);
  const cookie = createSessionCookie(options.senderOf);
  const gate = createGate({
    access: options.access,
    cookie,
    senderOf: options.senderOf,
    audit: options.services.audit,
    limits: options.rateLimits ?? DEFAULT_RATE_LIMITS,
    logger,
  });
  const queue = createFairQueue(options.queueLimits ?? DEFAULT_QUEUE_LIMITS);
  let draining: Promise<void> | undefined;
  let ownUrl = '';

  const hostOf = (request: IncomingMessage): string | undefined => options.senderOf(request).host;
  const viewerOfRequest = async (request: IncomingMessage): Promise<Viewer> => (await gate.admit(request)).viewer;
  const runAdmitted: RunAdmitted = async (request, work) => {
    const admitted = await gate.admit(request);
    const slot = queue.slotFor(admitted.countedAs);
    await slot.acquire();
    try {
      return await work(admitted, slot.release);
    } finally {
      slot.release();
    }
  };

  const apollo = new ApolloServer<TimedContext>({
    schema,
    introspection,
    csrfPrevention: true,
    allowBatchedHttpRequests: false,
    persistedQueries: false,
    includeStacktraceInErrorResponses: false,
    stopOnTerminationSignals: false,
    parseOptions: { maxTokens: MAX_TOKENS },
    logger,
    formatError: (formatted, error) =>
      presentError(formatted, error, { requestId: currentRequest.getStore() ?? 'unknown', logger }),
    plugins: [
      // Apollo's landing page loads scripts from other hosts.
      ApolloServerPluginLandingPageDisabled(),
      // The cache-control plugin wraps every resolver to collect hints that this schema never gives.
      ApolloServerPluginCacheControlDisabled(),
      {
        requestDidStart: async () => ({
          didResolveOperation: async ({ document, request, operation, contextValue }) => {
            const [error] = checkCost(schema, document, request.operationName, request.variables ?? {});
            if (error !== undefined) throw error;
            if (operation === undefined) return;
            const timeoutMs = timeoutOf(operation, timeouts.requestMs);
            // An operation that may take an hour waits for something other than the database, so it takes no slot.
            if (timeoutMs <= timeouts.requestMs) await contextValue.slot.acquire().catch(asHttpError);
            contextValue.deadline.start(timeoutMs);
          },
          willSendResponse: async ({ contextValue }) => {
            contextValue.deadline.end();
            contextValue.slot.release();
          },
        }),
      },
    ],
  });
  apollo.startInBackgroundHandlingStartupErrorsByLoggingAndFailingAllRequests();

  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  app.use(logStreamErrors(logger), assignRequestId, metrics.measure, setSecurityHeaders);
  app.use((_request, response, next) => {
    // A connection that was busy when draining began is closed after its last answer.
    response.once('close', () => draining !== undefined && setImmediate(() => server.closeIdleConnections()));
    next();
  });
  app.use(receiveWithin(timeouts), refuseOtherSites(hostOf));
  app.get('/healthz', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/readyz', async (_request, response) => {
    const answers = await within(READY_TIMEOUT_MS, options.isReady()).catch(() => false);
    const status = draining !== undefined ? 'draining' : answers ? 'ready' : 'not ready';
    response.status(status === 'ready' ? 200 : 503).json({ status });
  });
  app.get('/metrics', async (request, response) => {
    const text = await runAdmitted(request, ({ viewer }) => {
      authorise(viewer, 'READER', 'READ');
      return metrics.text();
    });
    response.type(metrics.contentType).send(text);
  });
  app.use(GRAPHQL_PATH, graphqlOverHttp(options, apollo, gate, queue));
  app.use(createSessions({ sessions: options.access.sessions, audit: options.services.audit, cookie, runAdmitted }));
  if (options.workers !== undefined)
    app.use(
      createWorkerProtocol({
        ...options.workers,
        artifacts: options.artifacts,
        uploads: options.uploads,
        redirects: options.redirectDownloads ?? false,
        reportDamage: (sha256) => options.services.artifacts.reportDamage(sha256),
        runAdmitted,
      }),
    );
  app.use(
    createUploads({
      uploads: options.uploads,
      viewerOf: viewerOfRequest,
      leaseOfToken: options.workers?.desk.leaseOfToken,
      logger,
    }),
  );
  app.use(
    createCards({
      cards: options.services.cards,
      runAdmitted,
      publicUrl: () => options.publicUrl ?? ownUrl,
    }),
  );
  app.use(
    createDownloads({
      sources: sourcesOf(options),
      runAdmitted,
      ...(options.stallTimeoutMs === undefined ? {} : { stallTimeoutMs: options.stallTimeoutMs }),
    }),
  );
  app.use(createSlideTiles({ slideTiles: options.services.slideTiles, runAdmitted }));
  if (options.landingPage ?? true) {
    const pages = options.pagesDir === undefined ? undefined : createPages(options.pagesDir);
    if (pages !== undefined) app.use(pages);
    app.get('/', (_request, response) => {
      response.type('html').send(WELCOME_PAGE);
    });
  }
  app.use((request) => {
    throw new DomainError({
      code: 'NOT_FOUND',
      message: `The path ${request.path.slice(0, 200)} does not exist.`,
      hint: 'Open / for the addresses of this server.',
    });
  });
  app.use(answerFailure(gate, logger));

  const subscriptions = serveSubscriptions({
    server,
    path: GRAPHQL_PATH,
    schema,
    gate,
    queue,
    hostOf,
    contextFor,
    introspection,
    timeouts,
    logger,
  });

  return {
    app,
    server,
    listen: ({ host, port }) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, host, () => {
          server.off('error', reject);
          // Raised when one connection cannot be accepted, e.g. without free file descriptors; later ones may succeed.
          server.on('error', (error) => logger.error({ err: error }, 'a connection could not be accepted'));
          const address = server.address();
          const boundPort = typeof address === 'object' && address !== null ? address.port : port;
          const url = (name: string): string => `http://${name.includes(':') ? `[${name}]` : name}:${boundPort}`;
          // 0.0.0.0 and :: mean "every address of this machine", to which a client cannot connect.
          ownUrl = url(['0.0.0.0', '::'].includes(host) ? hostname() : host);
          resolve({ port: boundPort, url: url(host) });
        });
      }),
    drain: (deadlineMs) => {
      draining ??= (async () => {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        const deadline = setTimeout(() => server.closeAllConnections(), deadlineMs);
        await subscriptions.close(deadlineMs);
        await closed;
        clearTimeout(deadline);
        await apollo.stop();
      })();
      return draining;
    },
  };
}

/** Authenticates before GraphQL begins, so that a wrong key is answered with 401 instead of errors in every field. */
function graphqlOverHttp(
  { contextFor, logger }: HttpServerOptions,
  apollo: ApolloServer<TimedContext>,
  gate: Gate,
  queue: FairQueue,
): RequestHandler[] {
  const admitted = new WeakMap<IncomingMessage, Admitted>();
  const authenticate: RequestHandler = async (request, _response, next) => {
    admitted.set(request, await gate.admit(request));
    next();
  };
  const setRequestId: RequestHandler = (_request, response, next) => currentRequest.run(requestIdOf(response), next);
  const fail = (error: unknown, response: Response): void => {
    // The request was answered already, after a timeout, or the client has disconnected.
    if (response.headersSent) return;
    const { status, body } = failureOf(error, response, logger);
    const { message, ...extensions } = body;
    response.status(status).json({ errors: [{ message, extensions }] });
  };
  const execute = expressMiddleware(apollo, {
    context: async ({ req, res }) => {
      const sender = admitted.get(req);
      if (sender === undefined) throw new Error('A request reached GraphQL without being admitted.');
      const deadline = createDeadline();
      deadline.signal.addEventListener('abort', () => fail(deadline.signal.reason, res), { once: true });
      const client = new AbortController();
      res.once('close', () => {
        deadline.end();
        if (!res.writableEnded) client.abort();
      });
      const slot = queue.slotFor(sender.countedAs);
      res.once('close', slot.release);
      const { viewer, address } = sender;
      return withDeadline(
        contextFor({
          viewer,
          address,
          requestId: requestIdOf(res),
          onRefusal: (act, code) => gate.refused(sender, act, code),
          clientGone: client.signal,
        }),
        deadline,
        slot,
      );
    },
  });
  // Runs before Apollo, whose first hook comes only after the document was validated, which can take long.
  const checkBounds: RequestHandler = (request, response, next) => {
    const body: unknown = request.body;
    const text = typeof body === 'object' && body !== null && 'query' in body ? body.query : request.query['query'];
    const error = typeof text === 'string' ? boundsOfText(text) : undefined;
    if (error === undefined) next();
    else
      response.status(400).json({
        errors: [presentError(error.toJSON(), error, { requestId: requestIdOf(response), logger })],
      });
  };
  const answer: ErrorRequestHandler = async (error: unknown, request, response, _next) => {
    await gate.report(request, requestIdOf(response), error);
    fail(error, response);
  };
  const router = express.Router();
  router.use(authenticate, express.json({ limit: MAX_BODY_BYTES }), checkBounds, setRequestId, execute, answer);
  return [router];
}

function sourcesOf({ services, artifacts, redirectDownloads = false, logger }: HttpServerOptions): DownloadSources {
  const artifactOrThrow = async (viewer: Viewer, sha256: string) => {
    const artifact = await services.artifacts.get(viewer, sha256);
    if (artifact !== undefined) return artifact;
    throw new DomainError({
      code: 'ARTIFACT_NOT_FOUND',
      message: 'No artifact has this sha256.',
      field: 'sha256',
      hint: 'Use a sha256 from an answer of the API, in lower-case hex.',
    });
  };
  return {
    artifacts,
    redirects: redirectDownloads,
    reportDamage: (sha256) => {
      logger.error({ sha256 }, 'the digest or size of a stored file is wrong');
      return services.artifacts.reportDamage(sha256);
    },
    weights: async (viewer, checkpointId, format, clientGone, onWait) => ({
      ...(await services.exports.weightsFile(viewer, checkpointId, format, clientGone, onWait)),
      isImmutable: false,
    }),
    artifact: async (viewer, sha256) => ({
      ...(await artifactOrThrow(viewer, sha256)),
      fileName: sha256,
      isImmutable: true,
    }),
    embeddings: async (viewer, id, format) => ({
      ...(await services.embeddings.file(viewer, id, format)),
      isImmutable: true,
    }),
    thumbnail: async (viewer, datasetId, position) => {
      const thumbnail = await services.datasets.thumbnailOf(viewer, datasetId, position);
      if (thumbnail === undefined)
        throw new DomainError({
          code: 'NOT_FOUND',
          message: 'This thumbnail does not exist.',
          hint: 'Thumbnails are numbered from 0. A dataset has them once it has a sealed version.',
        });
      return { ...(await artifactOrThrow(viewer, thumbnail.sha256)), isImmutable: false };
    },
  };
}

/** Handles stream errors that occur after a handler has finished; without a listener they would end the process. */
function logStreamErrors(logger: Logger): RequestHandler {
  return (request, response, next) => {
    const note = (error: Error): void => logger.debug({ err: error }, 'the connection of a request broke');
    request.on('error', note);
    response.on('error', note);
    next();
  };
}

/** Keeps the client's X-Request-Id if it is well-formed, so that a request can be traced through several programs. */
const assignRequestId: RequestHandler = (request, response, next) => {
  const requestedId = request.get('x-request-id');
  const requestId = requestedId !== undefined && /^[\w.-]{8,64}$/.test(requestedId) ? requestedId : randomUUID();
  response.locals.requestId = requestId;
  response.setHeader('X-Request-Id', requestId);
  next();
};

const setSecurityHeaders: RequestHandler = (_request, response, next) => {
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader(
    'Content-Security-Policy',
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  );
  response.setHeader('Referrer-Policy', 'no-referrer');
  // Pages of other sites can neither embed these resources nor keep a reference to their window.
  response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('X-Frame-Options', 'DENY');
  next();
};

function requestIdOf(response: Response): string {
  return String(response.locals.requestId);
}

function answerFailure(gate: Gate, logger: Logger): ErrorRequestHandler {
  return async (error: unknown, request: Request, response: Response, _next) => {
    await gate.report(request, requestIdOf(response), error);
    const { status, body } = failureOf(error, response, logger);
    if (response.headersSent) response.destroy();
    else response.status(status).json(body);
  };
}

function failureOf(
  error: unknown,
  response: Response,
  logger: Logger,
): { status: number; body: { code: string; message: string; requestId: string; hint?: string } } {
  const requestId = requestIdOf(response);
  if (!isClientFault(error)) {
    const failure = httpFailure(error, { requestId, logger });
    if (failure.status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
    if (failure.retryAfterSeconds !== undefined) response.setHeader('Retry-After', failure.retryAfterSeconds);
    return failure;
  }
  const tooLarge = error.status === 413;
  const message = tooLarge ? `The body is larger than ${MAX_BODY_BYTES} bytes.` : 'The request is malformed.';
  return {
    status: error.status,
    body: {
      code: 'BAD_REQUEST',
      message,
      requestId,
      hint: tooLarge
        ? 'Split the request.'
        : 'Send a JSON object {"query": "..."} as application/json in UTF-8, to an address in valid percent-encoding.',
    },
  };
}

/** Puts status and headers where Apollo reads them; without them it would answer with 500. */
function asHttpError(error: unknown): never {
  if (!(error instanceof DomainError)) throw error;
  const headers = new HeaderMap();
  if (error.retryAfterSeconds !== undefined) headers.set('retry-after', String(error.retryAfterSeconds));
  throw new GraphQLError(error.message, {
    originalError: error,
    extensions: { http: { status: httpStatusOf(error.code), headers } },
  });
}

/** Whether Express or its body parser threw this because the request is malformed. */
function isClientFault(error: unknown): error is Error & { readonly status: number } {
  return (
    error instanceof Error &&
    'status' in error &&
    typeof error.status === 'number' &&
    error.status >= 400 &&
    error.status < 500
  );
}

async function within<Value>(timeoutMs: number, work: Promise<Value>): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`No answer within ${timeoutMs} ms.`)), timeoutMs);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
