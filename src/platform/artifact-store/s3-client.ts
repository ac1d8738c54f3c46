/**
 * Requests to an S3-compatible store: signed when they are sent and again at each retry, a bounded number of attempts
 * with jitter (the SDK's standard retry), and errors for users.
 *
 * The SDK (Apache-2.0) rather than signing of our own: its chain of credentials covers profiles, SSO, IMDS, ECS and
 * IRSA, renews them before they expire, and it corrects a skewed clock by the store's.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { DomainError } from '../../errors.ts';
import { readBody, type TakeBlock } from '../http-body.ts';
import { isAbsent, isConditionFailed, isRangeAfterEnd, isRefusal, storeError } from './s3-errors.ts';
import type { ByteRange, PartToSign, SignedPart } from './store.ts';
import { checksumOf, type UploadCheck } from './upload-check.ts';

/** Where a store is. Credentials are never part of it: they come from the standard chain of AWS. */
export interface S3Place {
  readonly bucket: string;
  /** Without slashes at either end; empty for the whole bucket. */
  readonly prefix: string;
  /** Undefined for Amazon. */
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  readonly pathStyle: boolean;
}

export interface ObjectFacts {
  readonly byteSize: number;
  readonly writtenAt: Date;
  /** The store's own tag; changes when the object is replaced by other bytes. */
  readonly etag: string;
}

export interface OpenedObject extends ObjectFacts {
  readonly body: Readable;
}

export interface ListedObject {
  readonly key: string;
  readonly byteSize: number;
  readonly writtenAt: Date;
}

export interface OutgoingPart {
  /** From 1. */
  readonly partNumber: number;
  readonly bytes: Uint8Array;
  /** What `checksumOf` returned for the bytes when their sha256 was computed; default: that of the bytes now. */
  readonly checksum?: string | undefined;
  /** Called once the bytes are no longer used. */
  readonly release?: () => void;
}

export interface UploadedPart {
  readonly partNumber: number;
  readonly etag: string;
}

export interface LinkOptions {
  readonly mediaType: string;
  /** The value of Content-Disposition. */
  readonly disposition: string | undefined;
  readonly lifetimeSeconds: number;
}

/** Functions that find nothing return undefined; every other failure is a DomainError. */
export interface S3Requests {
  head(key: string): Promise<ObjectFacts | undefined>;
  /**
   * @param etag the object must still have this tag. @throws the SDK's error for a range after the end of the object,
   * and for another tag.
   */
  get(key: string, range?: ByteRange, etag?: string): Promise<OpenedObject | undefined>;
  /**
   * Passes the bytes of the object on that has these facts, or the beginning of them: all that came by one connection.
   * @throws what `take` throws.
   */
  scan(key: string, facts: ObjectFacts, take: TakeBlock): Promise<void>;
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<void>;
  copy(from: string, to: string, byteSize: number): Promise<void>;
  delete(key: string): Promise<void>;
  list(prefix: string): AsyncGenerator<ListedObject>;
  /** The names of the folders directly below a prefix, which ends in a slash. */
  folders(prefix: string): Promise<string[]>;
  createUpload(key: string): Promise<string>;
  uploadPart(key: string, uploadId: string, part: OutgoingPart, check: UploadCheck): Promise<UploadedPart>;
  /** An address at which the store takes this part. */
  linkPart(key: string, uploadId: string, part: PartToSign, options: PartLinkOptions): Promise<SignedPart>;
  completeUpload(key: string, uploadId: string, parts: readonly UploadedPart[]): Promise<void>;
  abortUpload(key: string, uploadId: string): Promise<void>;
  /** Multipart uploads that were begun and neither completed nor aborted. */
  openUploads(prefix: string): Promise<{ readonly key: string; readonly uploadId: string; readonly begunAt: Date }[]>;
  link(key: string, options: LinkOptions): Promise<string>;
}

export interface PartLinkOptions {
  readonly check: UploadCheck;
  readonly lifetimeSeconds: number;
}

export interface PutOptions {
  readonly check?: UploadCheck;
  /** Fails with the SDK's error if the key exists; honoured by some stores only. */
  readonly onlyIfAbsent?: boolean;
  /** Replaces the right checksum, to find out whether the store looks at it. */
  readonly checksum?: string;
}

