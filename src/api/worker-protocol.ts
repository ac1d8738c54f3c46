/**
 * The door of the workers (docs/worker-protocol.md): claims with a key that may WORK; everything about a claimed run
 * or part with the token that came with it.
 *
 *   POST /worker/claim, /worker/run, /worker/held
 *   POST /worker/runs/{id}/{call}                  the calls of src/protocol/run-calls.ts
 *   POST /worker/runs/{id}/parts/{part}/{call}     those of src/protocol/part-calls.ts, for a part of a run
 *   GET, HEAD, PUT /worker/runs/{id}/artifacts/{sha256}
 *   POST /worker/runs/{id}/artifacts/{sha256}      stores what came by /uploads
 *   POST /worker/runs/{id}/artifacts/{sha256}/direct/{begin|sign|complete}   bytes that go straight to the bucket
 */
import { timingSafeEqual } from 'node:crypto';
import { json, Router, type Request, type RequestHandler, type Response } from 'express';
import { DomainError, UnreachableCaseError } from '../errors.ts';
import { authorise, bearerKey } from '../modules/access/index.ts';
import { parseInput } from '../input.ts';
import { storeWriterOf, uploadOwnerOf, type WorkerDesk } from '../modules/workers/index.ts';
import type { ArtifactStore } from '../platform/artifact-store/index.ts';
import type { UploadStore } from '../platform/upload-store.ts';
import {
  completedUploadSchema,
  directUploadSchema,
  directUploadStepSchema,
  DIRECT_UPLOAD_STEPS,
  partToSignSchema,
  sha256Schema,
  uploadedArtifactSchema,
  type StoredBytes,
} from '../protocol/artifacts.ts';
import { isRunCall, RUN_CALLS } from '../protocol/run-calls.ts';
import { isPartCall, PART_CALLS } from '../protocol/part-calls.ts';
import type { HeldLease } from '../protocol/runs.ts';
import { CALL_BYTES_MAX } from '../protocol/worker-calls.ts';
import { sendFile, type DownloadSources } from './downloads.ts';
import type { RunAdmitted } from './gate.ts';

export interface WorkerProtocolOptions {
  readonly desk: WorkerDesk;
  /** A secret that only the server's own worker has, instead of a key; undefined: it has none. */
  readonly ownWorkerKey: string | undefined;
  readonly artifacts: Pick<ArtifactStore, 'put' | 'stat' | 'open' | 'link' | 'direct'>;
  readonly uploads: Pick<UploadStore, 'consume'>;
  /** True: large artifacts go between a worker and the bucket directly, if the store can sign addresses. */
  readonly redirects: boolean;
  readonly reportDamage: DownloadSources['reportDamage'];
  readonly runAdmitted: RunAdmitted;
}

/** A worker that reads nothing for this long is disconnected, and its file closed. */
const STALL_TIMEOUT_MS = 120_000;

