/**
 * What an S3-compatible store says, as errors for the person who runs the registry: each names bucket and key, and says
 * what to do. The codes of stores are those of Amazon's API reference, "Error responses"; other stores add few.
 */
import { DomainError, type ErrorCode } from '../../errors.ts';

/** The fields of an error of the SDK that matter here. */
interface StoreAnswer {
  readonly name: string;
  readonly message: string;
  readonly status: number | undefined;
}

interface Meaning {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly retryable?: boolean;
}

/** Where the request went, for the message. */
export interface RequestPlace {
  readonly bucket: string;
  readonly key?: string;
  /** Undefined for Amazon itself. */
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly isWrite: boolean;
}

const NOT_FOUND_NAMES: ReadonlySet<string> = new Set(['NoSuchKey', 'NotFound', 'NoSuchUpload']);
const SKEW_NAMES: ReadonlySet<string> = new Set(['RequestTimeTooSkewed', 'RequestExpired', 'RequestInTheFuture']);
const WRONG_KEY_NAMES: ReadonlySet<string> = new Set([
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'InvalidSignatureException',
  'AuthFailure',
  'InvalidToken',
  'UnrecognizedClientException',
]);
const EXPIRED_NAMES: ReadonlySet<string> = new Set(['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired']);
const FULL_NAMES: ReadonlySet<string> = new Set([
  'QuotaExceeded',
  'InsufficientCapacity',
  'XMinioStorageFull',
  'XMinioAdminBucketQuotaExceeded',
  'InsufficientStorage',
]);
const CHANGED_NAMES: ReadonlySet<string> = new Set([
  'BadDigest',
  'InvalidDigest',
  'XAmzContentChecksumMismatch',
  'XAmzContentSHA256Mismatch',
]);
const REGION_NAMES: ReadonlySet<string> = new Set([
  'PermanentRedirect',
  'TemporaryRedirect',
  'Redirect',
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
]);
/** An upload is completed with parts that the store does not have, or not as they are named. */
const PART_NAMES: ReadonlySet<string> = new Set(['InvalidPart', 'InvalidPartOrder', 'EntityTooSmall']);
/** Read-only stores and buckets differ in what they say. */
const READ_ONLY_NAMES: ReadonlySet<string> = new Set(['MethodNotAllowed', 'XMinioObjectTampered', 'ReadOnly']);

function answerOf(error: unknown): StoreAnswer {
  const status =
    typeof error === 'object' && error !== null && '$metadata' in error ? statusOf(error.$metadata) : undefined;
  return error instanceof Error
    ? { name: error.name, message: error.message, status }
    : { name: 'Unknown', message: String(error), status };
}

function statusOf(metadata: unknown): number | undefined {
  return typeof metadata === 'object' &&
    metadata !== null &&
    'httpStatusCode' in metadata &&
    typeof metadata.httpStatusCode === 'number'
    ? metadata.httpStatusCode
    : undefined;
}

/** True if the object does not exist. A missing bucket is another matter. */
export function isAbsent(error: unknown): boolean {
  const { name, status } = answerOf(error);
  return NOT_FOUND_NAMES.has(name) || (status === 404 && name !== 'NoSuchBucket');
}

/** True if a condition of the request (If-Match, If-None-Match) did not hold. */
export function isConditionFailed(error: unknown): boolean {
  const { name, status } = answerOf(error);
  return status === 412 || name === 'PreconditionFailed';
}

/** True if the requested range begins after the end of the object. */
export function isRangeAfterEnd(error: unknown): boolean {
  const { name, status } = answerOf(error);
  return status === 416 || name === 'InvalidRange';
}

/** True if the store refused the request, as opposed to a store that failed or did not answer. */
export function isRefusal(error: unknown): boolean {
  const { status } = answerOf(error);
  return status !== undefined && status >= 400 && status < 500;
}

/**
 * @param error of the SDK, after its retries.
 * @returns the error for users; an error that is a DomainError already is returned as it is.
 */
export function storeError(error: unknown, place: RequestPlace): DomainError {
  if (error instanceof DomainError) return error;
  return new DomainError({ ...meaningOf(answerOf(error), place), field: 'PARAFFIN_ARTIFACTS_URL', cause: error });
}

