/** The real server in a process of its own, for tests that kill it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { childEnvironment } from '../../src/env.ts';
import { artifactVariables } from './artifact-place.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

export interface ServerProcess {
  /** Without a slash at its end. */
  readonly url: string;
  readonly pid: number;
  readonly child: ChildProcess;
  /** Resolves when the process has ended. */
  readonly gone: Promise<unknown>;
  /** @returns what it has written to standard error. */
  log(): string;
}

export interface ServerProcessOptions {
  readonly dataDir: string;
  readonly databaseUrl: string;
  /** Variables beyond the data directory, the database and the port, which is any free one. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Resolves when the server answers at its address.
 * @throws Error with the server's log if it ends before that.
 */
export async function startServerProcess({ dataDir, databaseUrl, env }: ServerProcessOptions): Promise<ServerProcess> {
  let log = '';
  const child = spawn(process.execPath, ['src/cli/main.ts', 'serve'], {
    cwd: ROOT,
    env: childEnvironment({
      PARAFFIN_DATA_DIR: dataDir,
      ...artifactVariables(dataDir),
      PARAFFIN_DATABASE_URL: databaseUrl,
      PARAFFIN_PORT: '0',
      ...env,
    }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString('utf8')));
  const gone = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout })) {
    const [, url] = /(http:\/\/\S+)\/graphql/.exec(line) ?? [];
    if (url === undefined || child.pid === undefined) continue;
    child.stdout.resume();
    return { url, pid: child.pid, child, gone, log: () => log };
  }
  throw new Error(`The server ended without an address. ${log}`);
}
