/**
 * An artifact store in a bucket of any S3-compatible store. Keys below the prefix:
 *
 *   sha256/<aa>/<sha256>   artifacts; the same names as in a local store
 *   tmp/<writer>/<uuid>    bytes that are not published yet; <uuid>.upload names an unfinished multipart upload
 *   doomed/<sha256>        the artifact is being deleted
 *   quarantine/<sha256>    damaged artifacts
 *   store-id               the identity of the registry
 *   restoring              a restore was begun and has not ended
 *
 * Under its name there is never anything unfinished: a buffer, a file, or a stream whose name is known is sent to it by
 * one request, or by a multipart upload, which appears as a whole; any other stream is sent to a temporary key,
 * compared with what was sent, and copied to its name by the store itself. Storing the same bytes again overwrites
 * equal bytes by equal bytes, deliberately without a condition: it renews the time that garbage collection looks at,
 * and it repairs a damaged object.
 */
import { createHash, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { DomainError } from '../../errors.ts';
import type { TakeBlock } from '../http-body.ts';
import { streamOf } from './byte-source.ts';
import { createS3Requests, type ObjectFacts, type OpenedObject, type S3Place, type S3Requests } from './s3-client.ts';
import { createDirectUploads } from './s3-direct.ts';
import { isConditionFailed, isRangeAfterEnd, storeError } from './s3-errors.ts';
import { probeStore, type StoreAbilities } from './s3-probe.ts';
import {
  artifactCorrupt,
  artifactMissing,
  isSha256,
  isWanted,
  requireSha256,
  type ArtifactStore,
  type ByteRange,
  type ByteSource,
  type StoredBytes,
} from './store.ts';
import {
  abortNoted,
  hashedPartsOf,
  namePartsOf,
  openRereadable,
  openStreamParts,
  PART_BYTES,
  uploadParts,
  type HashedParts,
  type Rereadable,
  type StreamParts,
} from './s3-upload.ts';
import { createSha256 } from '../digest-thread.ts';
import type { UploadCheck } from './upload-check.ts';
import { readWhole, scanStream, verifyArtifact } from './verify.ts';

export interface S3Options {
  /** Names this process's unfinished uploads, so that they can be removed when it has ended. */
  readonly writer?: string;
  /** A connection without any byte for this long is given up, and the request repeated. */
  readonly stallTimeoutMs?: number;
}

/** How often reading continues after a broken connection without any progress. */
const RESUMES_MAX = 5;
const RESUME_PAUSE_MS = 100;
/** A deletion takes two requests. A mark that stays longer was left by a process that died. */
const DELETION_MAX_MS = 60_000;
const DELETION_POLL_MS = 250;
/** How often an artifact is published again because a garbage collection deleted it meanwhile. */
const PUBLICATIONS_MAX = 5;
const UNNAMED_WRITER = '-';
/** Uploads of processes without a writer name are removed when they are this old. */
const ABANDONED_MS = 24 * 3_600_000;
/** Workers ask every few seconds; what killed processes left costs a little money, and no correctness. */
const WRITERS_LISTED_EVERY_MS = 300_000;
const LINK_SECONDS = 900;
/** Hides the consumer's pauses from the connection. */
const READ_AHEAD_BYTES = 1024 * 1024;
/** Below it, a connection of its own costs more than it saves. */
const BLOCKWISE_BYTES_MIN = 4 * 1024 * 1024;

export interface S3ArtifactStore extends ArtifactStore {
  /** What the store honours, found out by the first call. Throws if the bucket cannot be used. */
  abilities(): Promise<StoreAbilities>;
}

export function openS3Store(place: S3Place, { writer = '', stallTimeoutMs }: S3Options = {}): S3ArtifactStore {
  const requests = createS3Requests(place, stallTimeoutMs === undefined ? {} : { stallTimeoutMs });
  const root = place.prefix === '' ? '' : `${place.prefix}/`;
  const location = `s3://${place.bucket}${place.prefix === '' ? '' : `/${place.prefix}`}`;
  const keyOf = (sha256: string): string => `${root}sha256/${requireSha256(sha256).slice(0, 2)}/${sha256}`;
  const quarantineKeyOf = (sha256: string): string => `${root}quarantine/${requireSha256(sha256)}`;
  const doomedKeyOf = (sha256: string): string => `${root}doomed/${sha256}`;
  const identityKey = `${root}store-id`;
  const restoringKey = `${root}restoring`;
  const unfinishedPrefix = `${root}tmp/`;

  let probing: Promise<StoreAbilities> | undefined;
  const abilities = (): Promise<StoreAbilities> => {
    // A failed probe is repeated by the next caller.
    probing ??= probeStore(requests, place, root).catch((error: unknown) => {
      probing = undefined;
      throw error;
    });
    return probing;
  };

  const open: ArtifactStore['open'] = async (sha256, range) => {
    const key = keyOf(sha256);
    const found = await requests.get(key, range).catch((error: unknown) => {
      throw isRangeAfterEnd(error) ? artifactCorrupt(sha256, error) : error;
    });
    if (found !== undefined)
      return Readable.from(resumed(requests, { key, sha256, found, range }), {
        ...{ objectMode: false, highWaterMark: READ_AHEAD_BYTES },
      });
    throw (await requests.head(quarantineKeyOf(sha256))) === undefined
      ? artifactMissing(sha256)
      : artifactCorrupt(sha256);
  };
  const self: Pick<ArtifactStore, 'open' | 'scan'> = {
    open,
    scan: async (sha256, take) => {
      const key = keyOf(sha256);
      const facts = await requests.head(key);
      // Opening it finds out why there is nothing.
      if (facts === undefined || facts.byteSize < BLOCKWISE_BYTES_MIN) await scanStream(self, sha256, take);
      else await scanObject(requests, { key, sha256, facts }, take);
    },
  };

  /** Bytes may also change on the way: only the second wrong reading in a row is damage. */
  const twice = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    try {
      return await work();
    } catch (error) {
      if (!isCorrupt(error)) throw error;
      return work();
    }
  };

  /**
   * Publishes, then makes sure that no deletion that had already looked at the old object removes the new one. A
   * deletion marks the name first, looks at the time, deletes, and unmarks: so it has either seen the new time, or its
   * mark is still there, or the object is already gone, and each of them is visible here in this order.
   */
  const publish = async (sha256: string, write: () => Promise<StoredBytes>): Promise<StoredBytes> => {
    const key = keyOf(sha256);
    for (let attempt = 1; attempt <= PUBLICATIONS_MAX; attempt += 1) {
      const written = await write();
      const { byteSize } = written;
      await deletionEnded(requests, doomedKeyOf(sha256));
      const found = await requests.head(key);
      if (found?.byteSize === byteSize) return written;
      if (found === undefined) continue;
      await requests.delete(key);
      throw brokenUpload(key, `${found.byteSize} of ${byteSize} bytes`);
    }
    throw new DomainError({
      code: 'STORE_INCOMPATIBLE',
      message: `The store of ${location} does not show ${key} after it was stored.`,
      field: 'PARAFFIN_ARTIFACTS_URL',
      hint: 'Paraffin needs a store that shows an object as soon as it has confirmed it.',
    });
  };

  const ownPrefix = `${unfinishedPrefix}${writer === '' ? UNNAMED_WRITER : writer}/`;

  /** One request, checked by the store: the object appears whole or not at all. */
  const putSmall = async (bytes: Uint8Array, { check, named }: Putting): Promise<StoredBytes> => {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const small = { sha256, byteSize: bytes.length };
    if (!isWanted(small, named)) return small;
    return publish(sha256, async () => {
      await requests.put(keyOf(sha256), bytes, { check });
      return small;
    });
  };

  const putRereadable = async (source: Rereadable, putting: Putting): Promise<StoredBytes> => {
    const { check, named } = putting;
    if (source.byteSize <= PART_BYTES) return putSmall(await source.part(0), putting);
    if (named !== undefined && isSha256(named)) return putNamed(() => hashedPartsOf(source), named, check);
    const { parts, ...stored } = await namePartsOf(source, check);
    if (!isWanted(stored, named)) return stored;
    const key = keyOf(stored.sha256);
    return publish(stored.sha256, async () => {
      await uploadParts(requests, { key, parts: parts(), check, notesPrefix: ownPrefix });
      return stored;
    });
  };

  /**
   * Straight to the name that the caller knows, hashed on the way: it appears only if the store checks the parts and
   * their digest is the name.
   */
  const putNamed = async (begin: () => HashedParts, named: string, check: UploadCheck): Promise<StoredBytes> => {
    const key = keyOf(named);
    const send = async (): Promise<StoredBytes> => {
      const { parts, stored } = begin();
      const requireName = async (): Promise<void> => {
        const arrived = await stored();
        if (!isWanted(arrived, named)) throw new OtherBytesError(arrived);
      };
      await uploadParts(requests, {
        ...{ key, parts: parts(), check, notesPrefix: ownPrefix },
        beforeCompletion: requireName,
      });
      return stored();
    };
    try {
      return await publish(named, send);
    } catch (error) {
      if (!(error instanceof OtherBytesError)) throw error;
      return error.stored;
    }
  };

  const putStream = async (
    source: NodeJS.ReadableStream | AsyncIterable<Uint8Array>,
    putting: Putting,
  ): Promise<StoredBytes> => {
    const { check, named } = putting;
    // An upload that cannot begin takes no further part, and would leave the source open.
    await using opened = await openStreamParts(source);
    const { first, isWhole } = opened;
    if (isWhole && check !== 'NONE') return putSmall(first, putting);
    // Awaited here: the stream is ended when this function is left.
    if (named !== undefined && isSha256(named) && check !== 'NONE')
      return await putNamed(onlyOnce(opened, keyOf(named)), named, check);
    const temporaryKey = `${ownPrefix}${randomUUID()}`;
    try {
      if (isWhole) await requests.put(temporaryKey, first);
      else await uploadParts(requests, { key: temporaryKey, parts: opened.parts(), check, notesPrefix: ownPrefix });
      const stored = await opened.stored();
      const { sha256, byteSize } = stored;
      if (!isWanted(stored, named)) return stored;
      await requireUploaded(requests, temporaryKey, stored, check === 'NONE');
      return await publish(sha256, async () => {
        await requests.copy(temporaryKey, keyOf(sha256), byteSize);
        return stored;
      });
    } finally {
      // What stays after a failure here is removed when the writer's process has ended.
      await requests.delete(temporaryKey).catch(() => undefined);
    }
  };

  const put = async (source: ByteSource, named?: string): Promise<StoredBytes> => {
    const { uploadCheck } = await abilities();
    const putting = { check: uploadCheck, named };
    // What a store does not check is read back before it gets its name.
    if (uploadCheck === 'NONE') return putStream(streamOf(source), putting);
    await using rereadable = await openRereadable(source);
    if (rereadable === undefined) return putStream(streamOf(source), putting);
    // Awaited here, because the file is closed at the end of this block.
    return await putRereadable(rereadable, putting);
  };

  const stat = async (sha256: string): Promise<ObjectFacts | undefined> => requests.head(keyOf(sha256));

  const abortUploads = async (prefix: string, before: Date): Promise<void> => {
    for (const { key, uploadId, begunAt } of await requests.openUploads(prefix))
      if (begunAt < before) await requests.abortUpload(key, uploadId);
  };
  const removeUploads = async (prefix: string, before: Date): Promise<void> => {
    await abortUploads(prefix, before);
    for await (const { key, writtenAt } of requests.list(prefix)) {
      if (writtenAt >= before) continue;
      await abortNoted(requests, key);
      await requests.delete(key);
    }
  };
  let writersListedMs = Number.NEGATIVE_INFINITY;

  return {
    location,
    abilities,
    put,
    stat: async (sha256) => {
      const found = await stat(sha256);
      return found === undefined ? undefined : { byteSize: found.byteSize, writtenAt: found.writtenAt };
    },
    ...self,
    read: (sha256) => twice(() => readWhole(self, sha256)),
    list: async function* () {
      for await (const { key, byteSize, writtenAt } of requests.list(`${root}sha256/`)) {
        const name = key.slice(key.lastIndexOf('/') + 1);
        const isArtifact = isSha256(name) && key === keyOf(name);
        yield { path: `s3://${place.bucket}/${key}`, sha256: isArtifact ? name : undefined, byteSize, writtenAt };
      }
    },
    delete: async (sha256, unlessSince) => {
      const isOld = async (): Promise<boolean> => {
        const found = await stat(sha256);
        return found !== undefined && found.writtenAt < unlessSince;
      };
      if (!(await isOld())) return false;
      const mark = doomedKeyOf(sha256);
      await requests.put(mark, Buffer.alloc(0));
      try {
        const deadlineMs = performance.now() + DELETION_MAX_MS / 2;
        if (!(await isOld()) || performance.now() > deadlineMs) return false;
        await requests.delete(keyOf(sha256));
        return true;
      } finally {
        await requests.delete(mark);
      }
    },
    link: (sha256, { mediaType, disposition }) =>
      requests.link(keyOf(sha256), { mediaType, disposition, lifetimeSeconds: LINK_SECONDS }),
    direct: createDirectUploads({
      ...{ requests, abilities, publish, keyOf, lifetimeSeconds: LINK_SECONDS },
      prefixOf: (name) => `${unfinishedPrefix}${name}/`,
      digestOf: (key, facts) => digestOfObject(requests, key, facts),
    }),
    upkeep: {
      requireUsable: async () => void (await abilities()),
      readIdentity: async () => {
        const found = await requests.get(identityKey);
        if (found === undefined) return undefined;
        const chunks: Buffer[] = [];
        for await (const chunk of found.body) chunks.push(chunk);
        return Buffer.concat(chunks).toString('utf8').trim();
      },
      writeIdentity: async (storeId) => {
        const { conditionalPut } = await abilities();
        const bytes = Buffer.from(`${storeId}\n`);
        if (!conditionalPut) {
          await requests.put(identityKey, bytes);
          return;
        }
        await requests.put(identityKey, bytes, { onlyIfAbsent: true }).catch((error: unknown) => {
          if (!isConditionFailed(error))
            throw storeError(error, {
              ...place,
              endpoint: place.endpoint,
              region: place.region,
              key: identityKey,
              isWrite: true,
            });
          // Another server has just claimed the bucket; the caller reads whose it is.
        });
      },
      markRestoring: (isRestoring) =>
        isRestoring ? requests.put(restoringKey, Buffer.alloc(0)) : requests.delete(restoringKey),
      isRestoring: async () => (await requests.head(restoringKey)) !== undefined,
      quarantine: async (sha256) => {
        requireSha256(sha256);
        const isDamaged = await twice(() => verifyArtifact(self, sha256)).then(() => false, isCorrupt);
        const found = isDamaged ? await stat(sha256) : undefined;
        if (found === undefined) return false;
        try {
          await requests.copy(keyOf(sha256), quarantineKeyOf(sha256), found.byteSize);
        } catch (error) {
          // Two readers found the same damage, and the other one has just moved it.
          if ((await stat(sha256)) === undefined) return false;
          throw error;
        }
        await requests.delete(keyOf(sha256));
        return true;
      },
      quarantined: async () => {
        let sum = { fileCount: 0, byteSize: 0 };
        for await (const { byteSize } of requests.list(`${root}quarantine/`))
          sum = { fileCount: sum.fileCount + 1, byteSize: sum.byteSize + byteSize };
        return sum;
      },
      unfinishedWriters: async () => {
        if (performance.now() - writersListedMs < WRITERS_LISTED_EVERY_MS) return [];
        writersListedMs = performance.now();
        const uploads = await requests.openUploads(unfinishedPrefix);
        const names = uploads.map(({ key }) => key.slice(unfinishedPrefix.length).split('/')[0] ?? '');
        return [...new Set([...(await requests.folders(unfinishedPrefix)), ...names])].filter(
          (name) => name !== UNNAMED_WRITER,
        );
      },
      removeUnfinished: (name) => removeUploads(`${unfinishedPrefix}${name}/`, new Date(8.64e15)),
      removeAbandoned: async () => {
        const before = new Date(Date.now() - ABANDONED_MS);
        await removeUploads(`${unfinishedPrefix}${UNNAMED_WRITER}/`, before);
        // A process that was killed between beginning an upload and noting it left no note.
        await abortUploads(`${root}sha256/`, before);
      },
    },
  };
}