/** Attempts of one request in all; with the SDK's back-off from 50 ms to 20 s and full jitter. */
const ATTEMPTS_MAX = 5;
const CONNECT_TIMEOUT_MS = 10_000;
/** A connection without any byte for this long is given up, and the request repeated. */
export const STALL_TIMEOUT_MS = 30_000;
/** More than one upload and a few readers use. */
const CONNECTIONS = { keepAlive: true, maxSockets: 64 };
/** Amazon copies at most 5 GB in one request. */
const COPY_BYTES_MAX = 5_000_000_000;
const COPY_PART_BYTES = 1024 ** 3;
/** For an address that is used at once. */
const OWN_LINK_SECONDS = 300;
/** For a store that is not Amazon's, a region is only part of the signature. */
const ANY_REGION = 'us-east-1';

export function createS3Requests(place: S3Place, { stallTimeoutMs = STALL_TIMEOUT_MS } = {}): S3Requests {
  const region = place.region ?? (place.endpoint === undefined ? undefined : ANY_REGION);
  const client = new S3Client({
    ...(region === undefined ? {} : { region }),
    ...(place.endpoint === undefined ? {} : { endpoint: place.endpoint }),
    forcePathStyle: place.pathStyle,
    maxAttempts: ATTEMPTS_MAX,
    retryMode: 'standard',
    // The SDK's default checksums break stores that do not know them; we send those that the store honours.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: stallTimeoutMs,
      // Agents, not their options: the SDK opens a connection for each part of an upload if it may make agents itself.
      httpAgent: new HttpAgent(CONNECTIONS),
      httpsAgent: new HttpsAgent(CONNECTIONS),
    },
    // Each part would wait for it, and a store that refuses an upload refuses its creation.
    expectContinueHeader: false,
  });
  // Where the store checks a checksum, signing a second digest of the same bytes would only cost time.
  client.middlewareStack.add(
    (next) => (args) => {
      const { request } = args;
      if (
        typeof request === 'object' &&
        request !== null &&
        'headers' in request &&
        isHeaders(request.headers) &&
        (request.headers['x-amz-checksum-crc32'] !== undefined || request.headers['content-md5'] !== undefined)
      )
        request.headers['x-amz-content-sha256'] ??= 'UNSIGNED-PAYLOAD';
      return next(args);
    },
    { step: 'build', name: 'unsignedWhereChecked', priority: 'low' },
  );
  const { bucket } = place;
  const inBucket = { Bucket: bucket };
  const failing = (error: unknown, key: string | undefined, isWrite: boolean): DomainError =>
    storeError(error, {
      ...{ bucket, endpoint: place.endpoint, region, isWrite },
      ...(key === undefined ? {} : { key }),
    });
  const reading = async <Result>(key: string | undefined, request: Promise<Result>): Promise<Result> =>
    request.catch((error: unknown) => {
      throw failing(error, key, false);
    });
  const writing = async <Result>(key: string, request: Promise<Result>): Promise<Result> =>
    request.catch((error: unknown) => {
      throw failing(error, key, true);
    });
  const ifPresent = async <Result>(key: string, request: Promise<Result>): Promise<Result | undefined> =>
    request.catch((error: unknown) => {
      if (isAbsent(error)) return undefined;
      throw failing(error, key, false);
    });

  const requests: S3Requests = {
    head: async (key) => {
      const found = await client
        .send(new HeadObjectCommand({ ...inBucket, Key: key }))
        .catch(async (error: unknown) => {
          if (isAbsent(error)) return undefined;
          // An answer to HEAD has no body; GET returns the reason, or fails in the same way.
          if (isRefusal(error)) (await requests.get(key))?.body.destroy();
          throw failing(error, key, false);
        });
      return found === undefined ? undefined : factsOf(found);
    },
    get: async (key, range, etag) => {
      const command = new GetObjectCommand({
        ...{ ...inBucket, Key: key },
        ...(range === undefined ? {} : { Range: `bytes=${range.first}-${range.last}` }),
        ...(etag === undefined ? {} : { IfMatch: etag }),
      });
      const found = await client.send(command).catch((error: unknown) => {
        if (isAbsent(error)) return undefined;
        throw isConditionFailed(error) || isRangeAfterEnd(error) ? error : failing(error, key, false);
      });
      if (found === undefined) return undefined;
      const { Body: body } = found;
      if (!isReadable(body)) throw failing(new Error('the answer has no body'), key, false);
      if (range !== undefined && !(found.ContentRange ?? '').startsWith(`bytes ${range.first}-`)) {
        body.destroy();
        throw new DomainError({
          code: 'STORE_INCOMPATIBLE',
          message: `The store of bucket ${bucket} does not send parts of objects.`,
          field: 'PARAFFIN_ARTIFACTS_URL',
          hint: 'Check whether a proxy in front of the store removes Range requests.',
        });
      }
      return { ...factsOf(found), body };
    },
    scan: async (key, { byteSize, etag }, take) => {
      const command = new GetObjectCommand({ ...inBucket, Key: key });
      const url = await reading(key, getSignedUrl(client, command, { expiresIn: OWN_LINK_SECONDS }));
      const headers = { 'if-match': etag };
      await readBody({ url: new URL(url), headers, byteSize, stallTimeoutMs, take });
    },
    put: async (key, bytes, { check = 'NONE', onlyIfAbsent = false, checksum } = {}) => {
      const command = new PutObjectCommand({
        ...{ ...inBucket, Key: key, Body: bytes, ContentLength: bytes.length },
        ...checksumHeader(check, checksum ?? checksumOf(bytes, check)),
        ...(onlyIfAbsent ? { IfNoneMatch: '*' } : {}),
      });
      const sent = client.send(command);
      await (onlyIfAbsent || checksum !== undefined ? sent : writing(key, sent));
    },
    copy: async (from, to, byteSize) => {
      const source = { CopySource: `${bucket}/${from.split('/').map(encodeURIComponent).join('/')}` };
      if (byteSize <= COPY_BYTES_MAX) {
        await writing(to, client.send(new CopyObjectCommand({ ...inBucket, ...source, Key: to })));
        return;
      }
      const uploadId = await requests.createUpload(to);
      try {
        const parts: UploadedPart[] = [];
        for (let first = 0; first < byteSize; first += COPY_PART_BYTES) {
          const partNumber = parts.length + 1;
          const last = Math.min(first + COPY_PART_BYTES, byteSize) - 1;
          const command = new UploadPartCopyCommand({
            ...{ ...inBucket, ...source, Key: to, UploadId: uploadId, PartNumber: partNumber },
            CopySourceRange: `bytes=${first}-${last}`,
          });
          const { CopyPartResult: copied } = await writing(to, client.send(command));
          parts.push({ partNumber, etag: copied?.ETag ?? '' });
        }
        await requests.completeUpload(to, uploadId, parts);
      } catch (error) {
        await requests.abortUpload(to, uploadId).catch(() => undefined);
        throw error;
      }
    },
    delete: async (key) => {
      await writing(key, client.send(new DeleteObjectCommand({ ...inBucket, Key: key })));
    },
    list: async function* (prefix) {
      let after: string | undefined;
      do {
        const page = await reading(
          undefined,
          client.send(
            new ListObjectsV2Command({
              ...{ ...inBucket, Prefix: prefix },
              ...(after === undefined ? {} : { ContinuationToken: after }),
            }),
          ),
        );
        for (const { Key: key, Size: byteSize, LastModified: writtenAt } of page.Contents ?? [])
          if (key !== undefined && byteSize !== undefined && writtenAt !== undefined)
            yield { key, byteSize, writtenAt };
        after = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      } while (after !== undefined);
    },
    folders: async (prefix) => {
      const page = await reading(
        undefined,
        client.send(new ListObjectsV2Command({ ...inBucket, Prefix: prefix, Delimiter: '/' })),
      );
      return (page.CommonPrefixes ?? []).flatMap(({ Prefix: folder }) =>
        folder === undefined ? [] : [folder.slice(prefix.length, -1)],
      );
    },
    createUpload: async (key) => {
      const { UploadId: uploadId, $metadata: sent } = await writing(
        key,
        client.send(new CreateMultipartUploadCommand({ ...inBucket, Key: key })),
      );
      if (uploadId === undefined) throw failing(new Error('the answer has no UploadId'), key, true);
      // An attempt whose answer was lost began an upload that nobody else would end. Another process that stores the
      // same bytes in this moment loses its upload too: its NoSuchUpload is retryable.
      if ((sent.attempts ?? 1) > 1)
        for (const other of await requests.openUploads(key))
          if (other.key === key && other.uploadId !== uploadId) await requests.abortUpload(key, other.uploadId);
      return uploadId;
    },
    uploadPart: async (key, uploadId, { partNumber, bytes, checksum }, check) => {
      const { ETag: etag } = await writing(
        key,
        client.send(
          new UploadPartCommand({
            ...{ ...inBucket, Key: key, UploadId: uploadId, PartNumber: partNumber },
            ...{ Body: bytes, ContentLength: bytes.length },
            ...checksumHeader(check, checksum ?? checksumOf(bytes, check)),
          }),
        ),
      );
      return { partNumber, etag: etag ?? '' };
    },
    linkPart: async (key, uploadId, { partNumber, checksum }, { check, lifetimeSeconds }) => {
      const headers = checksumHeadersOnWire(check, checksum);
      const command = new UploadPartCommand({
        ...{ ...inBucket, Key: key, UploadId: uploadId, PartNumber: partNumber },
        ...checksumHeader(check, checksum),
      });
      // In the address, not every store would look at the checksum; as a signed header it is required.
      const unhoistableHeaders = new Set(Object.keys(headers));
      const link = getSignedUrl(client, command, { expiresIn: lifetimeSeconds, unhoistableHeaders });
      return { url: await reading(key, link), headers };
    },
    completeUpload: async (key, uploadId, parts) => {
      const Parts = parts.map(({ partNumber, etag }) => ({ PartNumber: partNumber, ETag: etag }));
      const command = new CompleteMultipartUploadCommand({
        ...{ ...inBucket, Key: key, UploadId: uploadId },
        MultipartUpload: { Parts },
      });
      await client.send(command).catch(async (error: unknown) => {
        // The answer to the first attempt was lost, and some stores then no longer know the upload.
        if (!isAbsent(error) || (await requests.head(key)) === undefined) throw failing(error, key, true);
      });
    },
    abortUpload: async (key, uploadId) => {
      await ifPresent(key, client.send(new AbortMultipartUploadCommand({ ...inBucket, Key: key, UploadId: uploadId })));
    },
    openUploads: async (prefix) => {
      const { Uploads: uploads = [] } = await reading(
        undefined,
        client.send(new ListMultipartUploadsCommand({ ...inBucket, Prefix: prefix })),
      );
      return uploads.flatMap(({ Key: key, UploadId: uploadId, Initiated: begunAt }) =>
        key === undefined || uploadId === undefined || !key.startsWith(prefix)
          ? []
          : [{ key, uploadId, begunAt: begunAt ?? new Date(0) }],
      );
    },
    link: async (key, { mediaType, disposition, lifetimeSeconds }) =>
      reading(
        key,
        getSignedUrl(
          client,
          new GetObjectCommand({
            ...{ ...inBucket, Key: key, ResponseContentType: mediaType },
            ...(disposition === undefined ? {} : { ResponseContentDisposition: disposition }),
          }),
          { expiresIn: lifetimeSeconds },
        ),
      ),
  };
  return requests;
}

function factsOf(answer: {
  readonly ContentLength?: number | undefined;
  readonly LastModified?: Date | undefined;
  readonly ETag?: string | undefined;
}): ObjectFacts {
  return {
    byteSize: answer.ContentLength ?? 0,
    writtenAt: answer.LastModified ?? new Date(0),
    etag: answer.ETag ?? '',
  };
}

function checksumHeader(
  check: UploadCheck,
  checksum: string,
): { readonly ChecksumCRC32?: string; readonly ContentMD5?: string } {
  switch (check) {
    case 'CRC32':
      return { ChecksumCRC32: checksum };
    case 'MD5':
      return { ContentMD5: checksum };
    case 'NONE':
      return {};
  }
}

/** As `checksumHeader`, by the names of HTTP. */
function checksumHeadersOnWire(check: UploadCheck, checksum: string): Record<string, string> {
  switch (check) {
    case 'CRC32':
      return { 'x-amz-checksum-crc32': checksum };
    case 'MD5':
      return { 'content-md5': checksum };
    case 'NONE':
      return {};
  }
}

function isHeaders(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null;
}

function isReadable(body: unknown): body is Readable {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body && 'destroy' in body;
}
