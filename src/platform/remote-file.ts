/**
 * Downloads a file from a URL that a user gave, protected against server-side request forgery: each hop's host name is
 * resolved once, every address of it is checked, and the connection is made to one of the checked addresses, so that a
 * second DNS answer cannot change it.
 */
import { createHash, type Hash } from 'node:crypto';
import { lookup as resolveName, type LookupAddress, type LookupOptions } from 'node:dns';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { request as requestHttp, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { DomainError } from '../errors.ts';
import { requireSpace } from './free-space.ts';
import { isPublicAddress } from './public-address.ts';

export interface RemoteFileOptions {
  /** http or https. */
  readonly url: string;
  /** The file to create; it is deleted when the download fails. */
  readonly destination: string;
  readonly maxBytes: number;
  /** Which addresses may be connected to. Default: those of the public internet. */
  readonly isAllowedAddress?: ((address: string) => boolean) | undefined;
  readonly expectedSha256?: string | undefined;
  readonly expectedByteSize?: number | undefined;
  readonly onProgress?:
    ((progress: { readonly receivedBytes: number; readonly totalBytes: number | undefined }) => void) | undefined;
  /** The input field that errors name. */
  readonly field?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Receiving nothing for this long counts as an interruption. */
  readonly stallTimeoutMs?: number | undefined;
  readonly totalTimeoutMs?: number | undefined;
  /** Pause before the first new attempt; doubled each time. */
  readonly retryDelayMs?: number | undefined;
}

export interface RemoteFile {
  readonly sha256: string;
  readonly byteSize: number;
}

const MAX_REDIRECTS = 5;
const MAX_ATTEMPTS = 6;
const STALL_TIMEOUT_MS = 30_000;
const TOTAL_TIMEOUT_MS = 3_600_000;
const RETRY_DELAY_MS = 500;
/** Between two checks of the free disk space. */
const CHECK_EVERY_BYTES = 4 * 1024 * 1024;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Statuses after which a repeated request may succeed. */
const TRANSIENT_STATUSES: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

/** Messages for the system's error codes. A machine without a network gets the first two kinds. */
const UNREACHABLE: ReadonlyMap<string, string> = new Map([
  ...['ENOTFOUND', 'EAI_AGAIN'].map((code) => [code, 'the host name is unknown, or the server is offline'] as const),
  ...['ENETUNREACH', 'EHOSTUNREACH', 'ENETDOWN'].map((code) => [code, 'no network route leads to it'] as const),
  ['ECONNREFUSED', 'no server listens there'],
  ['ETIMEDOUT', 'it does not answer'],
]);

/** A failure of the connection or the server after which the same request may succeed. */
class Interruption extends Error {}

interface DownloadState extends RemoteFileOptions {
  readonly handle: FileHandle;
  readonly deadline: AbortSignal;
  /** The bytes received so far, and the validator with which the rest can be requested. */
  receivedBytes: number;
  hash: Hash;
  validator: string | undefined;
}

/**
 * Writes the file's bytes to `destination`. After an interruption it continues where it stopped (Range with If-Range)
 * when the server supports that for the same bytes, otherwise it starts again.
 *
 * @throws DomainError REMOTE_URL_NOT_ALLOWED (scheme, credentials, an address that is not public, too many redirects),
 * REMOTE_UNREACHABLE (no network, no such host), REMOTE_REFUSED (an HTTP error), REMOTE_BROKEN_OFF (interrupted too
 * often, or not finished in time), FILE_TOO_LARGE, DIGEST_MISMATCH, STORAGE_FULL.
 */
export async function fetchRemoteFile(options: RemoteFileOptions): Promise<RemoteFile> {
  const url = checkedUrl(options.url, options);
  const timeout = AbortSignal.timeout(options.totalTimeoutMs ?? TOTAL_TIMEOUT_MS);
  const deadline = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  let isComplete = false;
  try {
    // Opened for appending: after a truncation, writing continues at the new end.
    await using handle = await open(options.destination, 'ax');
    const state: DownloadState = {
      ...options,
      handle,
      deadline,
      receivedBytes: 0,
      hash: createHash('sha256'),
      validator: undefined,
    };
    await fetchWhole(url, state);
    const sha256 = state.hash.digest('hex');
    checkExpected(
      'size',
      options.expectedByteSize === undefined ? undefined : `${options.expectedByteSize} bytes`,
      `${state.receivedBytes} bytes`,
      options,
    );
    checkExpected('sha256', options.expectedSha256, sha256, options);
    isComplete = true;
    return { sha256, byteSize: state.receivedBytes };
  } finally {
    if (!isComplete) await rm(options.destination, { force: true });
  }
}

async function fetchWhole(url: URL, state: DownloadState): Promise<void> {
  let attemptsWithoutProgress = 0;
  let furthestBytes = 0;
  for (;;) {
    try {
      return await receive(await follow(url, state), state);
    } catch (error) {
      if (state.deadline.aborted)
        throw brokenOff(
          `The download did not finish in time; ${state.receivedBytes} bytes were received.`,
          state,
          error,
        );
      if (!(error instanceof Interruption)) throw error;
      // Only attempts without progress are counted. An attempt that starts again makes progress once it exceeds the
      // bytes received before.
      attemptsWithoutProgress = state.receivedBytes > furthestBytes ? 1 : attemptsWithoutProgress + 1;
      furthestBytes = Math.max(furthestBytes, state.receivedBytes);
      if (attemptsWithoutProgress >= MAX_ATTEMPTS)
        throw brokenOff(`The connection broke repeatedly; ${state.receivedBytes} bytes were received.`, state, error);
      await pause((state.retryDelayMs ?? RETRY_DELAY_MS) * 2 ** (attemptsWithoutProgress - 1), undefined, {
        signal: state.deadline,
      }).catch(() => undefined);
    }
  }
}

/** The response with the bytes, after all redirects. */
async function follow(first: URL, state: DownloadState): Promise<IncomingMessage> {
  let url = first;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    const response = await send(url, state);
    const status = response.statusCode ?? 0;
    if (!REDIRECTS.has(status)) return response;
    response.destroy();
    const { location } = response.headers;
    if (location === undefined) throw refused(`The server redirects (status ${status}) without a Location.`, state);
    const next = checkedUrl(location, state, url);
    if (url.protocol === 'https:' && next.protocol === 'http:')
      throw notAllowed('The server redirects from https to http.', state);
    url = next;
  }
  throw notAllowed(`The server redirects more than ${MAX_REDIRECTS} times.`, state);
}