interface Putting {
  readonly check: UploadCheck;
  /** See `ArtifactStore.put`. */
  readonly named: string | undefined;
}

/** What was sent has another digest than its name. */
class OtherBytesError extends Error {
  override readonly name = 'OtherBytesError';
  readonly stored: StoredBytes;

  constructor(stored: StoredBytes) {
    super();
    this.stored = stored;
  }
}

/** A stream comes once: deleted in this very moment, its artifact must be stored again by whoever has the bytes. */
function onlyOnce(stream: StreamParts, key: string): () => HashedParts {
  let hasBegun = false;
  return () => {
    if (hasBegun) throw brokenUpload(key, 'no bytes');
    hasBegun = true;
    return stream;
  };
}

function isCorrupt(error: unknown): boolean {
  return error instanceof DomainError && error.code === 'ARTIFACT_CORRUPT';
}

interface Reading {
  readonly key: string;
  readonly sha256: string;
  readonly found: OpenedObject;
  readonly range: ByteRange | undefined;
}

/**
 * The bytes of an object. After a broken connection, reading continues where it was: at the same object, so that bytes
 * of two objects are never mixed.
 * @throws DomainError ARTIFACT_CORRUPT if the object was replaced meanwhile, STORE_UNREACHABLE after a bounded number
 * of attempts without progress.
 */
