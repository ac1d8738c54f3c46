/**
 * Uploads by the tus protocol 1.0 (https://tus.io): `POST /uploads` begins one, `PATCH` sends bytes from an offset,
 * `HEAD` returns the offset at which to resume, `DELETE` aborts it. Only the key that began an upload may use it, or
 * the token of the run, and an upload cannot be downloaded.
 */
import { ERRORS, EVENTS, Metadata, Server } from '@tus/server';
import { Router, type Request, type RequestHandler } from 'express';
import { DomainError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { authorise, bearerKey, type Viewer } from '../modules/access/index.ts';
import { isRunToken, uploadOwnerOf, type WorkerDesk } from '../modules/workers/index.ts';
import type { UploadStore } from '../platform/upload-store.ts';
import { UPLOADS_PATH } from '../protocol/tus.ts';
import { httpFailure } from './format-error.ts';

export interface UploadOptions {
  readonly uploads: UploadStore;
  readonly viewerOf: (request: Request) => Promise<Viewer>;
  /** Undefined: no worker uploads anything here. */
  readonly leaseOfToken: WorkerDesk['leaseOfToken'] | undefined;
  readonly logger: Logger;
}

const PATH = UPLOADS_PATH;
/** How long a new request for an upload waits for an earlier one that still hangs on a broken connection. */
const TAKEOVER_MS = 500;

interface Owner {
  readonly ownerKeyId: string;
  /** The owner of the key, or the run. */
  readonly person: string;
}

interface CreationMetadata extends Owner {
  readonly filename?: string;
  readonly sha256?: string;
}

/** The routes of `/uploads`. All of them need a key with the role CONTRIBUTOR, or the token of a claimed run. */
export function createUploads({ uploads, viewerOf, leaseOfToken, logger }: UploadOptions): Router {
  const creationMetadata = new WeakMap<object, CreationMetadata>();
  const ofRuns = new WeakSet<object>();
  /** What a run makes has no limit but the disk. */
  const maxBytesOf = (request: object): number => (ofRuns.has(request) ? Number.MAX_SAFE_INTEGER : uploads.maxBytes);
  /** Called when the file of an upload has been created. */
  const onCreated = new WeakMap<object, () => void>();
  const tus = new Server({
    path: PATH,
    datastore: uploads.files,
    maxSize: (request) => maxBytesOf(nodeRequestOf(request)),
    relativeLocation: true,
    lockDrainTimeout: TAKEOVER_MS,
    allowedOrigins: () => false,
    namingFunction: () => uploads.newId(),
    getFileIdFromRequest: (request) => idIn(new URL(request.url).pathname),
    onUploadCreate: async (request) => {
      const metadata = creationMetadata.get(nodeRequestOf(request));
      if (metadata === undefined) throw new Error('An upload began without an owner.');
      return { metadata: { ...metadata } };
    },
    onResponseError: (request, error) => {
      if (!(error instanceof Error)) return undefined;
      if (error instanceof DomainError) {
        const { status, body } = httpFailure(error, { requestId: requestIdOf(nodeRequestOf(request)), logger });
        return { status_code: status, body: JSON.stringify(body) };
      }
      logger.error({ err: error }, 'An upload failed unexpectedly');
      return { ...ERRORS.UNKNOWN_ERROR };
    },
  });

  tus.on(EVENTS.POST_CREATE, (request) => onCreated.get(nodeRequestOf(request))?.());

  const ownerOf = async (request: Request): Promise<Owner> => {
    const key = bearerKey(request.headers.authorization ?? '') ?? '';
    if (leaseOfToken !== undefined && isRunToken(key)) {
      const owner = uploadOwnerOf(await leaseOfToken(key));
      ofRuns.add(request);
      return { ownerKeyId: owner, person: owner };
    }
    const viewer = await viewerOf(request);
    authorise(viewer, 'CONTRIBUTOR', 'IMPORT');
    if (viewer.kind === 'KEY') return { ownerKeyId: viewer.keyId, person: viewer.owner };
    throw new Error('An anonymous viewer was taken for a contributor.');
  };
  const create: RequestHandler = async (request, response) => {
    const owner = await ownerOf(request);
    const byteSize = lengthOf(request, maxBytesOf(request));
    creationMetadata.set(request, { ...owner, ...readMetadata(request) });
    let answered: Promise<unknown> = Promise.resolve();
    await uploads.begin({ person: owner.person, byteSize }, async () => {
      const { promise: created, resolve } = Promise.withResolvers<void>();
      onCreated.set(request, resolve);
      answered = tus.handle(request, response);
      // Bytes in the body of the POST may take long; other uploads can begin in the meantime.
      await Promise.race([created, answered]);
    });
    await answered;
  };
  const resume: RequestHandler = async (request, response) => {
    const { ownerKeyId } = await ownerOf(request);
    await uploads.requireOwner(idIn(request.path) ?? '', ownerKeyId);
    await tus.handle(request, response);
  };

  const router = Router();
  router.post(PATH, create);
  router.options([PATH, `${PATH}/:id`], async (request, response) => {
    await ownerOf(request);
    await tus.handle(request, response);
  });
  router.head(`${PATH}/:id`, resume);
  router.patch(`${PATH}/:id`, resume);
  router.delete(`${PATH}/:id`, resume);
  router.all([PATH, `${PATH}/:id`], (request, response) => {
    response.setHeader('Allow', request.path === PATH ? 'OPTIONS, POST' : 'OPTIONS, HEAD, PATCH, DELETE');
    response.sendStatus(405);
  });
  return router;
}

/** The id that a path names; the query is not part of it. */
function idIn(pathname: string): string | undefined {
  return /^\/uploads\/([0-9a-f]{32})$/.exec(pathname)?.[1];
}

/** The announced byte size; 0 for a missing or malformed header, which the tus server refuses. */
function lengthOf(request: Request, maxBytes: number): number {
  const text = request.get('upload-length') ?? '';
  if (!/^\d+$/.test(text)) return 0;
  if (Number(text) === 0)
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'The file is empty.',
      field: 'Upload-Length',
      hint: 'Choose a file with content.',
    });
  if (Number(text) > maxBytes) {
    throw new DomainError({
      code: 'FILE_TOO_LARGE',
      message: `The file has ${text} bytes; at most ${maxBytes} are allowed.`,
      field: 'Upload-Length',
      hint: 'Ask the administrator of this server to raise PARAFFIN_MAX_UPLOAD_BYTES.',
    });
  }
  return Number(text);
}

