/**
 * What an S3-compatible store honours, found out at the start by trying it: stores differ in conditions and checksums,
 * and some accept a header that they then ignore.
 */
import { randomUUID } from 'node:crypto';
import { DomainError } from '../../errors.ts';
import { isConditionFailed, isRefusal, storeError } from './s3-errors.ts';
import type { S3Place, S3Requests } from './s3-client.ts';
import type { UploadCheck } from './upload-check.ts';

export interface StoreAbilities {
  /** `If-None-Match: *` on PUT keeps an existing object. */
  readonly conditionalPut: boolean;
  /** The fastest check of uploaded bytes that the store makes; NONE: what was uploaded is read back. */
  readonly uploadCheck: UploadCheck;
}

const BYTES = Buffer.from('Paraffin asks what this store honours.');
const OTHER_BYTES = Buffer.from('Other bytes.');
/** Of no bytes at all, so wrong for every probe. */
const WRONG_CRC32 = 'AAAAAA==';
const WRONG_MD5 = '1B2M2Y8AsgTpgAmY7PhCfg==';

/**
 * Writes, reads and deletes small objects below `<prefix>probe/`.
 * @throws DomainError that says what to do if the bucket is missing, read-only, in another region or unreachable, or
 * the store lacks what every registry needs.
 */
export async function probeStore(requests: S3Requests, place: S3Place, prefix: string): Promise<StoreAbilities> {
  const key = (what: string): string => `${prefix}probe/${randomUUID()}-${what}`;
  // Some stores make a missing bucket at the first PUT, and a misspelt name would go unnoticed.
  await requests.folders(prefix);
  const written = key('range');
  await requests.put(written, BYTES);
  try {
    const found = await requests.get(written, { first: 9, last: 12 });
    const chunks: Buffer[] = [];
    if (found !== undefined) for await (const chunk of found.body) chunks.push(chunk);
    if (!Buffer.concat(chunks).equals(BYTES.subarray(9, 13)))
      throw incompatible(place, 'does not send parts of objects');
    const [conditionalPut, crc32, md5] = await Promise.all([
      keepsExisting(requests, written, place),
      refusesWrong(requests, key('crc32'), 'CRC32', WRONG_CRC32, place),
      refusesWrong(requests, key('md5'), 'MD5', WRONG_MD5, place),
    ]);
    return { conditionalPut, uploadCheck: crc32 ? 'CRC32' : md5 ? 'MD5' : 'NONE' };
  } finally {
    await requests.delete(written);
  }
}

async function keepsExisting(requests: S3Requests, key: string, place: S3Place): Promise<boolean> {
  try {
    await requests.put(key, OTHER_BYTES, { onlyIfAbsent: true });
    return false;
  } catch (error) {
    if (!isRefusal(error))
      throw storeError(error, { ...place, endpoint: place.endpoint, region: place.region, isWrite: true, key });
    // A store may refuse the header itself; then the key is not protected, but nothing is overwritten either.
    return isConditionFailed(error) && (await requests.head(key))?.byteSize === BYTES.length;
  }
}

/** True if the store refuses bytes that do not match their checksum, and takes those that do. */
async function refusesWrong(
  requests: S3Requests,
  key: string,
  check: UploadCheck,
  checksum: string,
  place: S3Place,
): Promise<boolean> {
  try {
    await requests.put(key, BYTES, { check, checksum });
  } catch (error) {
    if (!isRefusal(error))
      throw storeError(error, { ...place, endpoint: place.endpoint, region: place.region, isWrite: true, key });
    return requests.put(key, BYTES, { check }).then(
      async () => {
        await requests.delete(key);
        return true;
      },
      () => false,
    );
  }
  await requests.delete(key);
  return false;
}

function incompatible({ bucket, endpoint }: S3Place, what: string): DomainError {
  return new DomainError({
    code: 'STORE_INCOMPATIBLE',
    message: `The store of bucket ${bucket} at ${endpoint ?? 'Amazon S3'} ${what}.`,
    field: 'PARAFFIN_ARTIFACTS_URL',
    hint: 'Check whether a proxy in front of the store changes requests, or use another store.',
  });
}
