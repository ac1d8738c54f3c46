/** What a decoder that a hostile image controls would try: network, signals, files, programs, threads, secrets. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { Worker } from 'node:worker_threads';

export interface ReachOrder {
  readonly do: 'REACH';
  readonly port: number;
  readonly pid: number;
  readonly secretFile: string;
}

function outcomeOf(work: () => unknown): string {
  try {
    work();
    return 'done';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

/** What stopped each try, or "done". */
export async function reach({ port, pid, secretFile }: ReachOrder): Promise<Record<string, string>> {
  const network = await new Promise<string>((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => resolve('done'));
    socket.once('error', (error) => resolve('code' in error ? String(error.code) : error.message));
  });
  return {
    network,
    signal: outcomeOf(() => process.kill(pid, 0)),
    read: outcomeOf(() => readFileSync(secretFile)),
    write: outcomeOf(() => writeFileSync(`${secretFile}-2`, '')),
    start: outcomeOf(() => spawnSync('/bin/true')),
    thread: outcomeOf(() => new Worker('', { eval: true })),
    environment: Object.keys(process.env).sort().join(' '),
  };
}
