/** The real server in a separate process, with a data directory that is deleted afterwards. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { startPostgres } from '../src/platform/postgres.ts';

export interface BenchedServer {
  readonly url: string;
  readonly databaseUrl: string;
  readonly pid: number;
  readonly dataDir: string;
}

const PROGRAM = path.resolve(import.meta.dirname, '../src/cli/main.ts');

/**
 * Starts PostgreSQL and the server, runs the given work, and stops both.
 * @param env in addition to that of this process; by default the server has no worker.
 */
export async function withServer<Result>(
  work: (server: BenchedServer) => Promise<Result>,
  env: Readonly<Record<string, string>> = {},
): Promise<Result> {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-bench-server-'));
  const postgres = await startPostgres(path.join(folder, 'postgres'));
  const child = spawn(process.execPath, [PROGRAM, 'serve'], {
    env: {
      ...process.env,
      PARAFFIN_DATA_DIR: folder,
      PARAFFIN_DATABASE_URL: postgres.url,
      PARAFFIN_PORT: '0',
      PARAFFIN_WORKER: 'false',
      PARAFFIN_LOG_LEVEL: 'warn',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  try {
    const url = await addressOf(child.stdout);
    if (child.pid === undefined) throw new Error('The server did not start.');
    return await work({ url, databaseUrl: postgres.url, pid: child.pid, dataDir: folder });
  } finally {
    child.kill('SIGTERM');
    await exited;
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function addressOf(output: NodeJS.ReadableStream): Promise<string> {
  for await (const line of createInterface({ input: output })) {
    const found = /(http:\/\/\S+)\/graphql/.exec(line);
    if (found?.[1] !== undefined) {
      output.resume();
      return found[1];
    }
  }
  throw new Error('The server ended without an address.');
}

/**
 * The most memory that the server has held since its start, in 10^6 bytes; null where the system does not report it.
 */
export async function measureServerMemory(server: BenchedServer): Promise<number | null> {
  const status = await readFile(`/proc/${server.pid}/status`, 'utf8').catch(() => '');
  const kilobytes = /VmHWM:\s+(\d+) kB/.exec(status)?.[1];
  return kilobytes === undefined ? null : Math.round((Number(kilobytes) * 1024) / 1e5) / 10;
}