async function* resumed(requests: S3Requests, { key, sha256, found, range }: Reading): AsyncGenerator<Buffer> {
  let position = range?.first ?? 0;
  const end = position + found.byteSize;
  let body = found.body;
  try {
    for (let attempt = 0; ; attempt += 1) {
      try {
        for await (const chunk of body) {
          const bytes: Buffer = chunk;
          position += bytes.length;
          attempt = 0;
          yield bytes;
        }
        if (position === end) return;
        throw new Error('the connection ended too early');
      } catch (error) {
        if (error instanceof DomainError) throw error;
        if (position >= end) throw artifactCorrupt(sha256, error);
        if (attempt >= RESUMES_MAX) throw unreachable(key, error);
      }
      body.destroy();
      await pause(Math.random() * RESUME_PAUSE_MS * 2 ** attempt);
      body = await reopened(requests, { key, sha256, etag: found.etag, first: position, last: end - 1 });
    }
  } finally {
    body.destroy();
  }
}

/**
 * Passes a whole object on in blocks. What a store does not send so, or what a broken connection leaves, is read as a
 * stream.
 */
async function scanObject(
  requests: S3Requests,
  { key, sha256, facts }: { readonly key: string; readonly sha256: string; readonly facts: ObjectFacts },
  take: TakeBlock,
): Promise<void> {
  let position = 0;
  await requests.scan(key, facts, (bytes) => {
    position += bytes.length;
    return take(bytes);
  });
  if (position === facts.byteSize) return;
  const range = { first: position, last: facts.byteSize - 1 };
  const body = await reopened(requests, { key, sha256, etag: facts.etag, ...range });
  const found = { ...facts, byteSize: facts.byteSize - position, body };
  for await (const chunk of resumed(requests, { key, sha256, found, range })) await take(chunk);
}

