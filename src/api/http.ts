/** The HTTP door: GraphQL, downloads, health and metrics on one port. */
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
import { createGate, type Admitted, type Gate, type InTurn } from './gate.ts';
import { boundsOfText, checkCost, MAX_BODY_BYTES, MAX_TOKENS } from './limits.ts';
import { createMetrics } from './metrics.ts';
import { createPages } from './pages.ts';
import { refuseOtherSites } from './other-sites.ts';
import { timeoutOf } from './permissions.ts';
import { DEFAULT_RATE_LIMITS, type RateLimits } from './rate-limit.ts';
import type { Sender } from './sender.ts';
import { boundConnections, DEFAULT_TIMEOUTS, receiveWithin, type Timeouts } from './slow-clients.ts';
import { createSessionCookie } from './session-cookie.ts';
import { createSessions } from './sessions.ts';
import { serveSubscriptions } from './subscriptions.ts';
import { createUploads } from './uploads.ts';
import { WELCOME_PAGE } from './welcome-page.ts';

export interface HttpServerOptions {
  readonly schema: GraphQLSchema;
  /** Made again for each operation. */
  readonly contextFor: ContextMaker;
  readonly access: Pick<AccessService, 'viewerOf' | 'sessions'>;
  /** From where a request came. */
  readonly senderOf: (request: IncomingMessage) => Sender;
  readonly services: Pick<Services, 'artifacts' | 'audit' | 'cards' | 'datasets' | 'embeddings' | 'exports'>;
  readonly openArtifact: DownloadSources['open'];
  readonly uploads: UploadStore;
  /** False or a failure: the server answers, but cannot do its work. */
  readonly isReady: () => Promise<boolean>;
  /** Runs by status, for the metrics. */
  readonly runCounts: () => Promise<Readonly<Record<string, number>>>;
  readonly logger: Logger;
  /** Folder of the built pages; where there are none, / says how to use the API. */
  readonly pagesDir?: string;
  readonly stallTimeoutMs?: number;
  /** Whether introspection is answered. Default true. */
  readonly introspection?: boolean;
  /** Whether there are pages at /. Default true. */
  readonly landingPage?: boolean;
  readonly rateLimits?: RateLimits;
  readonly queueLimits?: FairQueueLimits;
  /** Stands in what the server writes, without a slash at its end; where left out, the address that it listens on. */
  readonly publicUrl?: string | undefined;
  readonly timeouts?: Timeouts;
}

/** A context for one operation. */
export type ContextMaker = (
  request: Pick<ApiContext, 'viewer' | 'requestId' | 'address' | 'onRefusal' | 'clientGone'>,
) => ApiContext;

export interface HttpServer {
  readonly app: Express;
  readonly server: Server;
  /** @param address port 0 takes any free one. @returns the port that was taken. Rejects when it is in use. */
  listen(address: {
    readonly host: string;
    readonly port: number;
  }): Promise<{ readonly port: number; readonly url: string }>;
  /**
   * Takes no more connections, closes sockets with 1001, lets requests end until the deadline, then cuts them off. Safe
   * to call twice.
   */
  drain(deadlineMs: number): Promise<void>;
}

/** The id of the request being answered: Apollo does not pass it to the code that words its earliest errors. */
const currentRequest = new AsyncLocalStorage<string>();

const GRAPHQL_PATH = '/graphql';
/** A database that hangs must not hang the one who asks whether it does. */
const READY_TIMEOUT_MS = 2_000;

