/**
 * Measures uploads of a file to, and verified reading from, an S3-compatible store, in turn with plain clients: curl,
 * which checks nothing, is the fastest; curl with sha256sum does our job (the name is the digest, and what is read is
 * verified); rclone and the AWS CLI, where they are installed, are what people use, and write what they download into a
 * file, as the cache of a worker does.
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
import { openLocalFiles, openS3Store, verifyArtifact } from '../src/platform/artifact-store/index.ts';
import { ownAndEndedSeconds } from './processor-time.ts';

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

/** Medians of the rounds. */
interface Speed {
  /** 10^6 bytes. */
  readonly megabytesPerSecond: number;
  /** Of the client alone, for the whole object. */
  readonly processorSeconds: number;
}

/** Our speed by that of another client. */
interface Peer extends Speed {
  readonly client: string;
  readonly ratio: Ratio;
  /** The other client's processor time by ours. */
  readonly processorRatio: Ratio;
}

interface Comparison {
  readonly paraffin: Speed;
  readonly peers: readonly Peer[];
}

export interface S3BenchResult {
  readonly byteSize: number;
  readonly rounds: number;
  /** A file into the store. */
  readonly upload: Comparison;
  /** Bytes that are verified, or not, and dropped. */
  readonly download: Comparison;
  /** Bytes that are verified, or not, and in a file. Only with peers that do this. */
  readonly downloadToFile: Comparison;
}