async function digestOfObject(requests: S3Requests, key: string, facts: ObjectFacts): Promise<string> {
  const digest = createSha256();
  await scanObject(requests, { key, sha256: key, facts }, (bytes) => digest.update(bytes));
  return digest.digest();
}

async function reopened(
  requests: S3Requests,
  at: {
    readonly key: string;
    readonly sha256: string;
    readonly etag: string;
    readonly first: number;
    readonly last: number;
  },
): Promise<Readable> {
  try {
    const again = await requests.get(at.key, { first: at.first, last: at.last }, at.etag);
    if (again === undefined) throw artifactMissing(at.sha256);
    return again.body;
  } catch (error) {
    throw isConditionFailed(error) || isRangeAfterEnd(error) ? artifactCorrupt(at.sha256, error) : error;
  }
}

function unreachable(key: string, cause: unknown): DomainError {
  return new DomainError({
    code: 'STORE_UNREACHABLE',
    message: `The connection to the artifact store broke off while ${key} was read.`,
    field: 'PARAFFIN_ARTIFACTS_URL',
    hint: 'Check the network between this machine and the store; the same request may succeed later.',
    retryable: true,
    cause,
  });
}

/**
 * Compares what arrived with what was sent, before it gets its name.
 * @param readsBack true for a store that does not check what it receives.
 */