export function createHttpServer(options: HttpServerOptions): HttpServer {
  const { schema, contextFor, logger } = options;
  const metrics = createMetrics(options.runCounts);
  const app = express();
  const timeouts = options.timeouts ?? DEFAULT_TIMEOUTS;
  const introspection = options.introspection ?? true;
  // A body may take long, an upload's above all: receiveWithin and the uploads bound it, each in its own way.
  const server = createServer(
    {
      headersTimeout: timeouts.headersMs,
      requestTimeout: 0,
      keepAliveTimeout: timeouts.idleMs,
      connectionsCheckingInterval: Math.min(1_000, timeouts.headersMs / 2),
    },
    app,
  );
  boundConnections(server);
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
  const inTurn: InTurn = async (request, work) => {
    const admitted = await gate.admit(request);
    const place = queue.placeFor(admitted.countedAs);
    await place.enter();
    try {
      return await work(admitted, place.leave);
    } finally {
      place.leave();
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
      // The landing page of Apollo loads scripts from outside.
      ApolloServerPluginLandingPageDisabled(),
      // It wraps every field of every answer to find hints that our schema never gives.
      ApolloServerPluginCacheControlDisabled(),
      {
        requestDidStart: async () => ({
          didResolveOperation: async ({ document, request, operation, contextValue }) => {
            const [error] = checkCost(schema, document, request.operationName, request.variables ?? {});
            if (error !== undefined) throw error;
            if (operation === undefined) return;
            const timeoutMs = timeoutOf(operation, timeouts.requestMs);
            // One that may take an hour waits for something else than the database.
            if (timeoutMs <= timeouts.requestMs) await contextValue.place.enter().catch(asHttpError);
            contextValue.deadline.start(timeoutMs);
          },
          willSendResponse: async ({ contextValue }) => {
            contextValue.deadline.end();
            contextValue.place.leave();
          },
        }),
      },
    ],
  });
  apollo.startInBackgroundHandlingStartupErrorsByLoggingAndFailingAllRequests();

  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  app.use(hearErrors(logger), identify, metrics.measure, harden);
  app.use((_request, response, next) => {
    // A connection that was busy when the draining began is closed as soon as it has nothing left to answer.
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
    const text = await inTurn(request, ({ viewer }) => {
      authorise(viewer, 'READER', 'READ');
      return metrics.text();
    });
    response.type(metrics.contentType).send(text);
  });
  app.use(GRAPHQL_PATH, graphqlOverHttp(options, apollo, gate, queue));
  app.use(createSessions({ sessions: options.access.sessions, audit: options.services.audit, cookie, inTurn }));
  app.use(createUploads({ uploads: options.uploads, viewerOf: viewerOfRequest, logger }));
  app.use(
    createCards({
      cards: options.services.cards,
      inTurn,
      publicUrl: () => options.publicUrl ?? ownUrl,
    }),
  );
  app.use(
    createDownloads({
      sources: sourcesOf(options),
      inTurn,
      ...(options.stallTimeoutMs === undefined ? {} : { stallTimeoutMs: options.stallTimeoutMs }),
    }),
  );
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
      message: `There is nothing at ${request.path.slice(0, 200)}.`,
      hint: 'See / for what the server offers.',
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
          // Of a connection that could not be taken, for example when file descriptors run out; the next one may be.
          server.on('error', (error) => logger.error({ err: error }, 'a connection could not be accepted'));
          const address = server.address();
          const taken = typeof address === 'object' && address !== null ? address.port : port;
          const url = (name: string): string => `http://${name.includes(':') ? `[${name}]` : name}:${taken}`;
          // Every address of this machine is none that a client can use.
          ownUrl = url(['0.0.0.0', '::'].includes(host) ? hostname() : host);
          resolve({ port: taken, url: url(host) });
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

