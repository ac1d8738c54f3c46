/**
 * `npm run compat:s3`: what an S3-compatible store honours, and whether it passes the tests of the artifact store.
 *
 *   npm run compat:s3 -- --endpoint URL [--bucket NAME] [--region NAME] [--name "SeaweedFS 3.97"] [--write]
 *
 * Credentials come from the standard chain of AWS. The bucket (default: paraffin-compat) is created if it is missing;
 * every test works below a prefix of its own. --write puts the row of this store into docs/artifact-stores.md.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3Place } from '../src/platform/artifact-store/index.ts';
import { createS3Requests, type S3Requests } from '../src/platform/artifact-store/s3-client.ts';
import { probeStore } from '../src/platform/artifact-store/s3-probe.ts';

const USAGE = `usage: npm run compat:s3 -- --endpoint URL [--bucket NAME] [--region NAME] [--name "SeaweedFS 3.97"] [--write]

Runs the tests of the artifact store against a store that you have started, and prints what it honours. Credentials come
from the standard chain of AWS, for instance AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
`;
const ROOT = path.resolve(import.meta.dirname, '..');
const PAGE = path.join(ROOT, 'docs', 'artifact-stores.md');
const TESTS = ['artifact-store', 'artifact-store-faults', 'local-files', 'registry-in-bucket', 'direct-uploads'].map(
  (name) => `test/integration/${name}.test.ts`,
);
const TABLE = /(<!-- compat:s3 -->\n)([\s\S]*?)(<!-- \/compat:s3 -->)/;
const BYTES = Buffer.from('What does this store honour?');

const { values } = parseArgs({
  options: {
    endpoint: { type: 'string' },
    bucket: { type: 'string', default: 'paraffin-compat' },
    region: { type: 'string', default: 'us-east-1' },
    name: { type: 'string' },
    write: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true || values.endpoint === undefined) {
  (values.help === true ? process.stdout : process.stderr).write(USAGE);
  process.exit(values.help === true ? 0 : 2);
}
const place: S3Place = {
  ...{ bucket: values.bucket, prefix: `compat-${randomUUID()}`, endpoint: values.endpoint },
  ...{ region: values.region, pathStyle: true },
};

await createBucket(place);
const honours = await look(place);
process.stderr.write(`${JSON.stringify(honours, null, 2)}\n`);
const tests = await runTests(place);
const row = `| ${[
  values.name ?? values.endpoint,
  honours.uploadCheck === 'NONE' ? 'none: read back' : honours.uploadCheck,
  ...[honours.conditionalPut, honours.ifMatch, honours.copy, honours.unfinishedUploads, honours.presigned].map((is) =>
    is ? 'yes' : 'no',
  ),
  `${tests.passed} of ${tests.passed + tests.failed}`,
].join(' | ')} |`;
process.stdout.write(`${row}\n`);
if (values.write) await writeRow(values.name ?? values.endpoint, row);
process.exit(tests.failed === 0 ? 0 : 1);

interface Honours {
  readonly uploadCheck: string;
  readonly conditionalPut: boolean;
  /** GET with If-Match notices a replaced object. */
  readonly ifMatch: boolean;
  readonly copy: boolean;
  /** Multipart uploads that were begun and not ended are listed. */
  readonly unfinishedUploads: boolean;
  readonly presigned: boolean;
}

async function createBucket({ bucket, endpoint, region }: S3Place): Promise<void> {
  const client = new S3Client({
    ...{ ...(endpoint === undefined ? {} : { endpoint }), ...(region === undefined ? {} : { region }) },
    ...{ forcePathStyle: true, requestChecksumCalculation: 'WHEN_REQUIRED' },
  });
  await client.send(new CreateBucketCommand({ Bucket: bucket })).catch((error: unknown) => {
    if (!(error instanceof Error && /BucketAlready/.test(error.name))) throw error;
  });
  client.destroy();
}

async function look(at: S3Place): Promise<Honours> {
  const requests = createS3Requests(at);
  const abilities = await probeStore(requests, at, `${at.prefix}/`);
  const key = `${at.prefix}/looked-at`;
  await requests.put(key, BYTES);
  const copy = await isTrue(async () => {
    await requests.copy(key, `${key}-copy`, BYTES.length);
    return (await requests.head(`${key}-copy`))?.byteSize === BYTES.length;
  });
  const presigned = await isTrue(async () => {
    const url = await requests.link(key, { mediaType: 'text/x-asked', disposition: undefined, lifetimeSeconds: 60 });
    const answer = await fetch(url, { headers: { range: 'bytes=5-8' } });
    return (
      answer.status === 206 && answer.headers.get('content-type') === 'text/x-asked' && (await answer.text()) === 'does'
    );
  });
  const honoured = {
    ...abilities,
    ...{ copy, presigned },
    ifMatch: await noticesReplacement(requests, key),
    unfinishedUploads: await isTrue(async () => {
      const uploadId = await requests.createUpload(`${key}-upload`);
      const found = await requests.openUploads(`${at.prefix}/`);
      await requests.abortUpload(`${key}-upload`, uploadId);
      return found.some((upload) => upload.uploadId === uploadId);
    }),
  };
  await Promise.all([key, `${key}-copy`].map((name) => requests.delete(name)));
  return honoured;
}

async function noticesReplacement(requests: S3Requests, key: string): Promise<boolean> {
  const before = await requests.head(key);
  await requests.put(key, Buffer.from('Other bytes of the same name'));
  try {
    (await requests.get(key, undefined, before?.etag))?.body.destroy();
    return false;
  } catch {
    return true;
  }
}

async function isTrue(work: () => Promise<boolean>): Promise<boolean> {
  return work().catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    return false;
  });
}

async function runTests({ bucket, endpoint = '', region = '' }: S3Place): Promise<{ passed: number; failed: number }> {
  const child = spawn(process.execPath, [path.join(ROOT, 'scripts', 'test.ts'), ...TESTS], {
    cwd: ROOT,
    env: {
      ...process.env,
      PARAFFIN_TEST_S3_ENDPOINT: endpoint,
      PARAFFIN_TEST_S3_BUCKET: bucket,
      PARAFFIN_TEST_S3_REGION: region,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const output = await text(child.stdout);
  const count = (what: string): number => Number(new RegExp(`^ℹ ${what} (\\d+)$`, 'm').exec(output)?.[1] ?? 0);
  const result = { passed: count('pass'), failed: count('fail') };
  if (result.failed > 0 || result.passed === 0) process.stderr.write(output);
  if (result.passed + result.failed === 0) throw new Error('The tests did not run.');
  return result;
}

/** Replaces the row of this store, or adds it. */
async function writeRow(name: string, row: string): Promise<void> {
  const page = await readFile(PAGE, 'utf8');
  if (!TABLE.test(page)) throw new Error(`${PAGE} has no table of stores.`);
  const written = page.replace(TABLE, (_whole, begin: string, table: string, end: string) => {
    const lines = table.split('\n').filter((line) => line !== '' && !line.startsWith(`| ${name} |`));
    return `${begin}${[...lines, row].join('\n')}\n${end}`;
  });
  await writeFile(PAGE, written);
}
