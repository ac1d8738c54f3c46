/**
 * An artifact on its way straight to the bucket of the registry (docs/worker-protocol.md): each part goes to an address
 * that the registry signs when its turn has come. What the bucket has confirmed is not sent again.
 */
import { DomainError } from '../../src/errors.ts';
import { checksumOf, type StoredBytes } from '../../src/platform/artifact-store/index.ts';
import { directUploadAnswerSchema, signedPartSchema, storedBytesSchema } from '../../src/protocol/artifacts.ts';
import { BucketFault } from './bucket-way.ts';
import type { Outgoing } from './outgoing.ts';

/** Enough to hide the round trips; each holds its bytes in memory. */
const PARTS_AT_ONCE = 4;

export interface DirectUpload {
  /**
   * May be called again after it failed. @returns undefined if the registry takes the bytes itself.
   * @throws BucketFault if a part did not arrive, and the errors of the registry.
   */
  send(): Promise<StoredBytes | undefined>;
  /** What the bucket has confirmed. */
  reachedBytes(): number;
}

/** @param post asks the registry for a step of this upload, and returns its answer. */
export function directUpload(
  outgoing: Outgoing,
  post: (step: 'begin' | 'sign' | 'complete', input: object) => Promise<unknown>,
): DirectUpload {
  const { byteSize } = outgoing;
  let begun: { readonly uploadId: string; readonly partBytes: number; readonly check: Check } | undefined;
  /** By the index of the part. */
  const etags = new Map<number, string>();
  let reached = 0;

  const sendPart = async (index: number, { uploadId, partBytes, check }: NonNullable<typeof begun>): Promise<void> => {
    const first = index * partBytes;
    const bytes = await outgoing.part(first, Math.min(partBytes, byteSize - first));
    const part = { uploadId, partNumber: index + 1, checksum: checksumOf(bytes, check) };
    const { url, headers } = signedPartSchema.parse(await post('sign', part));
    etags.set(index, await put(url, headers, bytes));
    reached += bytes.length;
  };

  const sendMissing = async (upload: NonNullable<typeof begun>): Promise<void> => {
    const partCount = Math.ceil(byteSize / upload.partBytes);
    const missing = Array.from({ length: partCount }, (_, index) => index).filter((index) => !etags.has(index));
    const next = missing.values();
    let failure: { readonly error: unknown } | undefined;
    const sendInTurn = async (): Promise<void> => {
      for (const index of next) {
        if (failure !== undefined) return;
        await sendPart(index, upload).catch((error: unknown) => {
          failure ??= { error };
        });
      }
    };
    await Promise.all(Array.from({ length: PARTS_AT_ONCE }, sendInTurn));
    if (failure !== undefined) throw failure.error;
  };

  const startAgain = (): void => {
    begun = undefined;
    etags.clear();
    reached = 0;
  };

  return {
    reachedBytes: () => reached,
    send: async () => {
      begun ??= directUploadAnswerSchema.parse(await post('begin', { byteSize })) ?? undefined;
      if (begun === undefined) return undefined;
      const { uploadId } = begun;
      try {
        await sendMissing(begun);
        const sent = [...etags].sort(([left], [right]) => left - right).map(([, etag]) => etag);
        return storedBytesSchema.parse(await post('complete', { uploadId, byteSize, etags: sent }));
      } catch (error) {
        if (!isUploadGone(error)) throw error;
        startAgain();
        throw new BucketFault('The bucket no longer has the parts of an upload.', error);
      }
    },
  };
}

type Check = NonNullable<ReturnType<typeof directUploadAnswerSchema.parse>>['check'];

/** @returns the tag of the part. @throws BucketFault */
async function put(
  url: string,
  headers: Readonly<Record<string, string>>,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<string> {
  const response = await fetch(url, { method: 'PUT', headers, body: bytes }).catch((error: unknown) => {
    throw new BucketFault('The bucket does not answer.', error);
  });
  const text = await response.text().catch(() => '');
  if (!response.ok)
    throw new BucketFault(`The bucket answered with HTTP status ${response.status}: ${text.slice(0, 300)}`);
  const etag = response.headers.get('etag');
  if (etag !== null && etag !== '') return etag;
  throw new BucketFault('The bucket, or a proxy in front of it, did not name the tag of a part.');
}

/** Removed by a rule of the bucket or with the lease, or parts of it are not there. */
function isUploadGone(error: unknown): boolean {
  return error instanceof DomainError && (error.code === 'UPLOAD_NOT_FOUND' || error.code === 'UPLOAD_INCOMPLETE');
}
