/** What is done to a stage, one thing at a time. Each gives false where there was nothing to do it to. */
import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { RUN_JOBS } from '../src/jobs/index.ts';
import { LEASE_SECONDS } from '../src/modules/runs/index.ts';
import { openDatabase } from '../src/platform/db.ts';
import { openQueue } from '../src/platform/queue.ts';
import type { Stage } from './stage.ts';

const run = promisify(execFile);

/** Longer than a lease: the run is given to somebody else meanwhile. */
const FREEZE_MS = (LEASE_SECONDS + 5) * 1_000;
/** More than anything but a training's state, which has some 90 MB. */
const FULL_DISK_BYTES = 20_000_000;

type Dice = () => number;
export type Fault = (stage: Stage, dice: Dice, runIds: readonly string[]) => Promise<boolean>;

async function killChild(stage: Stage): Promise<boolean> {
  const pid = await stage.childPid();
  return pid !== undefined && signal(pid, 'SIGKILL');
}

async function killAgent(stage: Stage): Promise<boolean> {
  signal(stage.agentPid(), 'SIGKILL');
  await stage.restartAgent();
  return true;
}

async function killServer(stage: Stage): Promise<boolean> {
  signal(stage.serverPid(), 'SIGKILL');
  await stage.restartServer();
  return true;
}

/** The server is there to start it again. */
async function killPostgres(stage: Stage): Promise<boolean> {
  return signal(await stage.postgresPid(), 'SIGKILL');
}

/** The agent stands still while its run is taken back, then wakes up as if nothing had been. Its child goes on meanwhile. */
async function freezeAgent(stage: Stage): Promise<boolean> {
  const pid = stage.agentPid();
  if ((await stage.childPid()) === undefined) return false;
  signal(pid, 'SIGSTOP');
  await sleep(FREEZE_MS);
  return signal(pid, 'SIGCONT');
}

/** Nothing of the agent or its child reaches the database, for less or for more than a lease. */
async function cutNetwork(stage: Stage, dice: Dice): Promise<boolean> {
  stage.wire.cut();
  await sleep(1_000 + dice() * FREEZE_MS);
  stage.wire.mend();
  return true;
}

/**
 * From here on the child can write no large file: what it keeps next breaks off in the middle, as on a disk that is full. (The kernel
 * says EFBIG rather than ENOSPC; everything after that is the same, and no disk of anybody's is filled.)
 */
async function fillDisk(stage: Stage): Promise<boolean> {
  const pid = await stage.childPid();
  if (pid === undefined) return false;
  return run('prlimit', ['--pid', String(pid), `--fsize=${FULL_DISK_BYTES}`]).then(() => true, () => false);
}

/** The queue brings every message a second time. */
async function deliverTwice(stage: Stage, _dice: Dice, runIds: readonly string[]): Promise<boolean> {
  const url = await stage.databaseUrl();
  const db = openDatabase(url, { maxConnections: 2 });
  const queue = await openQueue({ url, jobs: Object.values(RUN_JOBS), onError: () => undefined });
  try {
    await db.$transaction(async (tx) => {
      for (const runId of runIds) await queue.send(tx, RUN_JOBS.PRETRAINING, { runId });
    });
    return true;
  } finally {
    await queue.close();
    await db.$disconnect();
  }
}

export const FAULTS = {
  'kill child': killChild,
  'kill agent': killAgent,
  'kill server': killServer,
  'kill PostgreSQL': killPostgres,
  'freeze agent': freezeAgent,
  'cut network': cutNetwork,
  'fill disk': fillDisk,
  'deliver twice': deliverTwice,
} satisfies Readonly<Record<string, Fault>>;

export type FaultName = keyof typeof FAULTS;

function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    // Gone in this very moment.
    return false;
  }
}

/** Folders of runs, and files that are being written. */
export async function temporaryFiles(folder: string): Promise<string[]> {
  const lists = await Promise.all([path.join(folder, 'work'), path.join(folder, 'artifacts', 'tmp')].map((each) => readdir(each).catch(() => [])));
  return lists.flat();
}
