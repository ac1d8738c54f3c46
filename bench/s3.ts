/**
 * Measures uploads of a file to, and verified reading from, an S3-compatible store, compared with the fastest plain
 * client at hand: curl, one PUT and one GET with a presigned address, no check of the bytes. A second peer does our job
 * with plain programs: sha256sum before the upload, whose name is the digest, and behind the download.
 *
 *   npm run bench -- --suite s3 --s3-endpoint http://127.0.0.1:7070
 */
import { spawn } from 'node:child_process';
import { createHash, randomFillSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { openS3Store, verifyArtifact } from '../src/platform/artifact-store/index.ts';

export interface S3BenchOptions {
  readonly endpoint: string;
  /** Defaults: 1,000,000,000 bytes, 3 rounds. */
  readonly byteSize?: number;
  readonly rounds?: number;
}

interface Ratio {
  /** Median of the rounds' own ratios. */
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

interface Comparison {
  /** Medians of the rounds, 10^6 bytes per second. */
  readonly megabytesPerSecond: { readonly paraffin: number; readonly curl: number; readonly curlAndSha256sum: number };
  readonly toCurl: Ratio;
  readonly toCurlAndSha256sum: Ratio;
}

export interface S3BenchResult {
  readonly byteSize: number;
  readonly rounds: number;
  readonly upload: Comparison;
  readonly download: Comparison;
}

const BUCKET = 'paraffin-bench';
const REGION = 'us-east-1';
const CHUNK_BYTES = 1_000_000;
const FAR_FUTURE = new Date('2100-01-01T00:00:00Z');

/** Credentials come from the standard chain. @throws Error if curl fails or the store cannot be used. */
export async function benchS3({
  endpoint,
  byteSize = 1_000_000_000,
  rounds = 3,
}: S3BenchOptions): Promise<S3BenchResult> {
  const client = new S3Client({
    ...{ endpoint, region: REGION, forcePathStyle: true },
    ...{ requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED' },
  });
  await client.send(new CreateBucketCommand({ Bucket: BUCKET })).catch((error: unknown) => {
    if (!(error instanceof Error && /BucketAlready/.test(error.name))) throw error;
  });
  const prefix = randomUUID();
  const store = openS3Store({ bucket: BUCKET, prefix, endpoint, region: REGION, pathStyle: true });
  await store.abilities();
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-bench-'));
  const file = path.join(folder, 'shard');
  try {
    const sha256 = await writeRandom(file, byteSize);
    const plain = { Bucket: BUCKET, Key: `${prefix}/plain` };
    const putUrl = await getSignedUrl(client, new PutObjectCommand(plain), { expiresIn: 3_600 });
    const getUrl = await getSignedUrl(client, new GetObjectCommand(plain), { expiresIn: 3_600 });
    const uploads: Times[] = [];
    const downloads: Times[] = [];
    for (let round = 0; round < rounds; round += 1) {
      uploads.push(
        await inTurn(round, {
          paraffin: async () => {
            const stored = await store.put({ file });
            if (stored.sha256 !== sha256) throw new Error('The upload stored other bytes.');
          },
          curl: () => bash('curl -sSf -o /dev/null --upload-file "$1" "$2"', file, putUrl),
          curlAndSha256sum: () =>
            bash('sha256sum "$1" > /dev/null && curl -sSf -o /dev/null --upload-file "$1" "$2"', file, putUrl),
        }),
      );
      downloads.push(
        await inTurn(round, {
          paraffin: () => verifyArtifact(store, sha256),
          curl: () => bash('curl -sSf -o /dev/null "$1"', getUrl),
          curlAndSha256sum: () => bash('curl -sSf "$1" | sha256sum > /dev/null', getUrl),
        }),
      );
    }
    return {
      ...{ byteSize, rounds },
      upload: compared(uploads, byteSize),
      download: compared(downloads, byteSize),
    };
  } finally {
    for await (const { sha256 } of store.list()) if (sha256 !== undefined) await store.delete(sha256, FAR_FUTURE);
    client.destroy();
    await rm(folder, { recursive: true, force: true });
  }
}

const CLIENTS = ['paraffin', 'curl', 'curlAndSha256sum'] as const;
/** In milliseconds. */
type Times = Readonly<Record<(typeof CLIENTS)[number], number>>;

/** Each round begins with another one, so that none has the advantage of a place. */
async function inTurn(
  round: number,
  works: Readonly<Record<(typeof CLIENTS)[number], () => Promise<void>>>,
): Promise<Times> {
  const times = { paraffin: 0, curl: 0, curlAndSha256sum: 0 };
  for (const index of CLIENTS.keys()) {
    const client = CLIENTS[(index + round) % CLIENTS.length] ?? 'paraffin';
    times[client] = await timed(works[client]);
  }
  return times;
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

function compared(times: readonly Times[], byteSize: number): Comparison {
  const rate = (client: keyof Times): number => byteSize / 1_000 / median(times.map((each) => each[client]));
  const ratioTo = (client: keyof Times): Ratio => {
    const ratios = times.map((each) => each[client] / each.paraffin);
    return { median: median(ratios), lowest: Math.min(...ratios), highest: Math.max(...ratios) };
  };
  return {
    megabytesPerSecond: {
      paraffin: rate('paraffin'),
      curl: rate('curl'),
      curlAndSha256sum: rate('curlAndSha256sum'),
    },
    toCurl: ratioTo('curl'),
    toCurlAndSha256sum: ratioTo('curlAndSha256sum'),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [upper = 0, lower = upper] = [sorted[middle], sorted[middle - 1]];
  return sorted.length % 2 === 1 ? upper : (lower + upper) / 2;
}

async function writeRandom(file: string, byteSize: number): Promise<string> {
  const hash = createHash('sha256');
  await using handle = await open(file, 'w');
  for (let written = 0; written < byteSize; written += CHUNK_BYTES) {
    const bytes = randomFillSync(Buffer.alloc(Math.min(CHUNK_BYTES, byteSize - written)));
    hash.update(bytes);
    await handle.appendFile(bytes);
  }
  return hash.digest('hex');
}

/** @param args `$1`, `$2` of the script. */
async function bash(script: string, ...args: string[]): Promise<void> {
  const child = spawn('bash', ['-euo', 'pipefail', '-c', script, 'bash', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`A plain client ended with ${String(code)}.`);
}
