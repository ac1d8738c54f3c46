/**
 * Files over HTTP: checkpoints, artifacts, thumbnails. Stored bytes never change, so their sha256 is a strong ETag, and
 * a broken download can be resumed for as long as the file exists. Conditions and ranges as RFC 9110, sections 13 and
 * 14.
 *
 * A whole file is hashed while it is sent, and its last chunk is held back until the digest is known: a file that has
 * changed on disk thus ends before its Content-Length, and every client notices that it is incomplete. A range can only
 * be checked by the client, against Repr-Digest.
 */
import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import { Router } from 'express';
import { DomainError } from '../errors.ts';
import { authorise, type Viewer } from '../modules/access/index.ts';
import type { EmbeddingFileFormat } from '../modules/embeddings/index.ts';
import { WEIGHTS_FORMATS, type WeightsFormat } from '../modules/models/index.ts';
import type { ArtifactStore } from '../platform/artifact-store/index.ts';
import type { RunAdmitted } from './gate.ts';
import { evaluateConditions, selectRange } from './http-conditions.ts';

/** A stored file that the viewer may download. */
export interface ServedFile {
  /** Lower-case hex. */
  readonly sha256: string;
  readonly byteSize: number;
  readonly mediaType: string;
  /** Name under which a browser saves the file; undefined: the browser shows it. */
  readonly fileName?: string | undefined;
  /** True where the URL contains the digest, so that its content can never change. */
  readonly isImmutable: boolean;
}

/** Finds the files to serve. Each function throws a DomainError if the file does not exist or may not be read. */
export interface DownloadSources {
  /** If the file has to be exported first, calls `onWait`, then waits for it until `clientGone` is aborted. */
  readonly weights: (
    viewer: Viewer,
    checkpointId: string,
    format: WeightsFormat,
    clientGone: AbortSignal,
    onWait: () => void,
  ) => Promise<ServedFile>;
  readonly artifact: (viewer: Viewer, sha256: string) => Promise<ServedFile>;
  readonly embeddings: (viewer: Viewer, id: string, format: EmbeddingFileFormat) => Promise<ServedFile>;
  readonly thumbnail: (viewer: Viewer, datasetId: string, position: number) => Promise<ServedFile>;
  readonly artifacts: Pick<ArtifactStore, 'stat' | 'open' | 'link'>;
  /** True: the client fetches large files from the artifact store itself, if the store can make links. */
  readonly redirects: boolean;
  /** Called for a stored file whose digest or size is wrong. */
  readonly reportDamage: (sha256: string) => Promise<void>;
}

export interface DownloadOptions {
  readonly sources: DownloadSources;
  readonly runAdmitted: RunAdmitted;
  /** A client that reads nothing for this long is disconnected, and its file closed. */
  readonly stallTimeoutMs?: number;
}

const LISTENERS_MAX = 20;
const REDIRECT_BYTES_MIN = 1024 * 1024;

/**
 * The routes of `GET|HEAD /checkpoints/{id}/download`, `/artifacts/{sha256}`, `/embeddings/{id}.npy|csv` and
 * `/datasets/{id}/thumbnails/{n}.webp`.
 */
export function createDownloads({ sources, runAdmitted, stallTimeoutMs = 60_000 }: DownloadOptions): Router {
  const router = Router();
  const serve = (
    path: string,
    find: (request: Request, viewer: Viewer, clientGone: AbortSignal, onWait: () => void) => Promise<ServedFile>,
  ): void => {
    const handler: RequestHandler = async (request: Request, response: Response, next: NextFunction) => {
      try {
        const client = new AbortController();
        response.once('close', () => client.abort());
        // The turn ends before the file is sent, because sending takes as long as the client's connection needs.
        const file = await runAdmitted(request, ({ viewer }, leave) => {
          authorise(viewer, 'READER', 'READ');
          return find(request, viewer, client.signal, leave);
        });
        await sendFile(request, response, file, sources, stallTimeoutMs);
      } catch (error) {
        next(error);
      }
    };
    router.get(path, handler);
    router.all(path, (_request, response) => {
      response.setHeader('Allow', 'GET, HEAD');
      response.sendStatus(405);
    });
  };
  serve('/checkpoints/:id/download', (request, viewer, clientGone, onWait) =>
    sources.weights(viewer, parameter(request, 'id'), formatOf(request.query.format), clientGone, onWait),
  );
  serve('/artifacts/:sha256', (request, viewer) => sources.artifact(viewer, parameter(request, 'sha256')));
  serve('/embeddings/:id.npy', (request, viewer) => sources.embeddings(viewer, parameter(request, 'id'), 'npy'));
  serve('/embeddings/:id.csv', (request, viewer) => sources.embeddings(viewer, parameter(request, 'id'), 'csv'));
  serve('/datasets/:id/thumbnails/:position.webp', (request, viewer) =>
    sources.thumbnail(viewer, parameter(request, 'id'), positionOf(parameter(request, 'position'))),
  );
  return router;
}

