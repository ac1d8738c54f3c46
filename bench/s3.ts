/**
 * Measures uploads to and downloads from an S3-compatible store, compared with the fastest plain client at hand: curl,
 * one PUT and one GET with a presigned address, no check of the bytes. Ours hashes every byte in both directions,
 * uploads in parts to a temporary key and publishes the copy.
 *
 *   npm run bench -- --suite s3 --s3-endpoint http://127.0.0.1:7070
 */
import { spawn } from 'node:child_process';
import { createHash, randomFillSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
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

interface Comparison {
  /** Medians of the rounds, 10^6 bytes per second. */
  readonly paraffinMegabytesPerSecond: number;
  readonly curlMegabytesPerSecond: number;
  /** Median of the rounds' own ratios. */
  readonly ratio: number;
  readonly lowestRatio: number;
  readonly highestRatio: number;
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
    const works = {
      ourUpload: async () => {
        const stored = await store.put(createReadStream(file, { highWaterMark: CHUNK_BYTES }));
        if (stored.sha256 !== sha256) throw new Error('The upload stored other bytes.');
      },
      plainUpload: () => curl('--upload-file', file, putUrl),
      ourDownload: () => verifyArtifact(store, sha256),
      plainDownload: () => curl(getUrl),
    };
    const uploads: [number, number][] = [];
    const downloads: [number, number][] = [];
    for (let round = 0; round < rounds; round += 1) {
      uploads.push(await inTurn(works.ourUpload, works.plainUpload, round));
      downloads.push(await inTurn(works.ourDownload, works.plainDownload, round));
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

/** The order alternates, so that neither has the advantage of being second. @returns both times in milliseconds. */
async function inTurn(
  ours: () => Promise<void>,
  plain: () => Promise<void>,
  round: number,
): Promise<[ours: number, plain: number]> {
  if (round % 2 === 0) {
    const first = await timed(ours);
    return [first, await timed(plain)];
  }
  const first = await timed(plain);
  return [await timed(ours), first];
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

function compared(times: readonly (readonly [ours: number, plain: number])[], byteSize: number): Comparison {
  const ratios = times.map(([ours, plain]) => plain / ours);
  const rate = (durationsMs: readonly number[]): number => byteSize / 1_000 / median(durationsMs);
  return {
    paraffinMegabytesPerSecond: rate(times.map(([ours]) => ours)),
    curlMegabytesPerSecond: rate(times.map(([, plain]) => plain)),
    ratio: median(ratios),
    lowestRatio: Math.min(...ratios),
    highestRatio: Math.max(...ratios),
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

async function curl(...args: string[]): Promise<void> {
  const child = spawn('curl', ['--silent', '--show-error', '--fail', '--output', '/dev/null', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`curl ended with ${String(code)}.`);
}