/** The parts of a client's metadata that are kept: the file name, and the expected sha256. */
function readMetadata(request: Request): Omit<CreationMetadata, keyof Owner> {
  const text = request.get('upload-metadata');
  if (text === undefined || text === '') return {};
  let metadata: ReturnType<typeof Metadata.parse>;
  try {
    metadata = Metadata.parse(text);
  } catch (cause) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'Upload-Metadata is not valid by the tus protocol.',
      field: 'Upload-Metadata',
      hint: 'Send pairs of a key and a base64 value, e.g. "filename d2VpZ2h0cy5jaw==".',
      cause,
    });
  }
  const filename =
    metadata['filename']
      ?.toWellFormed()
      .replaceAll(/[\p{Cc}/\\]/gu, '_')
      .slice(0, 200) ?? '';
  const sha256 = metadata['sha256']?.toLowerCase() ?? '';
  if (sha256 !== '' && !/^[0-9a-f]{64}$/.test(sha256)) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'sha256 in Upload-Metadata is not 64 hexadecimal digits.',
      field: 'Upload-Metadata',
      hint: 'Leave it out, and give it with the import.',
    });
  }
  return { ...(filename === '' ? {} : { filename }), ...(sha256 === '' ? {} : { sha256 }) };
}

/** The request id that http.ts stored in the response. */
function requestIdOf(request: object): string {
  const response: unknown = 'res' in request ? request.res : undefined;
  const locals: unknown =
    typeof response === 'object' && response !== null && 'locals' in response ? response.locals : undefined;
  return typeof locals === 'object' && locals !== null && 'requestId' in locals ? String(locals.requestId) : '';
}

/** The request of Express from which the tus server made its own. */
function nodeRequestOf(request: {
  readonly runtime?: { readonly node?: { readonly req: object } | undefined } | undefined;
}): object {
  const found = request.runtime?.node?.req;
  if (found === undefined) throw new Error('The tus server received a request that is not from Node.');
  return found;
}