function checkedUrl(text: string, options: RemoteFileOptions, base?: URL): URL {
  const url = URL.parse(text, base?.href);
  if (url === null) throw notAllowed('The URL is invalid.', options);
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw notAllowed(`Only http and https are supported, not ${url.protocol.slice(0, 20)}`, options);
  if (url.username !== '' || url.password !== '')
    throw notAllowed('A URL with a user name or password is not allowed.', options);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (isIP(host) !== 0 && !isAllowed(host, options)) throw privateAddress(host, options);
  return url;
}

function isAllowed(address: string, { isAllowedAddress = isPublicAddress }: RemoteFileOptions): boolean {
  return isAllowedAddress(address);
}

function send(url: URL, state: DownloadState): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const headers: Record<string, string> = { 'user-agent': 'paraffin', accept: '*/*', 'accept-encoding': 'identity' };
  if (state.receivedBytes > 0 && state.validator !== undefined) {
    headers['range'] = `bytes=${state.receivedBytes}-`;
    headers['if-range'] = state.validator;
  }
  const checkedLookup: RequestOptions['lookup'] = (hostname, lookupOptions, callback) => {
    const all: LookupOptions & { all: true } = {
      ...(lookupOptions.family === undefined ? {} : { family: lookupOptions.family }),
      all: true,
    };
    resolveName(hostname, all, (error, addresses: LookupAddress[]) => {
      const [address] = addresses ?? [];
      const disallowed = (addresses ?? []).find((each) => !isAllowed(each.address, state));
      if (error !== null || address === undefined) callback(error ?? new Error(`${hostname} has no address.`), '', 4);
      else if (disallowed !== undefined) callback(privateAddress(hostname, state), '', 4);
      else if (lookupOptions.all === true) callback(null, addresses);
      else callback(null, address.address, address.family);
    });
  };
  // A new connection, because a kept-alive one could have been opened by a request with other permissions.
  const request = (url.protocol === 'https:' ? requestHttps : requestHttp)(url, {
    method: 'GET',
    headers,
    agent: false,
    lookup: checkedLookup,
    signal: state.deadline,
  });
  let hasAnswered = false;
  request.setTimeout(state.stallTimeoutMs ?? STALL_TIMEOUT_MS, () => {
    // A network that drops all packets causes this; a request on an offline machine should fail quickly.
    request.destroy(
      hasAnswered ? new Interruption('stalled') : Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' }),
    );
  });
  request.once('response', (response) => {
    hasAnswered = true;
    resolve(response);
  });
  request.once('error', (error) =>
    reject(
      error instanceof DomainError || error instanceof Interruption ? error : connectionFailure(error, url, state),
    ),
  );
  request.end();
  return promise;
}

