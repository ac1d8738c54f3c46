/** What is broken: a server with its own PostgreSQL, and an agent that reaches it over a wire of ours. */
import { fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { connectToRegistry, type RegistryClient } from '../src/cli/demo/client.ts';
import { childEnvironment } from '../src/env.ts';
import { findRunningPostgres } from '../src/platform/postgres.ts';
import { childrenOf, familyOf } from '../test/support/processes.ts';
import { openWire, type Wire } from './proxy.ts';

const SERVER_PROGRAM = path.resolve(import.meta.dirname, '../src/cli/main.ts');
const AGENT_PROGRAM = path.resolve(import.meta.dirname, '../workers/main.ts');

export interface Stage {
  readonly folder: string;
  readonly wire: Wire;
  client(): RegistryClient;
  serverPid(): number;
  agentPid(): number;
  /** The process of the run that is under way; undefined between two. */
  childPid(): Promise<number | undefined>;
  postgresPid(): Promise<number>;
  /** Directly, past the wire. */
  databaseUrl(): Promise<string>;
  restartServer(): Promise<void>;
  restartAgent(): Promise<void>;
  /** Every process that was ever seen here. */
  readonly seenPids: ReadonlySet<number>;
  /** Every port that was ever listened on. */
  readonly seenPorts: ReadonlySet<number>;
  look(): Promise<void>;
  /** In good order: the agent first. */
  close(): Promise<void>;
}

interface Process {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly gone: Promise<unknown>;
}

export async function openStage(folder: string): Promise<Stage> {
  const seenPids = new Set<number>();
  const seenPorts = new Set<number>();
  const databaseUrl = async (): Promise<string> => {
    const url = await findRunningPostgres(path.join(folder, 'postgres'));
    if (url === undefined) throw new Error('PostgreSQL is not ready.');
    return url;
  };
  let { process: server, client } = await serve(folder);
  const wire = await openWire(async () => Number(new URL(await databaseUrl()).port));
  seenPorts.add(wire.port);
  const startAgent = async (): Promise<Process> => {
    const url = new URL(await databaseUrl());
    url.port = String(wire.port);
    const child = fork(AGENT_PROGRAM, { env: childEnvironment({ PARAFFIN_DATABASE_URL: url.href, PARAFFIN_DATA_DIR: folder, PARAFFIN_LOG_LEVEL: 'silent' }), stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    return running(child);
  };
  let agent = await startAgent();
  const postgresPid = async (): Promise<number> => Number((await readFile(path.join(folder, 'postgres', 'cluster', 'postmaster.pid'), 'utf8')).split('\n', 1).join(''));
  return {
    folder,
    wire,
    client: () => client,
    serverPid: () => server.pid,
    agentPid: () => agent.pid,
    childPid: async () => (await childrenOf(agent.pid)).at(0),
    postgresPid,
    databaseUrl,
    restartServer: async () => {
      await server.gone;
      ({ process: server, client } = await serve(folder));
    },
    restartAgent: async () => {
      await agent.gone;
      agent = await startAgent();
    },
    seenPids,
    seenPorts,
    look: async () => {
      for (const pid of [...(await familyOf(server.pid)), ...(await familyOf(agent.pid))]) seenPids.add(pid);
      for (const url of [await databaseUrl().catch(() => undefined), client.url]) if (url !== undefined) seenPorts.add(Number(new URL(url).port));
    },
    close: async () => {
      agent.child.kill('SIGTERM');
      await agent.gone;
      server.child.kill('SIGTERM');
      await server.gone;
      await wire.close();
    },
  };
}

function running(child: ChildProcess): Process {
  const gone = once(child, 'exit');
  if (child.pid === undefined) throw new Error('A process could not be started.');
  return { child, pid: child.pid, gone };
}

async function serve(folder: string): Promise<{ process: Process; client: RegistryClient & { readonly url: string } }> {
  const child = spawn(process.execPath, [SERVER_PROGRAM, 'serve'], {
    env: childEnvironment({ PARAFFIN_DATA_DIR: folder, PARAFFIN_PORT: '0', PARAFFIN_WORKER: 'false', PARAFFIN_LOG_LEVEL: 'fatal' }), stdio: ['ignore', 'pipe', 'inherit'],
  });
  const started = running(child);
  for await (const line of createInterface({ input: child.stdout })) {
    const url = /(http:\/\/\S+)\/graphql/.exec(line)?.[1];
    if (url === undefined) continue;
    child.stdout.resume();
    const key = (await readFile(path.join(folder, 'admin-key'), 'utf8')).trim();
    return { process: started, client: { ...connectToRegistry(url, key), url } };
  }
  throw new Error('The server ended without an address.');
}
