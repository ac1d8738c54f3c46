/**
 * Files into the server, by the tus protocol 1.0 (https://tus.io): `POST /uploads` begins one, `PATCH` sends bytes from
 * an offset, `HEAD` says where to continue after a break, `DELETE` gives it up. Only the key that began an upload may
 * touch it, and nobody reads it back.
 */
import { ERRORS, EVENTS, Metadata, Server } from '@tus/server';
import { Router, type Request, type RequestHandler } from 'express';
import { DomainError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { authorise, type Viewer } from '../modules/access/index.ts';
import type { UploadStore } from '../platform/upload-store.ts';
import { httpFailure } from './format-error.ts';

export interface UploadOptions {
  readonly uploads: UploadStore;
  readonly viewerOf: (request: Request) => Promise<Viewer>;
  readonly logger: Logger;
}

const PATH = '/uploads';
/** How long a new request for an upload waits for one that a broken network has left hanging. */
const TAKEOVER_MS = 500;

interface Owner {
  readonly ownerKeyId: string;
  /** Whose key it is. */
  readonly person: string;
}

interface Beginning extends Owner {
  readonly filename?: string;
  readonly sha256?: string;
}

/** The routes of `/uploads`. A key with the role CONTRIBUTOR is needed for all of them. */
export function createUploads({ uploads, viewerOf, logger }: UploadOptions): Router {
  const beginnings = new WeakMap<object, Beginning>();
  /** Told when the file of an upload is there. */
  const creations = new WeakMap<object, () => void>();
  const tus = new Server({
    path: PATH,
    datastore: uploads.files,
    maxSize: uploads.maxBytes,
    relativeLocation: true,
    lockDrainTimeout: TAKEOVER_MS,
    allowedOrigins: () => false,
    namingFunction: () => uploads.newId(),
    getFileIdFromRequest: (request) => idIn(new URL(request.url).pathname),
    onUploadCreate: async (request) => {
      const beginning = beginnings.get(nodeRequestOf(request));
      if (beginning === undefined) throw new Error('An upload began without an owner.');
      return { metadata: { ...beginning } };
    },
    onResponseError: (request, error) => {
      if (!(error instanceof Error)) return undefined;
      if (error instanceof DomainError) {
        const { status, body } = httpFailure(error, { requestId: requestIdOf(nodeRequestOf(request)), logger });
        return { status_code: status, body: JSON.stringify(body) };
      }
      logger.error({ err: error }, 'An upload met an unexpected failure');
      return { ...ERRORS.UNKNOWN_ERROR };
    },
  });

  tus.on(EVENTS.POST_CREATE, (request) => creations.get(nodeRequestOf(request))?.());

  const ownerOf = async (request: Request): Promise<Owner> => {
    const viewer = await viewerOf(request);
    authorise(viewer, 'CONTRIBUTOR', 'IMPORT');
    if (viewer.kind === 'KEY') return { ownerKeyId: viewer.keyId, person: viewer.owner };
    throw new Error('An anonymous viewer was taken for a contributor.');
  };
  const begin: RequestHandler = async (request, response) => {
    const owner = await ownerOf(request);
    const byteSize = lengthOf(request, uploads.maxBytes);
    beginnings.set(request, { ...owner, ...readMetadata(request) });
    let answered: Promise<unknown> = Promise.resolve();
    await uploads.begin({ person: owner.person, byteSize }, async () => {
      const { promise: created, resolve } = Promise.withResolvers<void>();
      creations.set(request, resolve);
      answered = tus.handle(request, response);
      // Bytes that come along with the beginning take their time without keeping others waiting.
      await Promise.race([created, answered]);
    });
    await answered;
  };
  const goOn: RequestHandler = async (request, response) => {
    const { ownerKeyId } = await ownerOf(request);
    await uploads.requireOwner(idIn(request.path) ?? '', ownerKeyId);
    await tus.handle(request, response);
  };

  const router = Router();
  router.post(PATH, begin);
  router.options([PATH, `${PATH}/:id`], async (request, response) => {
    await ownerOf(request);
    await tus.handle(request, response);
  });
  router.head(`${PATH}/:id`, goOn);
  router.patch(`${PATH}/:id`, goOn);
  router.delete(`${PATH}/:id`, goOn);
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

/** As stated; 0 for a missing or malformed length, which is left to the protocol. */
function lengthOf(request: Request, maxBytes: number): number {
  const text = request.get('upload-length') ?? '';
  if (!/^\d+$/.test(text)) return 0;
  if (Number(text) === 0)
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'The file is empty: there is nothing to upload.',
      field: 'Upload-Length',
    });
  if (Number(text) > maxBytes) {
    throw new DomainError({
      code: 'FILE_TOO_LARGE',
      message: `The file has ${text} bytes; ${maxBytes} are taken at most.`,
      field: 'Upload-Length',
      hint: 'The owner of this server sets PARAFFIN_MAX_UPLOAD_BYTES.',
    });
  }
  return Number(text);
}

/** What is kept of a client's metadata: a name for the record, and what the bytes must be. */
function readMetadata(request: Request): Omit<Beginning, keyof Owner> {
  const text = request.get('upload-metadata');
  if (text === undefined || text === '') return {};
  let metadata: ReturnType<typeof Metadata.parse>;
  try {
    metadata = Metadata.parse(text);
  } catch (cause) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'Upload-Metadata is not valid under the tus protocol.',
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
      hint: 'Leave it out, and state it when you import.',
    });
  }
  return { ...(filename === '' ? {} : { filename }), ...(sha256 === '' ? {} : { sha256 }) };
}

/** As http.ts gave it to the response. */
function requestIdOf(request: object): string {
  const response: unknown = 'res' in request ? request.res : undefined;
  const locals: unknown =
    typeof response === 'object' && response !== null && 'locals' in response ? response.locals : undefined;
  return typeof locals === 'object' && locals !== null && 'requestId' in locals ? String(locals.requestId) : '';
}

/** The request as Express has it, of which the tus server made one of its own. */
function nodeRequestOf(request: {
  readonly runtime?: { readonly node?: { readonly req: object } | undefined } | undefined;
}): object {
  const found = request.runtime?.node?.req;
  if (found === undefined) throw new Error('The tus server was asked without a request of Node.');
  return found;
}
