/**
 * Tries what a reader of untrusted files must not be able to do, and prints what stopped it: reach-out.ts
 * FILE_TO_WRITE FILE_TO_READ
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';

const [toWrite = '', toRead = ''] = process.argv.slice(2);

function outcomeOf(work: () => void): string {
  try {
    work();
    return 'done';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

process.stdout.write(
  JSON.stringify({
    write: outcomeOf(() => writeFileSync(toWrite, 'x')),
    read: outcomeOf(() => void readFileSync(toRead)),
    start: outcomeOf(() => void spawnSync('/bin/true')),
    thread: outcomeOf(() => void new Worker('', { eval: true })),
  }),
);