async function requireUploaded(
  requests: S3Requests,
  key: string,
  sent: StoredBytes,
  readsBack: boolean,
): Promise<void> {
  const found = await requests.head(key);
  if (found?.byteSize !== sent.byteSize)
    throw brokenUpload(key, `${found?.byteSize ?? 'no'} of ${sent.byteSize} bytes`);
  if (!readsBack || sent.byteSize === 0) return;
  const opened = await requests.get(key);
  if (opened === undefined) throw brokenUpload(key, 'no bytes');
  const hash = createHash('sha256');
  for await (const chunk of resumed(requests, { key, sha256: sent.sha256, found: opened, range: undefined }))
    hash.update(chunk);
  if (hash.digest('hex') !== sent.sha256) throw brokenUpload(key, 'other bytes');
}

function brokenUpload(key: string, what: string): DomainError {
  return new DomainError({
    code: 'STORE_UNREACHABLE',
    message: `The artifact store received ${what} for ${key}, which was therefore not published.`,
    field: 'PARAFFIN_ARTIFACTS_URL',
    hint: 'Check the network between this machine and the store; the same request may succeed later.',
    retryable: true,
  });
}

/** Waits while a garbage collection deletes the artifact; a mark that a dead process left is ignored after a while. */
async function deletionEnded(requests: S3Requests, doomedKey: string): Promise<void> {
  const deadlineMs = performance.now() + DELETION_MAX_MS;
  while ((await requests.head(doomedKey)) !== undefined && performance.now() < deadlineMs)
    await pause(DELETION_POLL_MS);
}
