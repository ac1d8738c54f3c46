/**
 * Measures how fast a running server returns 50 rows of the catalogue with organs, stains and resolutions, compared
 * with a minimal Apollo server that runs hand-written SQL on the same database.
 *
 *   node bench/catalogue.ts <graphqlUrl> <databaseUrl>
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export interface CatalogueBenchOptions {
  readonly graphqlUrl: string;
  /** The URL of the same database, for the peer. */
  readonly databaseUrl: string;
  /** Constant arrival: requests per second, and duration in seconds; defaults 20 and 10. */
  readonly requestsPerSecond?: number;
  readonly arrivalSeconds?: number;
  /** Saturation: connections that always have a request in flight, seconds of a round, rounds; defaults 8, 3, 3. */
  readonly connectionCount?: number;
  readonly saturationSeconds?: number;
  readonly rounds?: number;
}

export interface ArrivalResult {
  readonly requestCount: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

export interface ThroughputResult {
  /** Median of the rounds. */
  readonly requestsPerSecond: number;
  readonly lowest: number;
  readonly highest: number;
}

export interface CatalogueBenchResult {
  readonly rowCount: number;
  readonly responseBytes: number;
  readonly constantArrival: {
    readonly requestsPerSecond: number;
    readonly ours: ArrivalResult;
    readonly peer: ArrivalResult;
  };
  readonly saturated: {
    readonly connectionCount: number;
    readonly ours: ThroughputResult;
    readonly peer: ThroughputResult;
    readonly ratio: number;
  };
}

const QUERY = `{ datasets(first: 50) { nodes { id slug name imageKind imageCount slideCount licence publishedYear
  organs { code name } stains { code name } resolutions { magnification micronsPerPixel } } } }`;
const BODY = JSON.stringify({ query: QUERY });

/** Measures both servers in turn, with load from this process. @throws Error if their answers differ. */
export async function benchCatalogue(options: CatalogueBenchOptions): Promise<CatalogueBenchResult> {
  const {
    requestsPerSecond = 20,
    arrivalSeconds = 10,
    connectionCount = 8,
    saturationSeconds = 3,
    rounds = 3,
  } = options;
  const peer = await startPeer(options.databaseUrl);
  const agent = new Agent({ keepAlive: true, maxSockets: connectionCount });
  const ask = (url: string): Promise<string> => post(url, agent);
  try {
    const [ourAnswer, peerAnswer] = [await ask(options.graphqlUrl), await ask(peer.url)];
    if (ourAnswer !== peerAnswer)
      throw new Error(
        `The servers give different answers:  ${ourAnswer.slice(0, 200)} against ${peerAnswer.slice(0, 200)}`,
      );
    const urls = { ours: options.graphqlUrl, peer: peer.url } as const;
    for (const url of Object.values(urls)) await saturate(() => ask(url), connectionCount, 2);

    const arrival = {
      ours: await arrive(() => ask(urls.ours), requestsPerSecond, arrivalSeconds),
      peer: await arrive(() => ask(urls.peer), requestsPerSecond, arrivalSeconds),
    };
    const throughput: Record<keyof typeof urls, number[]> = { ours: [], peer: [] };
    for (let round = 0; round < rounds; round += 1) {
      throughput.ours.push(await saturate(() => ask(urls.ours), connectionCount, saturationSeconds));
      throughput.peer.push(await saturate(() => ask(urls.peer), connectionCount, saturationSeconds));
    }
    const ours = summarise(throughput.ours);
    const theirs = summarise(throughput.peer);
    return {
      rowCount: ourAnswer.split('"slug"').length - 1,
      responseBytes: Buffer.byteLength(ourAnswer),
      constantArrival: { requestsPerSecond, ...arrival },
      saturated: {
        connectionCount,
        ours,
        peer: theirs,
        ratio: rounded(ours.requestsPerSecond / theirs.requestsPerSecond),
      },
    };
  } finally {
    agent.destroy();
    await peer.stop();
  }
}

async function startPeer(databaseUrl: string): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'catalogue-peer.ts'), databaseUrl], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [url] = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    once(child, 'exit').then(() => [undefined]),
  ]);
  if (typeof url !== 'string') throw new Error('The peer did not start.');
  return { url, stop: () => stopChild(child) };
}

async function stopChild(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill();
  await ended;
}

/**
 * Sends requests at fixed instants, whether or not earlier ones have been answered; the time that a request waits
 * counts towards the server's latency.
 */
async function arrive(ask: () => Promise<string>, requestsPerSecond: number, seconds: number): Promise<ArrivalResult> {
  const startedAtMs = performance.now();
  const requests = Array.from({ length: Math.round(requestsPerSecond * seconds) }, async (_, index) => {
    const dueMs = startedAtMs + (index * 1000) / requestsPerSecond;
    await sleep(Math.max(0, dueMs - performance.now()));
    // Measured from the moment of sending, so that a late timer of this process does not count towards the server's
    // latency.
    const sentMs = Math.max(dueMs, performance.now());
    await ask();
    return performance.now() - sentMs;
  });
  const durationsMs = (await Promise.all(requests)).sort((a, b) => a - b);
  const quantile = (share: number): number =>
    rounded(durationsMs[Math.min(durationsMs.length - 1, Math.floor(share * durationsMs.length))] ?? 0);
  return { requestCount: durationsMs.length, p50Ms: quantile(0.5), p95Ms: quantile(0.95), p99Ms: quantile(0.99) };
}

/** Requests per second with every connection always busy. */
async function saturate(ask: () => Promise<string>, connectionCount: number, seconds: number): Promise<number> {
  const startedAtMs = performance.now();
  const endMs = startedAtMs + seconds * 1000;
  let count = 0;
  const connection = async (): Promise<void> => {
    while (performance.now() < endMs) {
      await ask();
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: connectionCount }, connection));
  return (count * 1000) / (performance.now() - startedAtMs);
}

function post(url: string, agent: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        method: 'POST',
        agent,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(BODY) },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          if (response.statusCode === 200 && text.startsWith('{"data":')) resolve(text.trimEnd());
          else reject(new Error(`${url} answered ${response.statusCode}: ${text.slice(0, 300)}`));
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(BODY);
  });
}

function summarise(rates: readonly number[]): ThroughputResult {
  const sorted = [...rates].sort((a, b) => a - b);
  return {
    requestsPerSecond: rounded(sorted[Math.floor(sorted.length / 2)] ?? 0),
    lowest: rounded(sorted[0] ?? 0),
    highest: rounded(sorted.at(-1) ?? 0),
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

if (process.argv[1] === import.meta.filename) {
  const [graphqlUrl, databaseUrl] = process.argv.slice(2);
  if (graphqlUrl === undefined || databaseUrl === undefined)
    throw new Error('usage: node bench/catalogue.ts <graphqlUrl> <databaseUrl>');
  console.log(JSON.stringify(await benchCatalogue({ graphqlUrl, databaseUrl }), null, 2));
}