const BUCKET = 'paraffin-bench';
/** As a copy of a registry, a restored backup and a worker's upload are stored; the digest is compared at the end. */
const BY_KNOWN_NAME = 'paraffin, by a known name';
const REGION = 'us-east-1';
const CHUNK_BYTES = 1_000_000;
const LINK_SECONDS = 6 * 3_600;
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
    const putUrl = await getSignedUrl(client, new PutObjectCommand(plain), { expiresIn: LINK_SECONDS });
    const getUrl = await getSignedUrl(client, new GetObjectCommand(plain), { expiresIn: LINK_SECONDS });
    const arrived = path.join(folder, 'arrived');
    const tools = await toolsFor(endpoint, plain);
    const verifyingIntoFile = async (): Promise<void> => {
      const files = openLocalFiles({ store, folder: `${arrived}-cache`, maxBytes: 2 * byteSize });
      await (await files.hold(sha256)).release();
      await files.close();
      await rm(`${arrived}-cache`, { recursive: true });
    };
    const uploads: Costs[] = [];
    const downloads: Costs[] = [];
    const downloadsToFile: Costs[] = [];
    for (let round = 0; round < rounds; round += 1) {
      uploads.push(
        await inTurn(round, {
          paraffin: async () => {
            const stored = await store.put({ file });
            if (stored.sha256 !== sha256) throw new Error('The upload stored other bytes.');
          },
          [BY_KNOWN_NAME]: async () => void (await store.put({ file }, sha256)),
          curl: () => bash('curl -sSf -o /dev/null --upload-file "$1" "$2"', file, putUrl),
          'sha256sum, then curl': () =>
            bash('sha256sum "$1" > /dev/null && curl -sSf -o /dev/null --upload-file "$1" "$2"', file, putUrl),
          ...worksOf(tools, ({ upload }) => bash(upload, file)),
        }),
      );
      downloads.push(
        await inTurn(round, {
          paraffin: () => verifyArtifact(store, sha256),
          curl: () => bash('curl -sSf -o /dev/null "$1"', getUrl),
          'curl | sha256sum': () => bash('curl -sSf "$1" | sha256sum > /dev/null', getUrl),
        }),
      );
      downloadsToFile.push(
        await inTurn(round, {
          paraffin: verifyingIntoFile,
          curl: () => bash('curl -sSf -o "$1" "$2" && rm "$1"', arrived, getUrl),
          ...worksOf(tools, ({ download }) => bash(`${download} && rm "$1"`, arrived)),
        }),
      );
    }
    return {
      ...{ byteSize, rounds },
      upload: compared(uploads, byteSize),
      download: compared(downloads, byteSize),
      downloadToFile: compared(downloadsToFile, byteSize),
    };
  } finally {
    for await (const { sha256 } of store.list()) if (sha256 !== undefined) await store.delete(sha256, FAR_FUTURE);
    client.destroy();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Tool {
  readonly name: string;
  /** Scripts; `$1` is the file. */
  readonly upload: string;
  readonly download: string;
}

/** Those of the clients people use that are installed, by the defaults that they have. */
async function toolsFor(
  endpoint: string,
  { Bucket: bucket, Key: key }: { readonly Bucket: string; readonly Key: string },
): Promise<Tool[]> {
  const at = `RCLONE_CONFIG_S_TYPE=s3 RCLONE_CONFIG_S_PROVIDER=Other RCLONE_CONFIG_S_ENV_AUTH=true RCLONE_CONFIG_S_ENDPOINT=${endpoint} rclone copyto`;
  const object = `s:${bucket}/${key}`;
  const aws = `AWS_DEFAULT_REGION=${REGION} aws s3 cp --quiet --endpoint-url ${endpoint}`;
  const known: readonly Tool[] = [
    { name: 'rclone', upload: `${at} --ignore-times "$1" ${object}`, download: `${at} ${object} "$1"` },
    {
      ...{ name: 'aws s3 cp', upload: `${aws} "$1" s3://${bucket}/${key}` },
      download: `${aws} s3://${bucket}/${key} "$1"`,
    },
  ];
  const found = await Promise.all(
    known.map(async (tool) => {
      const program = tool.name.split(' ')[0] ?? tool.name;
      return bash('"$1" --version > /dev/null 2>&1', program).then(
        () => [tool],
        () => [],
      );
    }),
  );
  return found.flat();
}

type Works = Readonly<Record<string, () => Promise<void>>> & { readonly paraffin: () => Promise<void> };

function worksOf(tools: readonly Tool[], work: (tool: Tool) => Promise<void>): Record<string, () => Promise<void>> {
  return Object.fromEntries(tools.map((tool) => [tool.name, () => work(tool)]));
}

interface Cost {
  readonly milliseconds: number;
  readonly processorSeconds: number;
}
type Costs = ReadonlyMap<string, Cost>;

/** Each round begins with another one, so that none has the advantage of a place. */
async function inTurn(round: number, works: Works): Promise<Costs> {
  const names = Object.keys(works);
  const costs = new Map<string, Cost>();
  for (const index of names.keys()) {
    const name = names[(index + round) % names.length] ?? 'paraffin';
    costs.set(name, await costOf(works[name] ?? works.paraffin));
  }
  return costs;
}

async function costOf(work: () => Promise<void>): Promise<Cost> {
  const startMs = performance.now();
  const before = ownAndEndedSeconds();
  await work();
  return { milliseconds: performance.now() - startMs, processorSeconds: ownAndEndedSeconds() - before };
}

function compared(rounds: readonly Costs[], byteSize: number): Comparison {
  const costsOf = (client: string): Cost[] => rounds.flatMap((costs) => costs.get(client) ?? []);
  const speedOf = (client: string): Speed => ({
    megabytesPerSecond: byteSize / 1_000 / median(costsOf(client).map(({ milliseconds }) => milliseconds)),
    processorSeconds: median(costsOf(client).map(({ processorSeconds }) => processorSeconds)),
  });
  const ours = costsOf('paraffin');
  const ratioTo = (client: string, measure: (cost: Cost) => number): Ratio => {
    const ratios = costsOf(client).map((cost, round) => measure(cost) / measure(ours[round] ?? cost));
    return { median: median(ratios), lowest: Math.min(...ratios), highest: Math.max(...ratios) };
  };
  const peers = [...(rounds[0]?.keys() ?? [])].filter((client) => client !== 'paraffin').sort();
  return {
    paraffin: speedOf('paraffin'),
    peers: peers.map((client) => ({
      client,
      ...speedOf(client),
      ratio: ratioTo(client, ({ milliseconds }) => milliseconds),
      processorRatio: ratioTo(client, ({ processorSeconds }) => processorSeconds),
    })),
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
