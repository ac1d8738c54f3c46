/**
 * The artifacts of the registry, as a run's process stores and reads them: over HTTP, or in the store's own folder if
 * the worker shares the server's disk.
 */
import { Readable } from 'node:stream';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import {
  readWhole,
  scanStream,
  type ArtifactStore,
  type StoredBytes,
} from '../../src/platform/artifact-store/index.ts';
import { readBody, type TakeBlock } from '../../src/platform/http-body.ts';
import { storedBytesSchema } from '../../src/protocol/artifacts.ts';
import { bytesHeaders, creationHeaders, OFFSET_HEADERS, offsetOf, UPLOADS_PATH } from '../../src/protocol/tus.ts';
import { BucketFault, createBucketWay, type BucketWay } from './bucket-way.ts';
import { directUpload } from './direct-upload.ts';
import { request, unreachable, type Door } from './http.ts';
import { outgoingOf, type Outgoing } from './outgoing.ts';
import { beforeRetry, isRegistryFault, untilRegistryAnswers, type Patience } from './patience.ts';

export type WorkerArtifacts = Pick<ArtifactStore, 'put' | 'stat' | 'open' | 'scan' | 'read'>;

export interface HttpArtifactsOptions {
  readonly door: Door;
  readonly runId: string;
  /** For bytes on their way to the registry. */
  readonly workDir: string;
  readonly patience: Patience;
  /** Called when bytes of one direction go by way of the registry from now on, because its bucket cannot be reached. */
  readonly onBucketClosed?: (reason: unknown) => void;
}

/**
 * A registry that is away is waited for without a limit. One that answers, but with which the transfer of this artifact
 * breaks off so often in a row, cannot carry it: a disk that does not read it, or a proxy that does not let it through.
 */
const BREAKS_MAX = 5;
/** An artifact that the registry does not have, or only as damaged bytes that may be stored again. */
const ABSENT: ReadonlySet<ErrorCode> = new Set(['NOT_FOUND', 'ARTIFACT_NOT_FOUND', 'ARTIFACT_CORRUPT']);
/** Below it, a connection of its own costs more than it saves. */
const BLOCKWISE_BYTES_MIN = 4 * 1024 * 1024;
/** A connection without any byte for this long is given up; the ordinary client goes on. */
const STALL_TIMEOUT_MS = 30_000;

/** Asks the registry to send the bytes itself. */
const PAST_THE_BUCKET = '?redirect=false';

/** Smaller artifacts go in one request, which costs less than to find out where an upload ended. */
const RESUMED_FROM_BYTES = 4 * 1024 * 1024;

/** One artifact on its way to the registry. */
interface Upload {
  /** May be called again after it failed. */
  send(): Promise<StoredBytes>;
  /** What the registry already had when `send` was last called. */
  reachedBytes(): number;
}

