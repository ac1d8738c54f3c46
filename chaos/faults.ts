/**
 * The faults that are injected into a system, one at a time. Each returns false if there was nothing to apply it to.
 */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { RUN_JOBS } from '../src/jobs/index.ts';
import { openQueue } from '../src/platform/queue.ts';
import { drawTissue } from '../src/synthetic/tissue.ts';
import { familyOf } from '../test/support/processes.ts';
import { oneOf, type Random } from './random.ts';
import { LEFT_BYTES } from './disk.ts';
import { ENDED, importImages } from './small-trainings.ts';
import type { SystemUnderTest } from './system-under-test.ts';
import { LEASE_SECONDS } from '../src/protocol/runs.ts';

const run = promisify(execFile);

/** Longer than a lease, so that another worker takes the run meanwhile. */
const FREEZE_MS = (LEASE_SECONDS + 5) * 1_000;
/** A failover makes the database unreachable for less than this. */
const UNREACHABLE_MS = 60_000;
/** Time for a process to start, load TensorFlow and train until a state is saved, on a busy machine. */
const SAVE_DEADLINE_MS = 90_000;
/** For an import to start and write its first shard. */
const REFUSAL_MS = 30_000;
const ANSWER_MS = 60_000;
const CHILD_MS = 2 * LEASE_SECONDS * 1_000;
const CLOCK_BACK_SECONDS_MAX = 3_600;
/** The network between worker and server delays and reorders messages for this long. */
const DISORDER_MS = 40_000;
const DISORDER_DELAY_MS_MAX = 1_500;
/** This share of the requests arrives late: after the worker has repeated them, and perhaps after newer ones. */
const LATE_SHARE = 0.1;
const LATE_MS = { min: 2_000, max: 8_000 };
/** Requests of users while the database restarts. */
const READERS = 8;
/** Deadline for a cancelled run to end; the promise is ten seconds. */
const CANCEL_PATIENCE_MS = 60_000;

export interface FaultContext {
  readonly system: SystemUnderTest;
  readonly random: Random;
  readonly runIds: readonly string[];
  /** How long the run took to end after the cancel, if it ended. */
  readonly onCanceled: (tookMs: number) => void;
  /** How long the server stays away. */
  readonly serverGoneMs: number;
}
export type Fault = (context: FaultContext) => Promise<boolean>;

async function killChild({ system, random }: FaultContext): Promise<boolean> {
  if (!(await untilAllHaveProgressed(system))) return false;
  const pid = await someChild(system, random);
  return pid !== undefined && signal(pid, 'SIGKILL');
}

async function killAgent({ system }: FaultContext): Promise<boolean> {
  signal(system.agentPid(), 'SIGKILL');
  await system.restartAgent();
  return true;
}

async function killServer({ system }: FaultContext): Promise<boolean> {
  signal(system.serverPid(), 'SIGKILL');
  await system.restartServer();
  return true;
}

/**
 * The server and its PostgreSQL are gone for minutes, while the trainings go on. Throws Error if a run that a living
 * agent held is taken back.
 */
async function loseServer({ system, serverGoneMs }: FaultContext): Promise<boolean> {
  const held = await heldRuns(system);
  if (held.length === 0) return false;
  signal(system.serverPid(), 'SIGKILL');
  await system.waiting.pause(serverGoneMs);
  await system.restartServer();
  await untilContinued(system, held);
  return true;
}

/**
 * Messages between worker and server are delayed and overtake one another, and some requests arrive after their
 * repetition. Throws Error if a run that a living agent held is taken back.
 */
async function disorderNetwork({ system, random }: FaultContext): Promise<boolean> {
  const held = await heldRuns(system);
  if (held.length === 0) return false;
  const lateBefore = system.proxy.lateCount();
  system.proxy.disorder({
    delayMs: () => random() * DISORDER_DELAY_MS_MAX,
    lateMs: () => (random() < LATE_SHARE ? LATE_MS.min + random() * (LATE_MS.max - LATE_MS.min) : undefined),
  });
  try {
    await system.waiting.pause(DISORDER_MS);
  } finally {
    system.proxy.restore();
  }
  await untilContinued(system, held);
  return system.proxy.lateCount() > lateBefore;
}

