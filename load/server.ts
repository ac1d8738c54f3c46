/** The real server in a separate process, on an existing database. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { CollectedHeap } from './memory.ts';

export interface LoadedServer {
  readonly url: string;
  readonly pid: number;
  readonly key: string;
  /** Collects the server's garbage and reports the remaining memory. */
  readonly collect: () => Promise<CollectedHeap>;
}

const HEAP_HOOK = pathToFileURL(path.join(import.meta.dirname, 'collected-heap.ts')).href;
const collectedSchema = z.object({ heapBytes: z.number(), externalBytes: z.number() });
const PROGRAM = path.resolve(import.meta.dirname, '../src/cli/main.ts');
/** One client stands for a whole lab here. */
const RATE_LIMIT_PER_MINUTE = 1_000_000;

export async function withLoadedServer<Result>(
  dataDir: string,
  databaseUrl: string,
  work: (server: LoadedServer) => Promise<Result>,
): Promise<Result> {
  const child = spawn(process.execPath, ['--expose-gc', '--import', HEAP_HOOK, PROGRAM, 'serve'], {
    env: {
      ...process.env,
      PARAFFIN_DATA_DIR: dataDir,
      PARAFFIN_DATABASE_URL: databaseUrl,
      PARAFFIN_PORT: '0',
      PARAFFIN_WORKER: 'false',
      PARAFFIN_LOG_LEVEL: 'warn',
      PARAFFIN_RATE_LIMIT_PER_MINUTE: String(RATE_LIMIT_PER_MINUTE),
    },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const exited = once(child, 'exit');
  try {
    if (child.stdout === null) throw new Error('The server has no output.');
    const url = await addressOf(child.stdout);
    if (child.pid === undefined) throw new Error('The server did not start.');
    const key = (await readFile(path.join(dataDir, 'admin-key'), 'utf8')).trim();
    return await work({ url, pid: child.pid, key, collect: () => collectIn(child) });
  } finally {
    child.kill('SIGTERM');
    await exited;
  }
}

async function collectIn(child: ChildProcess): Promise<CollectedHeap> {
  const reply = once(child, 'message', { signal: AbortSignal.timeout(30_000) });
  child.send('collect');
  return collectedSchema.parse((await reply)[0]);
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
