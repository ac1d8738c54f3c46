/**
 * A real server in a separate process, with its own PostgreSQL and no worker, as any program on loopback can reach it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { childEnvironment } from '../src/env.ts';
import { isAlive } from '../test/support/processes.ts';
import { openRequests } from './requests.ts';

const PARAFFIN = path.resolve(import.meta.dirname, '../src/cli/main.ts');
const END_MS = 40_000;

export interface AttackedServer {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  readonly pid: number;
  readonly adminKey: string;
  /**
   * Sends a GraphQL request with the ADMIN key, or with `authorization`; null sends none. Returns the parsed answer.
   */
  ask(query: string, variables?: Readonly<Record<string, unknown>>, authorization?: string | null): Promise<unknown>;
  /** Undefined if the server lives and answers; otherwise a sentence that says what is wrong. */
  fault(): Promise<string | undefined>;
  /** Log lines of level error and above since the last call, each shortened. */
  errors(): readonly string[];
  /** Stops the server and its PostgreSQL cleanly, and kills them if they do not end. */
  stop(): Promise<void>;
}

/** @param dataDir created if it does not exist. */
export async function startAttackedServer(
  dataDir: string,
  env: Readonly<Record<string, string>> = {},
): Promise<AttackedServer> {
  const child = spawn(process.execPath, [PARAFFIN, 'serve'], {
    env: childEnvironment({
      PARAFFIN_DATABASE_URL: '',
      PARAFFIN_DATA_DIR: dataDir,
      PARAFFIN_PORT: '0',
      PARAFFIN_WORKER: 'false',
      PARAFFIN_LOG_LEVEL: 'error',
      // Attacks on this limit set it themselves; all others would be refused by it.
      PARAFFIN_RATE_LIMIT_PER_MINUTE: '100000000',
      ...env,
    }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const gone = once(child, 'exit');
  const { pid } = child;
  if (pid === undefined) throw new Error('The server could not be started.');
  let lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (!/^\s*$|Stopping/.test(line)) lines.push(line.slice(0, 600));
  });
  const requests = openRequests();
  const stop = async (): Promise<void> => {
    requests.close();
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    const killer = setTimeout(() => child.kill('SIGKILL'), END_MS);
    await gone;
    clearTimeout(killer);
    await stopPostgresLeftIn(dataDir);
  };
  const url = await addressIn(child.stdout);
  if (url === undefined) {
    await stop();
    throw new Error(`The server ended without an address: ${lines.join('\n')}`);
  }
  const adminKey = (await readFile(path.join(dataDir, 'admin-key'), 'utf8')).trim();
  const port = Number(new URL(url).port);
  return {
    url,
    port,
    dataDir,
    pid,
    adminKey,
    ask: async (query, variables = {}, authorization = `Bearer ${adminKey}`) => {
      const { text } = await requests.send(port, {
        method: 'POST',
        path: '/graphql',
        headers: { 'content-type': 'application/json', ...(authorization === null ? {} : { authorization }) },
        body: JSON.stringify({ query, variables }),
      });
      const answer: unknown = JSON.parse(text);
      return answer;
    },
    fault: async () => {
      if (child.exitCode !== null || child.signalCode !== null)
        return `the server ended (${child.exitCode ?? child.signalCode}): ${lines.slice(-3).join(' ')}`;
      const status = await requests.send(port, { path: '/healthz' }).then(
        (answer) => answer.status,
        (error: unknown) => String(error),
      );
      return status === 200 ? undefined : `/healthz answered ${status}`;
    },
    errors: () => {
      const seen = lines;
      lines = [];
      return seen;
    },
    stop,
  };
}

async function addressIn(output: NodeJS.ReadableStream): Promise<string | undefined> {
  for await (const line of createInterface({ input: output })) {
    const url = /(http:\/\/\S+)\/graphql/.exec(line)?.[1];
    if (url === undefined) continue;
    output.resume();
    return url;
  }
  return undefined;
}

/** Stops the PostgreSQL of a server that was killed and could not do it. */
async function stopPostgresLeftIn(dataDir: string): Promise<void> {
  const file = path.join(dataDir, 'postgres', 'cluster', 'postmaster.pid');
  const pid = Number((await readFile(file, 'utf8').catch(() => '')).split('\n', 1).join(''));
  if (!(pid > 1 && (await isAlive(pid)))) return;
  process.kill(pid, 'SIGINT');
  const endMs = performance.now() + END_MS;
  while ((await isAlive(pid)) && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 50));
}
