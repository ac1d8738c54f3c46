/**
 * The system under test: a server with its own PostgreSQL, and a worker that has nothing of it but HTTP through our
 * proxy: no database, and a data folder of its own.
 */
import { execFile, fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { connectToRegistry, type RegistryClient } from '../src/cli/demo/client.ts';
import { childEnvironment } from '../src/env.ts';
import { openDatabase, type Database } from '../src/platform/db.ts';
import { findRunningPostgres } from '../src/platform/postgres.ts';
import { childrenOf, familyOf, identityOf, isAlive } from '../test/support/processes.ts';
import type { Clock } from './clock.ts';
import type { Disk } from './disk.ts';
import { startTcpProxy, type TcpProxy } from '../test/support/tcp-proxy.ts';
import type { Waiting } from './waiting.ts';

const run = promisify(execFile);
const PARAFFIN = path.resolve(import.meta.dirname, '../src/cli/main.ts');
const AGENT_PROGRAM = path.resolve(import.meta.dirname, '../workers/main.ts');
/** Two, so that one training can use the time in which another waits for its lease. */
export const SLOTS = 2;
/** How long a process may take to end: longer than the agent allows its children. */
const END_MS = 40_000;

export interface SystemUnderTest {
  readonly folder: string;
  readonly waiting: Waiting;
  /** Undefined: the machine's clock is used, and never changed. */
  readonly clock: Clock | undefined;
  /** Undefined: the machine's disk is used, and never filled. */
  readonly disk: Disk | undefined;
  /** Between the agent with its children and the server. */
  readonly proxy: TcpProxy;
  /** Where the agent gives each run a folder. */
  readonly workDir: string;
  client(): RegistryClient & { readonly url: string };
  serverPid(): number;
  agentPid(): number;
  /** The processes of running runs. */
  childPids(): Promise<number[]>;
  postgresPid(): Promise<number>;
  /** For the checks: neither agent nor children have it. */
  databaseUrl(): Promise<string>;
  /** Runs one query on the database itself. */
  withDatabase<Result>(work: (db: Database) => Promise<Result>): Promise<Result>;
  /** Runs the command line on this registry. @returns its output. @throws Error for another exit code than 0. */
  paraffin(...words: readonly string[]): Promise<string>;
  restartServer(): Promise<void>;
  restartAgent(): Promise<void>;
  /** Every process seen so far: its pid by its identity, because the kernel reuses pids. */
  readonly seenProcesses: ReadonlyMap<string, number>;
  /** Every port used so far. */
  readonly seenPorts: ReadonlySet<number>;
  /** Adds the present processes and ports to those seen. @returns the pids of live processes whose parent has ended. */
  findOrphans(): Promise<number[]>;
  /** Stops everything cleanly, the agent first. */
  stop(): Promise<void>;
}

export interface SystemOptions {
  readonly waiting: Waiting;
  readonly clock?: Clock | undefined;
  readonly disk?: Disk | undefined;
  /** The registry's admin key; undefined for a new registry, which creates one. */
  readonly keyFile?: string;
}

interface Process {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly gone: Promise<unknown>;
}

export async function startSystem(
  folder: string,
  { waiting, clock, disk, keyFile = path.join(folder, 'admin-key') }: SystemOptions,
): Promise<SystemUnderTest> {
  const seenProcesses = new Map<string, number>();
  const seenPorts = new Set<number>();
  const workerFolder = path.join(folder, 'worker');
  const databaseUrl = async (): Promise<string> => {
    const url = await findRunningPostgres(path.join(folder, 'postgres'));
    if (url === undefined) throw new Error('PostgreSQL is not ready.');
    return url;
  };
  const serverSettings = {
    PARAFFIN_DATA_DIR: folder,
    PARAFFIN_PORT: '0',
    PARAFFIN_WORKER: 'false',
    PARAFFIN_LOG_LEVEL: 'silent',
    ...clock?.env,
  };
  let { process: server, client } = await serve(serverSettings, keyFile);
  const proxy = await startTcpProxy(async () => Number(new URL(client.url).port));
  seenPorts.add(proxy.port);
  const startAgent = async (): Promise<Process> => {
    const settings = {
      PARAFFIN_URL: `http://127.0.0.1:${proxy.port}`,
      PARAFFIN_API_KEY: (await readFile(keyFile, 'utf8')).trim(),
      PARAFFIN_DATA_DIR: workerFolder,
      PARAFFIN_CACHE_DIR: path.join(workerFolder, 'cache'),
      PARAFFIN_WORKER_KINDS: 'import,pretraining',
      PARAFFIN_CPU_SLOTS: String(SLOTS),
      PARAFFIN_LOG_LEVEL: 'silent',
    };
    return running(
      fork(AGENT_PROGRAM, [], {
        env: childEnvironment({ ...settings, ...clock?.env }),
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      }),
    );
  };
  let agent = await startAgent().catch(async (error: unknown) => {
    await end(server);
    await proxy.close();
    throw error;
  });
  const postgresPid = async (): Promise<number> =>
    Number(
      (await readFile(path.join(folder, 'postgres', 'cluster', 'postmaster.pid'), 'utf8')).split('\n', 1).join(''),
    );
  return {
    folder,
    waiting,
    clock,
    disk,
    proxy,
    workDir: path.join(workerFolder, 'work'),
    client: () => client,
    serverPid: () => server.pid,
    agentPid: () => agent.pid,
    childPids: () => childrenOf(agent.pid),
    postgresPid,
    databaseUrl,
    withDatabase: async (work) => {
      const db = openDatabase(await databaseUrl(), { maxConnections: 2 });
      return work(db).finally(() => db.$disconnect());
    },
    paraffin: (...words) => paraffin(words, { PARAFFIN_DATA_DIR: folder }),
    restartServer: async () => {
      await server.gone;
      ({ process: server, client } = await serve(serverSettings, keyFile));
    },
    restartAgent: async () => {
      await agent.gone;
      agent = await startAgent();
    },
    seenProcesses,
    seenPorts,
    findOrphans: async () => {
      const roots = [
        server.pid,
        agent.pid,
        ...(await postgresPid().then(
          (pid) => [pid],
          () => [],
        )),
      ];
      const family = new Set((await Promise.all(roots.map(familyOf))).flat());
      for (const url of [await databaseUrl().catch(() => undefined), client.url])
        if (url !== undefined) seenPorts.add(Number(new URL(url).port));
      const alive = await livePids(seenProcesses);
      for (const pid of family) {
        const identity = await identityOf(pid);
        if (identity !== undefined) seenProcesses.set(identity, pid);
      }
      return alive.filter((pid) => !family.has(pid));
    },
    stop: async () => {
      proxy.restore();
      await end(agent);
      await end(server);
      // A killed server cannot stop its PostgreSQL.
      const left = await postgresPid().catch(() => undefined);
      if (left !== undefined && (await isAlive(left))) process.kill(left, 'SIGINT');
      const endMs = performance.now() + END_MS;
      while (left !== undefined && (await isAlive(left)) && performance.now() < endMs) await setTimeout(100);
      await proxy.close();
      await clock?.forget(seenProcesses.values());
    },
  };
}

/** Pids of these processes that have not ended. */
export async function livePids(processes: ReadonlyMap<string, number>): Promise<number[]> {
  const found = await Promise.all(
    [...processes].map(async ([identity, pid]) => ((await identityOf(pid)) === identity ? [pid] : [])),
  );
  return found.flat();
}

/** Runs the command line in a separate process. @returns its output. @throws Error for another exit code than 0. */
export async function paraffin(words: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
  const { stdout } = await run(process.execPath, [PARAFFIN, ...words], {
    env: childEnvironment({ PARAFFIN_DATABASE_URL: '', ...env }),
    maxBuffer: 16_000_000,
  });
  return stdout;
}

function running(child: ChildProcess): Process {
  const gone = once(child, 'exit');
  if (child.pid === undefined) throw new Error('A process could not be started.');
  return { child, pid: child.pid, gone };
}

/** Asks the process to end, and kills it if it does not. */
async function end({ child, gone }: Process): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    // The process may be suspended.
    child.kill('SIGCONT');
  }
  const giveUp = new AbortController();
  const killed = setTimeout(END_MS, undefined, { signal: giveUp.signal }).then(
    () => child.kill('SIGKILL'),
    () => undefined,
  );
  await gone;
  giveUp.abort();
  await killed;
}

async function serve(
  settings: Readonly<Record<string, string>>,
  keyFile: string,
): Promise<{ process: Process; client: RegistryClient & { readonly url: string } }> {
  const child = spawn(process.execPath, [PARAFFIN, 'serve'], {
    env: childEnvironment(settings),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const started = running(child);
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const url = /(http:\/\/\S+)\/graphql/.exec(line)?.[1];
      if (url === undefined) continue;
      child.stdout.resume();
      const key = (await readFile(keyFile, 'utf8')).trim();
      return { process: started, client: { ...connectToRegistry(url, key), url } };
    }
    throw new Error('The server ended without an address.');
  } catch (error) {
    await end(started);
    throw error;
  }
}