/** The server is running and restarts it. */
async function killPostgres({ system }: FaultContext): Promise<boolean> {
  return signal(await system.postgresPid(), 'SIGKILL');
}

/** A fast shutdown (SIGINT ends every connection and writes a checkpoint) while trainings write and users read. */
async function restartPostgres({ system }: FaultContext): Promise<boolean> {
  const pid = await system.postgresPid();
  let isOver = false;
  const read = async (): Promise<void> => {
    while (!isOver) {
      await system
        .client()
        .request(z.unknown(), '{ runs(first: 20) { totalCount nodes { id status progress } } }')
        .catch(() => undefined);
      await system.waiting.pause(20);
    }
  };
  const readers = Array.from({ length: READERS }, read);
  try {
    await system.waiting.pause(500);
    if (!signal(pid, 'SIGINT')) return false;
    await system.waiting.until(
      'another PostgreSQL',
      async () => (await system.postgresPid()) !== pid && (await answers(system)),
      ANSWER_MS,
    );
  } finally {
    isOver = true;
    await Promise.allSettled(readers);
  }
  return true;
}

/**
 * The agent is suspended until its run is taken back, and then resumes without knowing. Its children continue
 * meanwhile.
 */
async function freezeAgent({ system, random }: FaultContext): Promise<boolean> {
  const pid = system.agentPid();
  if ((await someChild(system, random)) === undefined) return false;
  signal(pid, 'SIGSTOP');
  await system.waiting.pause(FREEZE_MS);
  return signal(pid, 'SIGCONT');
}

/** The agent and its children cannot reach the server, for less or for more than the duration of a lease. */
async function cutNetwork({ system, random }: FaultContext): Promise<boolean> {
  system.proxy.disconnect();
  await system.waiting.pause(1_000 + random() * FREEZE_MS);
  system.proxy.restore();
  return true;
}

/**
 * PostgreSQL is suspended for a minute, three times as long as a lease, and then resumes: no answer and no end of a
 * connection, and the worker gets no answer either. Throws Error if a run that a living agent held is taken back.
 */
async function freezePostgres({ system }: FaultContext): Promise<boolean> {
  const held = await heldRuns(system);
  if (held.length === 0) return false;
  const family = await familyOf(await system.postgresPid());
  for (const pid of family) signal(pid, 'SIGSTOP');
  try {
    await system.waiting.pause(UNREACHABLE_MS);
  } finally {
    // Also after Ctrl-C: a suspended process hears nothing of its end.
    for (const pid of family) signal(pid, 'SIGCONT');
  }
  await untilContinued(system, held);
  return true;
}

interface HeldRun {
  readonly id: string;
  readonly attempt: number;
  /** Of its last event. */
  readonly sequence: number;
}

/** Resolves when something has happened to each run since. Throws Error if one was taken back. */
async function untilContinued(system: SystemUnderTest, held: readonly HeldRun[]): Promise<void> {
  for (const { id, attempt, sequence } of held) {
    await system.waiting.until(
      `run ${id} to continue`,
      () =>
        system.withDatabase(async (db) => {
          const run = await db.run.findUniqueOrThrow({ where: { id } });
          if (run.attempt !== attempt) return true;
          return (await db.runEvent.count({ where: { runId: id, sequence: { gt: sequence } } })) > 0;
        }),
      SAVE_DEADLINE_MS,
    );
    const run = await system.withDatabase((db) => db.run.findUniqueOrThrow({ where: { id } }));
    if (run.attempt !== attempt || run.status === 'QUEUED') throw new Error(`run ${id} was taken back`);
  }
}

/** Runs whose lease a living agent renews: after an earlier fault, a dead one's may still be running out. */
async function heldRuns(system: SystemUnderTest): Promise<HeldRun[]> {
  const leases = (): Promise<ReadonlyMap<string, number>> =>
    system.withDatabase(async (db) => {
      const runs = await db.run.findMany({ where: { status: 'RUNNING' } });
      return new Map(runs.map(({ id, leaseExpiresAt }) => [id, leaseExpiresAt?.getTime() ?? 0]));
    });
  let before = await leases();
  let renewed: string[] = [];
  await system.waiting
    .until(
      'a lease to be renewed',
      async () => {
        const now = await leases();
        renewed = [...before].flatMap(([id, endsAt]) => ((now.get(id) ?? endsAt) === endsAt ? [] : [id]));
        before = now;
        return renewed.length > 0;
      },
      CHILD_MS,
    )
    .catch(() => undefined);
  return system.withDatabase(async (db) => {
    const runs = await db.run.findMany({
      where: { id: { in: renewed }, status: 'RUNNING' },
      include: { events: { orderBy: { sequence: 'desc' }, take: 1 } },
    });
    return runs.map(({ id, attempt, events }) => ({ id, attempt, sequence: events[0]?.sequence ?? 0 }));
  });
}