/** Before the first byte, an unreachable host is an error at once; later it is an interruption like any other. */
function connectionFailure(error: Error, url: URL, state: DownloadState): Error {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  if (state.receivedBytes > 0 || code === 'ECONNRESET' || code === 'EPIPE')
    return new Interruption(code, { cause: error });
  return new DomainError({
    code: 'REMOTE_UNREACHABLE',
    message: `${url.host} cannot be reached from the server: ${UNREACHABLE.get(code) ?? 'the connection failed'} (${code}).`,
    hint: 'Check the spelling of the host, and whether the server is online. Or download the file elsewhere, put it below an import root, and import it by path.',
    retryable: true,
    cause: error,
    ...fieldOf(state),
  });
}

async function receive(response: IncomingMessage, state: DownloadState): Promise<void> {
  try {
    const status = response.statusCode ?? 0;
    if (TRANSIENT_STATUSES.has(status)) throw new Interruption(`status ${status}`);
    const isRest = status === 206 && continuesAt(response, state);
    if (status === 416 || (status === 206 && !isRest)) {
      await restart(state);
      throw new Interruption('the server sent a different range than requested');
    }
    if (status !== 200 && status !== 206) throw refused(`The server answers with status ${status}.`, state);
    const encoding = response.headers['content-encoding'] ?? 'identity';
    if (encoding !== 'identity')
      throw refused(`The server sends the file encoded as ${encoding.slice(0, 40)}, which was not requested.`, state);
    if (!isRest) await restart(state);
    state.validator = validatorOf(response);
    const length = Number(response.headers['content-length'] ?? Number.NaN);
    const totalBytes = Number.isSafeInteger(length) ? state.receivedBytes + length : undefined;
    if (totalBytes !== undefined && totalBytes > state.maxBytes) throw tooLarge(state);
    if (totalBytes !== undefined)
      checkExpected(
        'size',
        state.expectedByteSize === undefined ? undefined : `${state.expectedByteSize} bytes`,
        `${totalBytes} bytes`,
        state,
      );
    await requireSpace(path.dirname(state.destination), (totalBytes ?? state.receivedBytes) - state.receivedBytes);
    await writeBody(response, state, totalBytes);
    if (!response.complete) throw new Interruption('cut off');
  } finally {
    response.destroy();
  }
}