/** Who asks is settled before GraphQL begins: a wrong key is answered with 401, not with a page of nulls. */
function graphqlOverHttp(
  { contextFor, logger }: HttpServerOptions,
  apollo: ApolloServer<TimedContext>,
  gate: Gate,
  queue: FairQueue,
): RequestHandler[] {
  const admitted = new WeakMap<IncomingMessage, Admitted>();
  const know: RequestHandler = async (request, _response, next) => {
    admitted.set(request, await gate.admit(request));
    next();
  };
  const enter: RequestHandler = (_request, response, next) => currentRequest.run(requestIdOf(response), next);
  const fail = (error: unknown, response: Response): void => {
    // Answered already: its time was over, or its client is gone.
    if (response.headersSent) return;
    const { status, body } = failureOf(error, response, logger);
    const { message, ...extensions } = body;
    response.status(status).json({ errors: [{ message, extensions }] });
  };
  const execute = expressMiddleware(apollo, {
    context: async ({ req, res }) => {
      const sender = admitted.get(req);
      if (sender === undefined) throw new Error('A request came to GraphQL past the gate.');
      const deadline = createDeadline();
      deadline.signal.addEventListener('abort', () => fail(deadline.signal.reason, res), { once: true });
      const client = new AbortController();
      res.once('close', () => {
        deadline.end();
        if (!res.writableEnded) client.abort();
      });
      const place = queue.placeFor(sender.countedAs);
      res.once('close', place.leave);
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
        place,
      );
    },
  });
  // Before Apollo: by its first hook GraphQL has validated the document already, and taken the time for it.
  const bound: RequestHandler = (request, response, next) => {
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
  router.use(know, express.json({ limit: MAX_BODY_BYTES }), bound, enter, execute, answer);
  return [router];
}

function sourcesOf({ services, openArtifact, logger }: HttpServerOptions): DownloadSources {
  const artifactOrThrow = async (viewer: Viewer, sha256: string) => {
    const artifact = await services.artifacts.get(viewer, sha256);
    if (artifact !== undefined) return artifact;
    throw new DomainError({
      code: 'ARTIFACT_NOT_FOUND',
      message: 'There is no artifact with this sha256.',
      field: 'sha256',
      hint: 'Use a sha256 in lower-case hex that the API printed.',
    });
  };
  return {
    open: openArtifact,
    reportDamage: (sha256) => {
      logger.error({ sha256 }, 'a stored file is not what its name says');
      return services.artifacts.reportDamage(sha256);
    },
    weights: async (viewer, checkpointId, format, isGone, onWait) => ({
      ...(await services.exports.weightsFile(viewer, checkpointId, format, isGone, onWait)),
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
          hint: 'Thumbnails are numbered from 0, for a dataset with a sealed version.',
        });
      return { ...(await artifactOrThrow(viewer, thumbnail.sha256)), isImmutable: false };
    },
  };
}

/** An error of a request or an answer whose handler is done reaches nobody else, and would end the process. */
function hearErrors(logger: Logger): RequestHandler {
  return (request, response, next) => {
    const note = (error: Error): void => logger.debug({ err: error }, 'a request or its answer broke off');
    request.on('error', note);
    response.on('error', note);
    next();
  };
}

/** Ids of clients are kept where they are harmless, so that one request can be followed through several programs. */
const identify: RequestHandler = (request, response, next) => {
  const given = request.get('x-request-id');
  const requestId = given !== undefined && /^[\w.-]{8,64}$/.test(given) ? given : randomUUID();
  response.locals.requestId = requestId;
  response.setHeader('X-Request-Id', requestId);
  next();
};

const harden: RequestHandler = (_request, response, next) => {
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader(
    'Content-Security-Policy',
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  );
  response.setHeader('Referrer-Policy', 'no-referrer');
  // No page of another site embeds what is here, or holds a window on it.
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
  const message = tooLarge ? `The body is larger than ${MAX_BODY_BYTES} bytes.` : 'The request cannot be read.';
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

/** Apollo takes the status and the headers of an answer from there; it would answer with 500. */
function asHttpError(error: unknown): never {
  if (!(error instanceof DomainError)) throw error;
  const headers = new HeaderMap();
  if (error.retryAfterSeconds !== undefined) headers.set('retry-after', String(error.retryAfterSeconds));
  throw new GraphQLError(error.message, {
    originalError: error,
    extensions: { http: { status: httpStatusOf(error.code), headers } },
  });
}

/** What express and its body parser throw for a request that is malformed. */
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