/**
 * An import writes to a full disk (STORAGE_FULL) and waits in the queue until there is room. It is an import because
 * the trainings are all the same: the server has their bytes already, and is not sent them again. Throws Error if the
 * import does not succeed afterwards. Without a disk that can be mounted, the next file that a child writes fails
 * because of a file size limit (EFBIG).
 */
async function fillDisk({ system, random }: FaultContext): Promise<boolean> {
  if (!(await untilAllHaveProgressed(system))) return false;
  const { disk, waiting } = system;
  const refusals = (): Promise<number> =>
    system.withDatabase((db) =>
      db.runEvent.count({
        where: { kind: 'REQUEUED', message: { contains: disk === undefined ? 'EFBIG' : 'nearly full' } },
      }),
    );
  const before = await refusals();
  const untilRefused = (): Promise<boolean> =>
    waiting
      .until('a write that is refused', async () => (await refusals()) > before, REFUSAL_MS)
      .then(
        () => true,
        () => false,
      );
  if (disk !== undefined) {
    const seed = Math.floor(random() * 1e9);
    const folder = path.join(system.folder, 'imports', `disk-full-${seed}`);
    await drawTissue({ outDir: folder, imagesPerLabel: 4, imageSizePx: 40, seed, groups: 2 });
    await disk.fill();
    const imported = importImages(system.client(), {
      ...{ name: `Disk full ${seed}`, folder, waiting, deadlineMs: SAVE_DEADLINE_MS },
    });
    // Awaited below; a failure before that must not count as an unhandled rejection.
    imported.catch(() => undefined);
    // Must be repaired before the import meets it a third time.
    const isRefused = await untilRefused().finally(() => disk.clear());
    await imported;
    return isRefused;
  }
  const pid = await someChild(system, random);
  if (pid === undefined) return false;
  const isLimited = await run('prlimit', ['--pid', String(pid), `--fsize=${LEFT_BYTES}`]).then(
    () => true,
    () => false,
  );
  return isLimited && untilRefused();
}

/** The queue delivers every message a second time. */
async function deliverTwice({ system, runIds }: FaultContext): Promise<boolean> {
  const queue = await openQueue({
    url: await system.databaseUrl(),
    jobs: Object.values(RUN_JOBS),
    onError: () => undefined,
  });
  try {
    await system.withDatabase((db) =>
      db.$transaction(async (tx) => {
        for (const runId of runIds) await queue.send(tx, RUN_JOBS.PRETRAINING, { runId });
      }),
    );
    return true;
  } finally {
    await queue.close();
  }
}

/**
 * The clock of every process here is set back by up to an hour; in half of the cases the agent dies at the same moment,
 * so that its lease now ends in the future.
 */
async function setClockBack(context: FaultContext): Promise<boolean> {
  const { system, random } = context;
  const { clock } = system;
  if (clock === undefined) return false;
  const agentDies = random() < 0.5;
  const seconds = 60 + random() * (CLOCK_BACK_SECONDS_MAX - 60);
  if (agentDies) signal(system.agentPid(), 'SIGKILL');
  await clock.setBack(seconds);
  if (agentDies) await system.restartAgent();
  const behindMs = -1_000 * clock.offsetSeconds();
  await system.waiting.until(
    'the clock of PostgreSQL',
    () =>
      system.withDatabase(async (db) => {
        const [row] = await db.$queryRaw<{ now: Date }[]>`SELECT clock_timestamp() AS now`;
        return row !== undefined && Math.abs(Date.now() - behindMs - row.now.getTime()) < 5_000;
      }),
    ANSWER_MS,
  );
  return true;
}

