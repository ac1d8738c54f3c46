/**
 * Measures how fast a checkpoint of 45 MB is downloaded, compared with plain Node file streaming. Each server runs in
 * its own process, and this process downloads from them in turn.
 *
 *   node bench/download.ts
 */
import { spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

export interface DownloadBenchOptions {
  /** Defaults 45,000,000 bytes, 9 rounds of 4 downloads each. */
  readonly byteSize?: number;
  readonly rounds?: number;
  readonly downloadsPerRound?: number;
}

export interface DownloadRate {
  /** Median of the rounds, 10^6 bytes per second. */
  readonly megabytesPerSecond: number;
  readonly lowest: number;
  readonly highest: number;
}

export interface DownloadBenchResult {
  readonly byteSize: number;
  readonly paraffin: DownloadRate;
  readonly plain: DownloadRate;
  /** Median of the rounds' own ratios, paraffin / plain. */
  readonly ratio: number;
}

/** @throws Error if a server does not start or sends too few bytes. */
export async function benchDownload(options: DownloadBenchOptions = {}): Promise<DownloadBenchResult> {
  const { byteSize = 45_000_000, rounds = 9, downloadsPerRound = 4 } = options;
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-bench-'));
  const file = path.join(folder, 'weights');
  await writeFile(file, randomFillSync(Buffer.alloc(byteSize)));
  const agent = new Agent({ keepAlive: true });
  const servers: BenchServer[] = [];
  try {
    const paraffin = await startServer('paraffin', file, servers);
    const plain = await startServer('plain', file, servers);
    const rateOf = async (url: string): Promise<number> => {
      const startMs = performance.now();
      for (let index = 0; index < downloadsPerRound; index += 1) await download(url, agent, byteSize);
      return (byteSize * downloadsPerRound) / 1000 / (performance.now() - startMs);
    };
    for (const url of [paraffin, plain]) await rateOf(url);
    const pairs: { paraffin: number; plain: number }[] = [];
    for (let round = 0; round < rounds; round += 1) {
      // The order alternates, so that neither server has the advantage of being second.
      const first = round % 2 === 0 ? await rateOf(paraffin) : undefined;
      const other = await rateOf(plain);
      pairs.push({ paraffin: first ?? (await rateOf(paraffin)), plain: other });
    }
    return {
      byteSize,
      paraffin: summarise(pairs.map((pair) => pair.paraffin)),
      plain: summarise(pairs.map((pair) => pair.plain)),
      ratio: rounded(median(pairs.map((pair) => pair.paraffin / pair.plain))),
    };
  } finally {
    agent.destroy();
    for (const server of servers) await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

interface BenchServer {
  stop(): Promise<void>;
}

async function startServer(kind: 'paraffin' | 'plain', file: string, started: BenchServer[]): Promise<string> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'download-server.ts'), kind, file], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  started.push({
    stop: async () => {
      child.kill();
      await ended;
    },
  });
  const [url] = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    ended.then(() => [undefined]),
  ]);
  if (typeof url !== 'string') throw new Error(`The server "${kind}" did not start.`);
  return url;
}

function download(url: string, agent: Agent, byteSize: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent }, (response) => {
      let received = 0;
      response.on('data', (chunk: Buffer) => {
        received += chunk.length;
      });
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === 200 && received === byteSize) resolve();
        else reject(new Error(`${url} answered ${response.statusCode} with ${received} of ${byteSize} bytes.`));
      });
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}

function summarise(rates: readonly number[]): DownloadRate {
  return {
    megabytesPerSecond: rounded(median(rates)),
    lowest: rounded(Math.min(...rates)),
    highest: rounded(Math.max(...rates)),
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

if (process.argv[1] === import.meta.filename) console.log(JSON.stringify(await benchDownload(), null, 2));
