/**
 * A worker on a machine that has nothing in common with the server but HTTP: a network namespace of its own with
 * nothing but loopback, a mount namespace in which the server's folder is empty, folders and a home of its own, and
 * none of this process's variables. Where the kernel allows no namespaces, only the folders and variables are apart.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { readEnvironment } from '../../src/env.ts';

const PROGRAM = path.resolve(import.meta.dirname, 'other-machine.program.ts');
/** As root directly, otherwise in a separate user namespace. */
const NAMESPACES = [
  ['--net', '--mount'],
  ['--user', '--map-root-user', '--net', '--mount'],
];

export const wayInSchema = z.object({ socket: z.string(), hiddenFolder: z.string(), databasePort: z.number() });

/** What there is to see of the first machine. */
export const viewSchema = z.object({
  networkInterfaces: z.array(z.string()),
  filesOfServer: z.array(z.string()),
  reachesDatabase: z.boolean(),
});
export type View = z.infer<typeof viewSchema>;

export interface OtherMachine {
  readonly view: View;
  /** False where the kernel allows no namespaces. */
  readonly isApart: boolean;
  stop(): Promise<void>;
}

export interface OtherMachineOptions {
  /** The URL of the server on this machine. */
  readonly url: string;
  /** That may WORK. */
  readonly key: string;
  readonly workerName: string;
  /** The folder of the server, which the other machine does not have. */
  readonly serverFolder: string;
  readonly databaseUrl: string;
}

export async function startOtherMachine(options: OtherMachineOptions): Promise<OtherMachine> {
  const { url, key, workerName, serverFolder, databaseUrl } = options;
  const own = await mkdtemp(path.join(tmpdir(), 'paraffin-other-machine-'));
  const socket = path.join(own, 'registry.sock');
  const cable = createServer((client) => {
    const registry = connect({ host: new URL(url).hostname, port: Number(new URL(url).port) });
    client.pipe(registry).pipe(client);
    client.on('error', () => registry.destroy()).on('close', () => registry.destroy());
    registry.on('error', () => client.destroy()).on('close', () => client.destroy());
  }).listen(socket);
  await once(cable, 'listening');
  await mkdir(path.join(own, 'tmp'));

  const wayIn = { socket, hiddenFolder: serverFolder, databasePort: Number(new URL(databaseUrl).port) };
  const program = [process.execPath, PROGRAM, JSON.stringify(wayInSchema.parse(wayIn))];
  const namespaces = NAMESPACES.find(
    (flags) => spawnSync('unshare', [...flags, 'ip', 'link', 'set', 'lo', 'up']).status === 0,
  );
  // The folder is a parameter of the shell, and no part of its text.
  const script = 'ip link set lo up && mount -t tmpfs none "$1" && shift && exec "$@"';
  const [command = '', ...args] =
    namespaces === undefined ? program : ['unshare', ...namespaces, 'sh', '-c', script, 'sh', serverFolder, ...program];
  const child = spawn(command, args, {
    env: {
      ...{ PATH: process.env['PATH'], LANG: 'C.UTF-8', HOME: own, TMPDIR: path.join(own, 'tmp') },
      ...{ PARAFFIN_API_KEY: key, PARAFFIN_WORKER_NAME: workerName, PARAFFIN_LOG_LEVEL: 'error' },
      PARAFFIN_DATA_DIR: path.join(own, 'data'),
      // The program is installed on both machines.
      PARAFFIN_ENGINE_CACHE_DIR: readEnvironment().engineCacheDir,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await gone;
    cable.close();
    await rm(own, { recursive: true, force: true });
  };
  const view = await firstLine(child, gone).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  return { view: viewSchema.parse(JSON.parse(view)), isApart: namespaces !== undefined, stop };
}

async function firstLine({ stdout }: Pick<ChildProcess, 'stdout'>, gone: Promise<unknown>): Promise<string> {
  if (stdout === null) throw new Error('The other machine says nothing.');
  const [line] = await Promise.race([
    once(createInterface({ input: stdout }), 'line'),
    gone.then(() => Promise.reject(new Error('The other machine ended at its start.'))),
  ]);
  return String(line);
}