/** A running run is cancelled, by two simultaneous requests, and resumed. */
async function cancelAndResume({ system, random, runIds, onCanceled }: FaultContext): Promise<boolean> {
  await system.waiting.until('an answer', () => answers(system), ANSWER_MS);
  await someChild(system, random);
  const underWay = await system.withDatabase((db) =>
    db.run.findMany({ where: { id: { in: [...runIds] }, status: 'RUNNING' }, select: { id: true } }),
  );
  const victim = oneOf(underWay, random);
  if (victim === undefined) return false;
  const tookMs = await cancelTwice(system, victim.id);
  if (tookMs === undefined) return false;
  onCanceled(tookMs);
  await system
    .client()
    .request(
      z.object({ resumeRun: z.object({ run: z.object({ id: z.string() }) }) }),
      'mutation ($id: ID!) { resumeRun(id: $id) { run { id } } }',
      { id: victim.id },
    );
  return true;
}

export const FAULTS = {
  'kill child': killChild,
  'kill agent': killAgent,
  'kill server': killServer,
  'server gone': loseServer,
  'kill PostgreSQL': killPostgres,
  'restart PostgreSQL': restartPostgres,
  'freeze PostgreSQL': freezePostgres,
  'freeze agent': freezeAgent,
  'cut network': cutNetwork,
  'disorder network': disorderNetwork,
  'fill disk': fillDisk,
  'set clock back': setClockBack,
  'deliver twice': deliverTwice,
  'cancel twice': cancelAndResume,
} satisfies Readonly<Record<string, Fault>>;

export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES: readonly FaultName[] = [
  'kill child',
  'kill agent',
  'kill server',
  'server gone',
  'kill PostgreSQL',
  'restart PostgreSQL',
  'freeze PostgreSQL',
  'freeze agent',
  'cut network',
  'disorder network',
  'fill disk',
  'set clock back',
  'deliver twice',
  'cancel twice',
];

/**
 * Requests a cancel twice at once. @returns the time until the run was CANCELED; undefined if it had ended otherwise.
 */
export async function cancelTwice(system: SystemUnderTest, id: string): Promise<number | undefined> {
  const startMs = performance.now();
  const cancel = (): Promise<unknown> =>
    system.client().request(z.unknown(), 'mutation ($id: ID!) { cancelRun(id: $id) { run { status } } }', { id });
  await Promise.all([cancel(), cancel()]);
  let status = '';
  await system.waiting.until(
    'the cancel',
    async () => {
      status = await statusOf(system, id);
      return ENDED.includes(status);
    },
    CANCEL_PATIENCE_MS,
  );
  return status === 'CANCELED' ? performance.now() - startMs : undefined;
}

export async function statusOf(system: SystemUnderTest, id: string): Promise<string> {
  return (
    await system
      .client()
      .request(z.object({ run: z.object({ status: z.string() }) }), 'query ($id: ID!) { run(id: $id) { status } }', {
        id,
      })
  ).run.status;
}

/** After an earlier fault, a run may have to wait for a lease to expire. */
async function someChild(system: SystemUnderTest, random: Random): Promise<number | undefined> {
  await system.waiting
    .until('a child', async () => (await system.childPids()).length > 0, CHILD_MS)
    .catch(() => undefined);
  return oneOf(await system.childPids(), random);
}

async function answers(system: SystemUnderTest): Promise<boolean> {
  return system
    .client()
    .request(z.unknown(), '{ runs(first: 1) { totalCount } }')
    .then(
      () => true,
      () => false,
    );
}

/**
 * By promise, a run fails after three attempts in a row that failed by themselves and saved nothing. Runs must survive
 * these faults, so a run gets such a fault again only after it has saved a state.
 */
async function untilAllHaveProgressed(system: SystemUnderTest): Promise<boolean> {
  const condition = (): Promise<boolean> =>
    system.withDatabase(
      async (db) =>
        (await db.run.count({ where: { status: { in: ['QUEUED', 'RUNNING'] }, fruitlessAttempts: { gt: 0 } } })) === 0,
    );
  return system.waiting.until('every run to have saved a state since', condition, SAVE_DEADLINE_MS).then(
    () => true,
    () => false,
  );
}

function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    // The process has just ended.
    return false;
  }
}
