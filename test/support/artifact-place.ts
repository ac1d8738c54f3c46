/**
 * Where the registries of the tests keep their artifacts: in `<data directory>/artifacts`, or, when the test command
 * runs with `--artifacts s3`, below a prefix of their own in a bucket. A prefix belongs to a data directory, so that
 * every process of a registry finds the same store.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { z } from 'zod';
import type { ArtifactPlace, S3Place } from '../../src/platform/artifact-store/index.ts';

/** Set by the test command: the bucket, as JSON. */
export const BUCKET_VARIABLE = 'PARAFFIN_TEST_BUCKET';

const bucketSchema = z.object({ bucket: z.string(), endpoint: z.string(), region: z.string() });

/** The files of integration and e2e tests that open a folder also with `--artifacts s3`, and why. */
export const TESTS_OF_A_FOLDER: Readonly<Record<string, string>> = {
  'artifact-custody': 'runs on both kinds of store by itself; its bad sector is one of a disk',
  'artifact-store': 'runs on both kinds of store by itself; its rights of files are those of a disk',
  'artifact-store-identity': 'a folder that was moved or exchanged; registry-in-bucket has the same of buckets',
  backup: 'the folders that a killed or refused restore leaves; registry-in-bucket has the same of buckets',
  downloads: 'one part looks at the open files of the process; the others use the bucket',
  'exports-killed': 'kills at the moment when a file is half written, which it sees in the folder',
  'image-decoders': 'the sandbox of decoders; its store is a place to put thumbnails',
  'import-blocks': 'the blocks of an import; its store is a place to put shards',
  'import-images': 'what is in the shards of an import, which it reads as files',
  'import-memory': 'the memory of decoding; its store is a place to put shards',
  'local-files': 'runs on both kinds of store by itself',
  'registry-in-bucket': 'moves a registry from a folder into buckets',
  'storage-full': 'a full disk; artifact-store-faults has the full bucket',
  'two-servers': 'the leases of two servers; nothing is put into its store',
};

/** The value of `BUCKET_VARIABLE` for a server. */
export function bucketOf({ bucket, endpoint, region }: z.infer<typeof bucketSchema>): z.infer<typeof bucketSchema> {
  return { bucket, endpoint, region };
}

function givenBucket(): Omit<S3Place, 'prefix'> | undefined {
  const given = process.env[BUCKET_VARIABLE];
  return given === undefined ? undefined : { ...bucketSchema.parse(JSON.parse(given)), pathStyle: true };
}

export function artifactPlaceOf(dataDir: string): ArtifactPlace {
  const bucket = givenBucket();
  const name = createHash('sha256').update(path.resolve(dataDir)).digest('hex').slice(0, 24);
  return bucket === undefined ? path.join(dataDir, 'artifacts') : { ...bucket, prefix: `registries/${name}` };
}

/** What a program of the registry has to be told about `artifactPlaceOf(dataDir)`. */
export function artifactVariables(dataDir: string): Readonly<Record<string, string>> {
  const place = artifactPlaceOf(dataDir);
  return typeof place === 'string'
    ? {}
    : {
        PARAFFIN_ARTIFACTS_URL: `s3://${place.bucket}/${place.prefix}`,
        PARAFFIN_S3_ENDPOINT: place.endpoint ?? '',
        PARAFFIN_S3_REGION: place.region ?? '',
      };
}
