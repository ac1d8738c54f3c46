/** The real server in a process of its own over a database that is there already. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';

export interface LoadedServer {
  readonly url: string;
  readonly pid: number;
  readonly key: string;
}

const PROGRAM = path.resolve(import.meta.dirname, '../src/cli/main.ts');
/** One client stands for a whole lab here. */
const RATE_LIMIT_PER_MINUTE = 1_000_000;

export async function withLoadedServer<Result>(dataDir: string, databaseUrl: string, work: (server: LoadedServer) => Promise<Result>): Promise<Result> {
  const child = spawn(process.execPath, [PROGRAM, 'serve'], {
    env: { ...process.env, PARAFFIN_DATA_DIR: dataDir, PARAFFIN_DATABASE_URL: databaseUrl, PARAFFIN_PORT: '0', PARAFFIN_WORKER: 'false', PARAFFIN_LOG_LEVEL: 'warn', PARAFFIN_RATE_LIMIT_PER_MINUTE: String(RATE_LIMIT_PER_MINUTE) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  try {
    const url = await addressOf(child.stdout);
    if (child.pid === undefined) throw new Error('The server did not start.');
    const key = (await readFile(path.join(dataDir, 'admin-key'), 'utf8')).trim();
    return await work({ url, pid: child.pid, key });
  } finally {
    child.kill('SIGTERM');
    await exited;
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