export function createWorkerProtocol(options: WorkerProtocolOptions): Router {
  const { desk, ownWorkerKey, artifacts, uploads, redirects, reportDamage, runAdmitted } = options;
  const router = Router();
  const parseBody = json({ limit: CALL_BYTES_MAX, strict: false });
  const body: RequestHandler = (request, response, next) =>
    parseBody(request, response, (error: unknown) => next(error === undefined ? undefined : badBody(error)));

  const requireWorker: RequestHandler = async (request, _response, next) => {
    const key = bearerKey(request.headers.authorization ?? '');
    if (key === undefined || ownWorkerKey === undefined || !isEqual(key, ownWorkerKey))
      // The turn is over before the claim waits.
      await runAdmitted(request, async ({ viewer }) => authorise(viewer, 'OPERATOR', 'WORK'));
    next();
  };
  const leases = new WeakMap<Request, HeldLease>();
  const requireRun: RequestHandler = async (request, _response, next) => {
    const lease = await desk.leaseOfToken(bearerKey(request.headers.authorization ?? '') ?? '');
    if (lease.runId !== request.params['id']) throw notThisToken('run');
    leases.set(request, lease);
    next();
  };
  const leaseOf = (request: Request): HeldLease => {
    const lease = leases.get(request);
    if (lease === undefined) throw new Error('A call of a run came without its lease.');
    return lease;
  };

  router.post('/worker/claim', requireWorker, body, async (request, response) => {
    const client = new AbortController();
    response.once('close', () => client.abort());
    const claimed = await desk.claim(request.body, client.signal);
    if (!client.signal.aborted) answer(response, claimed);
  });
  router.post('/worker/run', requireWorker, body, async (request, response) => {
    answer(response, await desk.run(request.body));
  });
  router.post('/worker/held', requireWorker, body, async (request, response) => {
    answer(response, await desk.held(request.body));
  });
  router.post('/worker/runs/:id/:call', requireRun, body, async (request, response) => {
    const call = String(request.params['call']);
    if (!isRunCall(call)) throw unknownCall(call, Object.keys(RUN_CALLS));
    const lease = leaseOf(request);
    if ('part' in lease) throw notThisToken('run');
    answer(response, await desk.calls(lease)[call](request.body));
  });
  const partPath = '/worker/runs/:id/parts/:part/:call';
  router.post(partPath, requireRun, body, async (request, response) => {
    const call = String(request.params['call']);
    if (!isPartCall(call)) throw unknownCall(call, Object.keys(PART_CALLS));
    const lease = leaseOf(request);
    if (!('part' in lease) || String(lease.part) !== request.params['part']) throw notThisToken('part');
    answer(response, await desk.partCalls(lease)[call](request.body));
  });

  const artifactPath = '/worker/runs/:id/artifacts/:sha256';
  router.get(artifactPath, requireRun, async (request, response) => {
    const sha256 = String(request.params['sha256']);
    const byteSize = await sizeOf(artifacts, sha256);
    const file = { sha256, byteSize, mediaType: 'application/octet-stream', isImmutable: true };
    // A worker that cannot reach the bucket says so.
    const mayRedirect = redirects && request.query['redirect'] !== 'false';
    await sendFile(request, response, file, { artifacts, reportDamage, redirects: mayRedirect }, STALL_TIMEOUT_MS);
  });
  router.put(artifactPath, requireRun, async (request, response) => {
    const sha256 = String(request.params['sha256']);
    const stored = await artifacts.put(bytesOf(request), sha256).catch((error: unknown) => {
      // Nobody waits for an answer, and a network that broke off is not a fault of the server.
      if (request.destroyed && !request.complete) return undefined;
      // The rest of the body is discarded, because a client may read the answer only after it has sent everything.
      request.resume();
      throw error;
    });
    if (stored !== undefined) answer(response, named(stored, sha256));
  });
  router.post(artifactPath, requireRun, body, async (request, response) => {
    const sha256 = String(request.params['sha256']);
    const { uploadId } = parseInput(uploadedArtifactSchema, request.body);
    const owner = uploadOwnerOf(leaseOf(request));
    answer(
      response,
      await uploads.consume(uploadId, owner, async ({ path }) =>
        named(await artifacts.put({ file: path }, sha256), sha256),
      ),
    );
  });
  const directPath = `${artifactPath}/direct/:step`;
  router.post(directPath, requireRun, body, async (request, response) => {
    const sha256 = parseInput(sha256Schema, request.params['sha256']);
    const step = directUploadStepSchema.safeParse(request.params['step']).data;
    const writer = storeWriterOf(leaseOf(request));
    const { direct } = artifacts;
    if (step === undefined)
      throw new DomainError({
        code: 'NOT_FOUND',
        message: `The step ${String(request.params['step']).slice(0, 100)} does not exist.`,
        hint: `The steps are ${DIRECT_UPLOAD_STEPS.join(', ')}; see docs/worker-protocol.md.`,
      });
    if (direct === undefined || !redirects) {
      if (step !== 'begin') throw notDirect();
      answer(response, null);
      return;
    }
    switch (step) {
      case 'begin':
        answer(response, await direct.begin(writer, parseInput(directUploadSchema, request.body).byteSize));
        return;
      case 'sign': {
        const { uploadId, ...part } = parseInput(partToSignSchema, request.body);
        answer(response, await direct.sign(writer, uploadId, part));
        return;
      }
      case 'complete': {
        const { uploadId, etags, byteSize } = parseInput(completedUploadSchema, request.body);
        answer(response, named(await direct.complete(writer, uploadId, etags, { sha256, byteSize }), sha256));
        return;
      }
      default:
        throw new UnreachableCaseError(step);
    }
  });
  for (const [path, allowed] of [
    ['/worker/claim', 'POST'],
    ['/worker/run', 'POST'],
    ['/worker/held', 'POST'],
    [artifactPath, 'GET, HEAD, PUT, POST'],
    [directPath, 'POST'],
    ['/worker/runs/:id/:call', 'POST'],
    [partPath, 'POST'],
  ] as const)
    router.all(path, (_request, response) => {
      response.setHeader('Allow', allowed);
      response.sendStatus(405);
    });
  return router;
}