function parameter(request: Request, name: string): string {
  const value = request.params[name];
  return typeof value === 'string' ? value : '';
}

/** @throws DomainError BAD_INPUT for an unknown format. */
function formatOf(value: unknown): WeightsFormat {
  if (value === undefined) return 'SAFETENSORS';
  const format = WEIGHTS_FORMATS.find(
    (known) => typeof value === 'string' && known.toLowerCase() === value.toLowerCase(),
  );
  if (format !== undefined) return format;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: 'The format of weights is unknown.',
    field: 'format',
    hint: `Use one of ${WEIGHTS_FORMATS.join(', ').toLowerCase()}.`,
  });
}

function positionOf(text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new DomainError({
    code: 'NOT_FOUND',
    message: 'The name of a thumbnail must be its number.',
    field: 'position',
    hint: 'The first thumbnail is 0.webp.',
  });
}

/** Answers a request for a stored file, by its conditions and range. */
export async function sendFile(
  request: Request,
  response: Response,
  file: ServedFile,
  sources: Pick<DownloadSources, 'artifacts' | 'redirects' | 'reportDamage'>,
  stallTimeoutMs: number,
): Promise<void> {
  await requireStored(sources, file);
  const etag = `"${file.sha256}"`;
  const verdict = evaluateConditions(request.headers, etag);
  if (verdict === 'PRECONDITION_FAILED') {
    throw new DomainError({
      code: 'PRECONDITION_FAILED',
      message: 'The ETag of the file differs from If-Match.',
      hint: `The current ETag is ${etag}; start the download again.`,
    });
  }
  // RFC 9110, 14.2: Range is defined for GET alone.
  const range =
    request.method === 'GET' && verdict === 'SEND' ? selectRange(request.headers, etag, file.byteSize) : 'WHOLE';
  if (range === 'UNSATISFIABLE') {
    response.setHeader('Content-Range', `bytes */${file.byteSize}`);
    throw new DomainError({
      code: 'RANGE_NOT_SATISFIABLE',
      message: `The file has ${file.byteSize} bytes, but the range begins after its end.`,
      hint: 'If you have all of these bytes, the download is complete.',
    });
  }
  const { first, last } = range === 'WHOLE' ? { first: 0, last: file.byteSize - 1 } : range;

  response.setHeader('ETag', etag);
  // After a sign-out the browser must not show cached files to the next user.
  response.setHeader('Vary', 'Authorization, Cookie');
  response.setHeader('Cache-Control', file.isImmutable ? 'private, max-age=31536000, immutable' : 'private, no-cache');
  if (verdict === 'NOT_MODIFIED') {
    response.status(304).end();
    return;
  }
  const disposition = file.fileName === undefined ? undefined : attachment(file.fileName);
  if (sources.redirects && sources.artifacts.link !== undefined && isRedirectable(request, file)) {
    const link = await sources.artifacts.link(file.sha256, { mediaType: file.mediaType, disposition });
    response.setHeader('Repr-Digest', reprDigestOf(file.sha256));
    // The link is good for some minutes only.
    response.setHeader('Cache-Control', 'private, no-store');
    response.redirect(302, link);
    return;
  }
  response.setHeader('Accept-Ranges', 'bytes');
  response.setHeader('Repr-Digest', reprDigestOf(file.sha256));
  response.setHeader('Content-Type', file.mediaType);
  response.setHeader('Content-Length', last - first + 1);
  if (disposition !== undefined) response.setHeader('Content-Disposition', disposition);
  if (range !== 'WHOLE') {
    response.status(206);
    response.setHeader('Content-Range', `bytes ${first}-${last}/${file.byteSize}`);
  }
  if (request.method === 'HEAD' || last < first) {
    response.end();
    return;
  }
  response.setTimeout(stallTimeoutMs, () => response.destroy());
  const bytes = await sources.artifacts.open(file.sha256, { first, last });
  const isWhole = last - first + 1 === file.byteSize;
  // Our listeners and those of pipeline() together exceed the number at which Node warns of a leak.
  response.setMaxListeners(LISTENERS_MAX);
  await pipeline(isWhole ? checked(bytes, file.sha256) : bytes, response).catch(async (error: unknown) => {
    if (error instanceof DomainError) await sources.reportDamage(file.sha256);
    // A client that disconnects is not an error of the server.
    if (!isPrematureClose(error)) throw error;
  });
}

