/**
 * The S3-compatible store of the tests: an emulator in this process, or the store that `npm run compat:s3` names. Each
 * test gets a prefix of its own.
 */
import { randomUUID } from 'node:crypto';
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  paginateListObjectsV2,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { startFauxqs } from 'fauxqs';
import type { S3Place } from '../../src/platform/artifact-store/index.ts';

export interface S3Server {
  readonly endpoint: string;
  readonly bucket: string;
  readonly region: string;
  readonly client: S3Client;
  /** @param endpoint default: the store itself. */
  newPlace(endpoint?: string): S3Place;
  stop(): Promise<void>;
}

/** Set by `npm run compat:s3`; credentials come from the standard chain. */
const GIVEN_ENDPOINT = process.env['PARAFFIN_TEST_S3_ENDPOINT'];
const GIVEN_BUCKET = process.env['PARAFFIN_TEST_S3_BUCKET'] ?? 'paraffin-compat';
const GIVEN_REGION = process.env['PARAFFIN_TEST_S3_REGION'] ?? 'us-east-1';

/** True if the tests run against a store that somebody else started. */
export const IS_GIVEN_STORE = GIVEN_ENDPOINT !== undefined;

/** A client that sees and changes what a bucket holds, past the artifact store. */
export function bucketClient({ endpoint, region }: Pick<S3Place, 'endpoint' | 'region'>): S3Client {
  return new S3Client({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...{ region: region ?? GIVEN_REGION, forcePathStyle: true },
    ...{ requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED' },
  });
}

/** @param folder in which the emulator keeps its objects; default: in memory. */
export async function startS3Server(folder?: string): Promise<S3Server> {
  if (GIVEN_ENDPOINT === undefined) {
    process.env['AWS_ACCESS_KEY_ID'] ??= 'test';
    process.env['AWS_SECRET_ACCESS_KEY'] ??= 'test';
  }
  const emulator =
    GIVEN_ENDPOINT === undefined
      ? await startFauxqs({ port: 0, logger: false, ...(folder === undefined ? {} : { s3StorageDir: folder }) })
      : undefined;
  const endpoint = GIVEN_ENDPOINT ?? `http://127.0.0.1:${emulator?.port}`;
  const bucket = emulator === undefined ? GIVEN_BUCKET : 'tests';
  const client = bucketClient({ endpoint, region: GIVEN_REGION });
  await client.send(new CreateBucketCommand({ Bucket: bucket })).catch((error: unknown) => {
    if (!(error instanceof Error && /BucketAlready/.test(error.name))) throw error;
  });
  return {
    endpoint,
    bucket,
    region: GIVEN_REGION,
    client,
    newPlace: (at = endpoint) => ({
      ...{ bucket, prefix: `test-${randomUUID()}/registry`, endpoint: at, region: GIVEN_REGION, pathStyle: true },
    }),
    stop: async () => {
      client.destroy();
      await emulator?.stop();
    },
  };
}

/** A bucket, as a client sees it. */
type Bucket = Pick<S3Server, 'client' | 'bucket'>;

/** Every key below a prefix. */
export async function keysBelow({ client, bucket }: Bucket, prefix: string): Promise<string[]> {
  const pages = paginateListObjectsV2({ client }, { Bucket: bucket, Prefix: `${prefix}/` });
  const names: string[] = [];
  for await (const { Contents: found = [] } of pages)
    names.push(...found.flatMap(({ Key: key }) => (key === undefined ? [] : [key.slice(prefix.length + 1)])));
  return names;
}

/** How many multipart uploads are unfinished below a prefix; undefined if the store does not list them. */
export async function unfinishedUploads({ client, bucket }: Bucket, prefix: string): Promise<number | undefined> {
  if (!IS_GIVEN_STORE) return undefined;
  const { Uploads: uploads = [] } = await client.send(
    new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: `${prefix}/` }),
  );
  return uploads.filter(({ Key: key }) => key?.startsWith(`${prefix}/`) === true).length;
}

export async function putRaw({ client, bucket }: Bucket, key: string, bytes: Uint8Array): Promise<void> {
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: bytes }));
}

export async function getRaw({ client, bucket }: Bucket, key: string): Promise<Buffer> {
  const { Body: body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  return Buffer.from((await body?.transformToByteArray()) ?? []);
}

export async function deleteRaw({ client, bucket }: Bucket, key: string): Promise<void> {
  await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }));
}