export function createHttpArtifacts({
  door,
  runId,
  workDir,
  patience,
  onBucketClosed,
}: HttpArtifactsOptions): WorkerArtifacts {
  const [toBucket, fromBucket] = [createBucketWay(onBucketClosed), createBucketWay(onBucketClosed)];
  const pathOf = (sha256: string): string => `/worker/runs/${runId}/artifacts/${sha256}`;

  const stat: WorkerArtifacts['stat'] = (sha256) =>
    untilRegistryAnswers(async () => {
      try {
        const { headers } = await request(door, pathOf(sha256), { method: 'HEAD' }).catch((error: unknown) => {
          if (isAbsent(error)) throw error;
          return answerToGet(sha256);
        });
        return { byteSize: Number(headers.get('content-length')), writtenAt: new Date(0) };
      } catch (error) {
        if (isAbsent(error)) return undefined;
        throw error;
      }
    }, patience);

  /** A failed answer to HEAD has no body: the answer to GET says what a registry that answers has against it. */
  const answerToGet = async (sha256: string): Promise<Response> => {
    const response = await request(door, `${pathOf(sha256)}${PAST_THE_BUCKET}`);
    await response.body?.cancel();
    return response;
  };

  /** From the bucket to which the registry points, or from the registry if the bucket does not send them. */
  const answerWithBytes = async (sha256: string, headers: Readonly<Record<string, string>>): Promise<Response> => {
    const own = await request(door, bytesPathOf(sha256, fromBucket), { headers, redirect: 'manual' });
    const location = own.headers.get('location');
    if (own.status !== 302 || location === null) return own;
    await own.body?.cancel();
    const sent = await fetch(location, { headers }).catch((error: unknown) => {
      fromBucket.failed(error);
      return undefined;
    });
    if (sent?.ok === true) {
      fromBucket.worked();
      return sent;
    }
    await sent?.body?.cancel();
    if (sent !== undefined) fromBucket.failed(new BucketFault(`The bucket answered with HTTP status ${sent.status}.`));
    return request(door, `${pathOf(sha256)}${PAST_THE_BUCKET}`, { headers });
  };

  const bytesPathOf = (sha256: string, { isOpen }: BucketWay): string =>
    `${pathOf(sha256)}${isOpen() ? '' : PAST_THE_BUCKET}`;

  /** Goes on where a broken connection ended. The reader verifies the bytes. */
  async function* bytesOf(sha256: string, first: number, last: number | undefined): AsyncGenerator<Uint8Array> {
    let next = first;
    let breakCount = 0;
    const end = last === undefined ? '' : String(last);
    for (;;) {
      if (last !== undefined && next > last) return;
      const isWhole = next === 0 && last === undefined;
      const headers: Record<string, string> = isWhole ? {} : { range: `bytes=${next}-${end}` };
      const response = await untilRegistryAnswers(
        () =>
          answerWithBytes(sha256, headers).catch((error: unknown) => {
            // Everything had arrived when the connection broke.
            if (next > first && error instanceof DomainError && error.code === 'RANGE_NOT_SATISFIABLE')
              return undefined;
            throw error;
          }),
        patience,
      );
      if (response === undefined || response.body === null) return;
      try {
        for await (const chunk of response.body) {
          next += chunk.length;
          breakCount = 0;
          yield chunk;
        }
        return;
      } catch (error) {
        if (!isBroken(error)) throw error;
        breakCount += 1;
        if (breakCount === BREAKS_MAX)
          throw brokenOff(`The download of artifact ${sha256} breaks off at byte ${next}`, error);
        await beforeRetry(error, patience.onWait);
      }
    }
  }

  const openBytes: WorkerArtifacts['open'] = async (sha256, range) => {
    // The error of a missing artifact comes before the first byte.
    const bytes = bytesOf(sha256, range?.first ?? 0, range?.last);
    const begun = await bytes.next();
    return Readable.from(prepended(begun, bytes), { objectMode: false });
  };

  const answerIn = async (response: Response): Promise<unknown> =>
    response.json().catch((error: unknown) => {
      throw unreachable(door.url, error);
    });
  const storedIn = async (response: Response): Promise<StoredBytes> =>
    storedBytesSchema.parse(await answerIn(response));

  const sendWhole = async (outgoing: Outgoing): Promise<StoredBytes> =>
    storedIn(
      await request(door, pathOf(outgoing.sha256), {
        method: 'PUT',
        headers: { 'content-length': String(outgoing.byteSize), 'content-type': 'application/octet-stream' },
        body: outgoing.body(0),
        duplex: 'half',
      }),
    );

  /** The registry has a part of the bytes when a connection breaks: the next call goes on behind it. */
  const resumedUpload = (outgoing: Outgoing): Upload => {
    const { sha256, byteSize } = outgoing;
    let at: string | undefined;
    let reached = 0;
    const begin = async (): Promise<string> => {
      const { headers } = await request(door, UPLOADS_PATH, {
        method: 'POST',
        headers: creationHeaders(byteSize, { sha256 }),
      });
      const location = headers.get('location');
      if (location === null) throw new Error('The registry did not say where the upload is.');
      return location;
    };
    /** Undefined: the registry has removed the upload. */
    const offsetAt = async (path: string): Promise<number | undefined> => {
      try {
        return offsetOf(await request(door, path, { method: 'HEAD', headers: OFFSET_HEADERS })) ?? 0;
      } catch (error) {
        if (isAbsent(error)) return undefined;
        throw error;
      }
    };
    return {
      reachedBytes: () => reached,
      send: async () => {
        const offset = at === undefined ? undefined : await offsetAt(at);
        reached = offset ?? 0;
        if (offset === undefined) at = await begin();
        const upload = at ?? '';
        if (reached < byteSize)
          await request(door, upload, {
            method: 'PATCH',
            headers: { ...bytesHeaders(reached), 'content-length': String(byteSize - reached) },
            body: outgoing.body(reached),
            duplex: 'half',
          });
        const uploadId = upload.slice(upload.lastIndexOf('/') + 1);
        return storedIn(
          await request(door, pathOf(sha256), {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ uploadId }),
          }),
        );
      },
    };
  };

  /** To the bucket; from the moment at which that cannot be reached, or need not be, to the registry. */
  const uploadOf = (outgoing: Outgoing): Upload => {
    const { sha256, byteSize } = outgoing;
    if (byteSize < RESUMED_FROM_BYTES) return { send: () => sendWhole(outgoing), reachedBytes: () => 0 };
    const byRegistry = resumedUpload(outgoing);
    const direct = directUpload(outgoing, async (step, input) => {
      const response = await request(door, `${pathOf(sha256)}/direct/${step}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(input),
      }).catch((error: unknown) => {
        // A registry of an earlier version does not know it.
        if (step === 'begin' && error instanceof DomainError && error.code === 'NOT_FOUND') return null;
        throw error;
      });
      return response === null ? null : answerIn(response);
    });
    let isDirect = true;
    return {
      reachedBytes: () => (isDirect ? direct : byRegistry).reachedBytes(),
      send: async () => {
        if (isDirect && toBucket.isOpen()) {
          const reachedBefore = direct.reachedBytes();
          try {
            const stored = await direct.send();
            if (stored !== undefined) return stored;
          } catch (error) {
            if (direct.reachedBytes() > reachedBefore) toBucket.worked();
            if (error instanceof BucketFault) toBucket.failed(error);
            throw error;
          }
        }
        isDirect = false;
        return byRegistry.send();
      },
    };
  };

  const brokenOff = (what: string, cause: unknown): DomainError =>
    new DomainError({
      code: 'REGISTRY_UNREACHABLE',
      message: `${what}, ${BREAKS_MAX} times in a row, although the registry answers.`,
      hint: `Search the log of the server for this artifact, and that of a proxy in front of ${door.url}.`,
      retryable: true,
      cause,
    });

  return {
    put: async (source) => {
      const outgoing = await outgoingOf(source, workDir);
      const { sha256, byteSize } = outgoing;
      const upload = uploadOf(outgoing);
      try {
        let reachedBefore = 0;
        for (let breakCount = 1; ; breakCount += 1) {
          // Waits while the registry is away, and finds the bytes whose answer was lost.
          if ((await stat(sha256))?.byteSize === byteSize) return { sha256, byteSize };
          try {
            return await upload.send();
          } catch (error) {
            if (error instanceof BucketFault) {
              // Bounded by the way to the bucket, which is given up; the way by the registry has all its attempts left.
              await beforeRetry(error, patience.onWait);
              breakCount = 0;
              continue;
            }
            if (!isRegistryFault(error) && !isUnexplained(error)) throw error;
            if (upload.reachedBytes() > reachedBefore) breakCount = 1;
            reachedBefore = upload.reachedBytes();
            if (breakCount === BREAKS_MAX && isUnexplained(error)) throw error;
            if (breakCount === BREAKS_MAX)
              throw brokenOff(`The upload of artifact ${sha256} (${byteSize} bytes) breaks off`, error);
            await beforeRetry(error, patience.onWait);
          }
        }
      } finally {
        await outgoing.remove();
      }
    },
    stat,
    open: openBytes,
    scan: async (sha256, take) => {
      const byteSize = (await stat(sha256))?.byteSize ?? 0;
      if (byteSize < BLOCKWISE_BYTES_MIN) return scanStream({ open: openBytes }, sha256, take);
      let position = 0;
      await scanOnce(door, bytesPathOf(sha256, fromBucket), byteSize, (bytes) => {
        position += bytes.length;
        return take(bytes);
      });
      if (position === byteSize) return;
      for await (const chunk of bytesOf(sha256, position, byteSize - 1))
        await take(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    },
    read: (sha256) => readWhole({ open: openBytes }, sha256),
  };
}

/**
 * Passes the bytes of an artifact on, or the beginning of them: all that one connection brought. The registry may send
 * it to the store, which must not see the token.
 */
async function scanOnce({ url, token }: Door, path: string, byteSize: number, take: TakeBlock): Promise<void> {
  const limits = { byteSize, stallTimeoutMs: STALL_TIMEOUT_MS, take };
  const own = new URL(`${url}${path}`);
  const { head } = await readBody({ url: own, headers: { authorization: `Bearer ${token}` }, ...limits });
  const location = head?.status === 302 ? head.headers.get('location') : undefined;
  if (location !== undefined) await readBody({ url: new URL(location, own), ...limits });
}

function isAbsent(error: unknown): boolean {
  return error instanceof DomainError && ABSENT.has(error.code);
}

/** Also the end of a request that the registry still had when the next one for the same upload came. */
function isUnexplained(error: unknown): boolean {
  return error instanceof DomainError && error.code === 'INTERNAL';
}

/** Any error of a body that had begun: the connection broke, or the registry found the bytes damaged at their end. */
function isBroken(error: unknown): boolean {
  return error instanceof TypeError || (error instanceof Error && 'code' in error);
}

async function* prepended(
  first: IteratorResult<Uint8Array, void>,
  rest: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (first.done === true) return;
  yield first.value;
  yield* rest;
}