/** @throws DomainError with the reason for an artifact that cannot be read: missing, or in quarantine. */
async function sizeOf(artifacts: Pick<ArtifactStore, 'stat' | 'open'>, sha256: string): Promise<number> {
  const stored = await artifacts.stat(sha256);
  if (stored !== undefined) return stored.byteSize;
  // It opens only if the artifact has been stored just now.
  (await artifacts.open(sha256)).destroy();
  return (await artifacts.stat(sha256))?.byteSize ?? 0;
}

/**
 * The body of a request. A reader that stops early, because the disk is full, does not close the connection, as the end
 * of a stream would: the client could not be told why, and would take the failure for one of the network.
 */
async function* bytesOf(request: Request): AsyncGenerator<Buffer> {
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    const bytes: Buffer = chunk;
    yield bytes;
  }
}

/** @throws DomainError DIGEST_MISMATCH for bytes of another digest, which the artifact store has not kept. */
function named(stored: StoredBytes, sha256: string): StoredBytes {
  if (stored.sha256 === sha256) return stored;
  throw new DomainError({
    code: 'DIGEST_MISMATCH',
    message: `The bytes have the sha256 ${stored.sha256}, not ${sha256}.`,
    field: 'sha256',
    hint: 'Send the bytes again.',
  });
}

function notThisToken(of: 'run' | 'part'): DomainError {
  return new DomainError({
    code: 'FORBIDDEN',
    message: `The token is good for another ${of}.`,
    hint: `Use the token that came with this ${of}.`,
  });
}

function unknownCall(call: string, known: readonly string[]): DomainError {
  return new DomainError({
    code: 'NOT_FOUND',
    message: `The call ${call.slice(0, 100)} does not exist.`,
    hint: `The calls are ${known.join(', ')}; see docs/worker-protocol.md.`,
  });
}

/** The server was configured otherwise since the upload began. */
function notDirect(): DomainError {
  return new DomainError({
    code: 'UPLOAD_NOT_FOUND',
    message: 'This registry takes the bytes of artifacts itself.',
    hint: 'Send them to the registry; see docs/worker-protocol.md.',
  });
}

function badBody(cause: unknown): DomainError {
  const isTooLarge = cause instanceof Error && 'status' in cause && cause.status === 413;
  return new DomainError({
    code: 'BAD_INPUT',
    message: isTooLarge ? `The body is larger than ${CALL_BYTES_MAX} bytes.` : 'The body is not JSON in UTF-8.',
    hint: 'See docs/worker-protocol.md for what a call takes.',
    cause,
  });
}

function answer(response: Response, value: unknown): void {
  response.set('Cache-Control', 'no-store').json(value);
}

function isEqual(left: string, right: string): boolean {
  const [a, b] = [Buffer.from(left), Buffer.from(right)];
  return a.length === b.length && timingSafeEqual(a, b);
}