async function writeBody(
  response: IncomingMessage,
  state: DownloadState,
  totalBytes: number | undefined,
): Promise<void> {
  let checkedUpTo = 0;
  try {
    for await (const chunk of response) {
      const bytes = Buffer.from(chunk);
      if (state.receivedBytes + bytes.length > state.maxBytes) throw tooLarge(state);
      if (state.receivedBytes >= checkedUpTo) {
        await requireSpace(path.dirname(state.destination), CHECK_EVERY_BYTES);
        checkedUpTo = state.receivedBytes + CHECK_EVERY_BYTES;
      }
      await state.handle.appendFile(bytes);
      state.hash.update(bytes);
      state.receivedBytes += bytes.length;
      state.onProgress?.({ receivedBytes: state.receivedBytes, totalBytes });
    }
  } catch (error) {
    if (error instanceof DomainError || isDiskFault(error)) throw error;
    throw new Interruption('the connection broke', { cause: error });
  }
}

/** A failure of the disk, not of the connection: a full disk is not tried again. */
function isDiskFault(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    (error.code === 'ENOSPC' || error.code === 'EIO' || error.code === 'EDQUOT' || error.code === 'EROFS')
  );
}

async function restart(state: DownloadState): Promise<void> {
  await state.handle.truncate(0);
  state.receivedBytes = 0;
  state.hash = createHash('sha256');
  state.validator = undefined;
}

/**
 * RFC 9110, 14.4 and 15.3.7: the rest must begin exactly at the requested offset and belong to the same bytes, which
 * only its validator proves.
 */
function continuesAt(response: IncomingMessage, state: DownloadState): boolean {
  if (validatorOf(response) !== state.validator) return false;
  const [, first] = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(response.headers['content-range'] ?? '') ?? [];
  return state.receivedBytes > 0 && first !== undefined && Number(first) === state.receivedBytes;
}

/** RFC 9110, 13.1.5: only a strong validator proves that the rest belongs to the same bytes. */
function validatorOf(response: IncomingMessage): string | undefined {
  const { etag } = response.headers;
  return etag !== undefined && etag.startsWith('"') ? etag : undefined;
}

function checkExpected(what: string, expected: string | undefined, found: string, options: RemoteFileOptions): void {
  if (expected === undefined || expected === found) return;
  throw new DomainError({
    code: 'DIGEST_MISMATCH',
    message: `The file's ${what} is ${found}, not the expected ${expected}.`,
    hint: 'The file at the URL differs from the expected one.',
    ...fieldOf(options),
  });
}

function tooLarge(options: RemoteFileOptions): DomainError {
  return new DomainError({
    code: 'FILE_TOO_LARGE',
    message: `The file has more than ${options.maxBytes} bytes.`,
    hint: 'Save only the state dict of the encoder.',
    ...fieldOf(options),
  });
}

function notAllowed(message: string, options: RemoteFileOptions): DomainError {
  return new DomainError({
    code: 'REMOTE_URL_NOT_ALLOWED',
    message,
    hint: 'Give the http or https URL of a file on the public internet.',
    ...fieldOf(options),
  });
}

function privateAddress(host: string, options: RemoteFileOptions): DomainError {
  return new DomainError({
    code: 'REMOTE_URL_NOT_ALLOWED',
    message: `${host.slice(0, 255)} is not an address of the public internet.`,
    hint: 'To allow downloads from private networks, the administrator sets PARAFFIN_ALLOW_PRIVATE_URLS=true.',
    ...fieldOf(options),
  });
}

function refused(message: string, options: RemoteFileOptions): DomainError {
  return new DomainError({
    code: 'REMOTE_REFUSED',
    message,
    hint: 'Open the URL in a browser: it must return the file itself, without a login.',
    ...fieldOf(options),
  });
}

function brokenOff(message: string, options: RemoteFileOptions, cause: unknown): DomainError {
  return new DomainError({
    code: 'REMOTE_BROKEN_OFF',
    message,
    hint: 'Try again later, or download the file elsewhere and import it by path.',
    retryable: true,
    cause,
    ...fieldOf(options),
  });
}

function fieldOf({ field }: RemoteFileOptions): { field?: string } {
  return field === undefined ? {} : { field };
}