function meaningOf({ name, message, status }: StoreAnswer, place: RequestPlace): Meaning {
  const { bucket, key, endpoint, region, isWrite } = place;
  const where = key === undefined ? `bucket ${bucket}` : `${key} in bucket ${bucket}`;
  const store = endpoint ?? 'Amazon S3';
  if (name === 'NoSuchBucket')
    return {
      code: 'STORE_BUCKET_NOT_FOUND',
      message: `The bucket ${bucket} does not exist at ${store}.`,
      hint: 'Create the bucket, or correct PARAFFIN_ARTIFACTS_URL or PARAFFIN_S3_ENDPOINT.',
    };
  if (REGION_NAMES.has(name) || status === 301 || status === 307)
    return {
      code: 'STORE_REGION_MISMATCH',
      message: `The bucket ${bucket} is in another region than ${region ?? 'the configured one'}.`,
      hint: `Set PARAFFIN_S3_REGION to the region of the bucket. The store says: ${message}`,
    };
  if (SKEW_NAMES.has(name) || /request time.*(skew|too large)|expired.*clock/i.test(message))
    return {
      code: 'STORE_CLOCK_SKEWED',
      message: `The clock of this machine differs too much from that of ${store}, which therefore refuses ${where}.`,
      hint: 'Synchronise the clock of this machine (NTP); the access key may be right.',
    };
  if (EXPIRED_NAMES.has(name))
    return {
      code: 'STORE_CREDENTIALS_EXPIRED',
      message: `The credentials for bucket ${bucket} have expired.`,
      hint: 'Renew them (aws sso login, or the role of this machine), then try again.',
      retryable: true,
    };
  if (WRONG_KEY_NAMES.has(name))
    return {
      code: 'STORE_CREDENTIALS_INVALID',
      message: `${store} does not accept the access key for bucket ${bucket}: ${name}.`,
      hint: 'Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names.',
    };
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError')
    return {
      code: 'STORE_CREDENTIALS_INVALID',
      message: `No credentials were found for bucket ${bucket}.`,
      hint: 'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give this machine a role.',
    };
  if (CHANGED_NAMES.has(name))
    return {
      code: 'STORE_UNREACHABLE',
      message: `${store} received other bytes than were sent for ${where}, and refused them.`,
      hint: 'Check the network between this machine and the store, and that the file is not written to meanwhile.',
      retryable: true,
    };
  if (name === 'NoSuchUpload')
    return {
      code: 'STORE_UNREACHABLE',
      message: `${store} no longer knows the upload of ${where}: another process that stores the same bytes ended it, or a rule of the bucket.`,
      hint: 'Store the bytes again; give unfinished uploads a day in the lifecycle rules of the bucket.',
      retryable: true,
    };
  if (PART_NAMES.has(name))
    return {
      code: 'UPLOAD_INCOMPLETE',
      message: `${store} does not have all parts of ${where}, or has others than were named: ${name}.`,
      hint: 'Begin the upload again.',
      retryable: true,
    };
  if (FULL_NAMES.has(name) || status === 507)
    return {
      code: 'STORAGE_FULL',
      message: `The bucket ${bucket} is full: ${store} refuses to store more.`,
      hint: 'Free space with "paraffin gc", or raise the quota of the bucket.',
      retryable: true,
    };
  if (status === 403 || READ_ONLY_NAMES.has(name) || status === 405)
    return {
      code: 'STORE_ACCESS_DENIED',
      message: `The access key may not ${isWrite ? 'write' : 'read'} ${where}${isWrite ? '; the bucket may be read-only' : ''}.`,
      hint: `Allow s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket and s3:AbortMultipartUpload on the bucket. The store says: ${message}`,
    };
  if (status === 501 || (status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 429))
    return {
      code: 'STORE_INCOMPATIBLE',
      message: `${store} refused a request for ${where}: ${name} (${status}).`,
      hint: 'Run "npm run compat:s3" against this store; it lists what the store must be able to do.',
    };
  return {
    code: 'STORE_UNREACHABLE',
    message: `${store} did not answer a request for ${where}: ${message === '' ? name : message}.`,
    hint: 'Check PARAFFIN_S3_ENDPOINT and the network; the same request may succeed later.',
    retryable: true,
  };
}