/**
 * A client repeats its request at the store with the same Range. It would also repeat If-Match and If-Range, and the
 * store does not know our ETag: such requests are answered by the server. So are small files (thumbnails), which a
 * redirect would only delay.
 */
function isRedirectable({ method, headers }: Request, { byteSize }: ServedFile): boolean {
  const hasOwnTag = headers['if-match'] !== undefined || headers['if-range'] !== undefined;
  return method === 'GET' && !hasOwnTag && byteSize >= REDIRECT_BYTES_MIN;
}

/** RFC 9530. */
function reprDigestOf(sha256: string): string {
  return `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`;
}

/**
 * Yields the same bytes, the last chunk only after the digest of the whole has been checked.
 * @throws DomainError ARTIFACT_CORRUPT instead of the last chunk if the digest is wrong.
 */
async function* checked(bytes: AsyncIterable<Buffer>, sha256: string): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let heldBack: Buffer | undefined;
  for await (const chunk of bytes) {
    if (heldBack !== undefined) yield heldBack;
    hash.update(chunk);
    heldBack = chunk;
  }
  if (hash.digest('hex') !== sha256) {
    throw new DomainError({
      code: 'ARTIFACT_CORRUPT',
      message: `The stored file ${sha256} has changed on disk.`,
      hint: 'Restore it from a backup.',
    });
  }
  if (heldBack !== undefined) yield heldBack;
}

/** @throws DomainError if the file is missing, or its size differs from the registered one. */
async function requireStored(
  { artifacts, reportDamage }: Pick<DownloadSources, 'artifacts' | 'reportDamage'>,
  file: ServedFile,
): Promise<void> {
  const found = await artifacts.stat(file.sha256);
  if (found?.byteSize === file.byteSize) return;
  if (found === undefined) {
    // Fails with the reason: missing, or in quarantine. It opens only if the artifact has been stored just now.
    (await artifacts.open(file.sha256)).destroy();
    return;
  }
  await reportDamage(file.sha256);
  throw new DomainError({
    code: 'ARTIFACT_CORRUPT',
    message: `The stored file ${file.sha256} has ${found.byteSize} bytes instead of ${file.byteSize}.`,
    hint: 'Restore it from a backup.',
  });
}

function isPrematureClose(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    (error.code === 'ERR_STREAM_PREMATURE_CLOSE' || error.code === 'ECONNRESET' || error.code === 'EPIPE')
  );
}

/** The value of Content-Disposition (RFC 6266): an ASCII name, and the exact name in UTF-8 where it is not ASCII. */
export function attachment(fileName: string): string {
  const plain = fileName.replaceAll(/[^\x20-\x7e]|["\\%]/g, '_');
  if (plain === fileName) return `attachment; filename="${plain}"`;
  const exact = encodeURIComponent(fileName.toWellFormed()).replaceAll(
    /['()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${exact}`;
}
