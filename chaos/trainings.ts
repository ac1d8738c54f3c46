/** Runs trainings while every part of the system is broken at random moments, and then checks every promise. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import type { RegistryClient } from '../src/cli/demo/client.ts';
import { drawTissue } from '../src/synthetic/tissue.ts';
import { thisMachine } from '../test/support/measured.ts';
import { checkAtEnd, faultsNow, checkNothingLeft } from './checks.ts';
import { openClock } from './clock.ts';
import { createRandom, type Random } from './random.ts';
import { openDisk } from './disk.ts';
import { backUpMidway, continueFromBackup } from './restored-backup.ts';
import { cancelTwice, FAULTS, statusOf, type Fault, type FaultName } from './faults.ts';
import type { ChaosPromise, ChaosReport } from './report.ts';
import { ENDED, importImages, launchTraining } from './small-trainings.ts';
import { startSystem, SLOTS, type SystemUnderTest } from './system-under-test.ts';
import { transferOverBadNetwork } from './transfers.ts';
import { createWaiting, type Waiting } from './waiting.ts';

const STEPS = 12;
const KEEP_EVERY = 3;
/**
 * Time within which something must happen to every run: a lease expires, the queue is polled, TensorFlow loads, the
 * database recovers.
 */
const STUCK_MS = 240_000;
const CANCEL_MS = 10_000;
/** Once in every run, because a server that is gone for five minutes proves no more the third time. */
const LONGEST_FAULT: FaultName = 'server gone';

export interface TrainingsOptions {
  readonly seed: number;
  readonly trainingCount: number;
  readonly faults: readonly FaultName[];
  /** How often each fault is injected, if time allows. */
  readonly rounds: number;
  /** How long the server stays away when it is gone. */
  readonly serverGoneMs: number;
  /** No fault and no training starts after this time. */
  readonly deadlineMs: number;
  /** Ends it early and cleans up. */
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

interface TestRun extends TrainingsOptions {
  readonly system: SystemUnderTest;
  readonly waiting: Waiting;
  readonly random: Random;
  readonly startedMs: number;
  readonly versionId: string;
  readonly report: (text: string) => void;
}

export async function runTrainings(options: TrainingsOptions): Promise<ChaosReport> {
  const { seed, signal } = options;
  const startedAt = new Date();
  const startedMs = performance.now();
  const loadBefore = os.loadavg();
  const folder = await mkdtemp(path.join(os.tmpdir(), 'paraffin-chaos-'));
  const home = path.join(folder, 'system');
  const random = createRandom(seed);
  const waiting = createWaiting(signal);
  const report = (text: string): void =>
    options.onProgress(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(4)} s  ${text}`);
  const disk = await openDisk(path.join(home, 'artifacts'));
  let system: SystemUnderTest | undefined;
  try {
    await drawTissue({
      outDir: path.join(home, 'imports', 'images'),
      imagesPerLabel: 4,
      imageSizePx: 40,
      seed,
      groups: 2,
    });
    const clock = await openClock(home);
    system = await startSystem(home, { waiting, clock, disk });
    const versionId = await importImages(system.client(), {
      name: 'Chaos',
      folder: path.join(home, 'imports', 'images'),
      waiting,
      deadlineMs: STUCK_MS,
    });
    const testRun: TestRun = { ...options, system, waiting, random, startedMs, versionId, report };
    const undisturbed = await trainUndisturbed(testRun);
    const promises = [
      await cancelAtStart(testRun),
      // Its own numbers: how many it draws depends on the machine, and the faults must follow from the seed.
      ...(await transferOverBadNetwork(system, createRandom(seed + 1), undisturbed.runId)),
    ];
    for (const { promise, seen } of promises.slice(1)) report(`${promise}: ${seen}`);
    // The backup contains only the first of them, so that the waiting ones are not trained twice.
    const first = await launchSome(testRun, Math.min(SLOTS, options.trainingCount));
    const backup = await backUpMidway(system, first);
    report('a backup was taken during a training');
    const launched = [...first, ...(await launchSome(testRun, options.trainingCount - first.length))];
    const { runIds, faults, remarks, promises: injection } = await injectFaults(testRun, undisturbed, launched);
    promises.push(...injection);
    promises.push(...(await checkAtEnd(system, undisturbed.runId, runIds)));
    await system.findOrphans();
    await system.stop();
    const closed = system;
    system = undefined;
    promises.push(
      await continueFromBackup({
        file: backup,
        folder: path.join(folder, 'elsewhere'),
        keyFile: path.join(home, 'admin-key'),
        undisturbedRunId: undisturbed.runId,
        waiting,
      }),
    );
    promises.push(await checkNothingLeft(closed));
    return {
      startedAt,
      machine: thisMachine(),
      loadAverage: { before: loadBefore, after: os.loadavg() },
      seed,
      trainingCount: runIds.length,
      durationSeconds: (performance.now() - startedMs) / 1000,
      undisturbedSeconds: undisturbed.seconds,
      faults,
      remarks: [
        ...(clock === undefined
          ? ['The clock was not set back: libfaketime is not installed (Debian: apt-get install libfaketime).']
          : []),
        ...(clock === undefined || faults['set clock back'] === undefined
          ? []
          : [`The clock was set back by ${Math.round(-clock.offsetSeconds() / 60)} minutes in total (libfaketime).`]),
        ...(faults['fill disk'] === undefined
          ? []
          : [
              disk === undefined
                ? 'The full disk was a limit on the size of files (EFBIG): no disk could be mounted here.'
                : 'The full disk was a file system without room beyond its reserve (STORAGE_FULL).',
            ]),
        ...(faults['server gone'] === undefined
          ? []
          : [`The server was gone for ${Math.round(options.serverGoneMs / 1000)} s each time.`]),
        ...remarks,
      ],
      promises,
    };
  } finally {
    await system?.stop();
    await disk?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Undisturbed {
  readonly runId: string;
  readonly seconds: number;
}

/** The result that all others must match bit for bit. */
async function trainUndisturbed({ system, versionId, waiting, report }: TestRun): Promise<Undisturbed> {
  const launchedMs = performance.now();
  const runId = await launch(system.client(), versionId);
  await waiting.until('an undisturbed training', async () => ENDED.includes(await statusOf(system, runId)), STUCK_MS);
  const outcome = z.object({
    run: z.object({ status: z.string(), failure: z.object({ message: z.string() }).nullable() }),
  });
  const { status, failure } = (
    await system
      .client()
      .request(outcome, 'query ($id: ID!) { run(id: $id) { status failure { message } } }', { id: runId })
  ).run;
  if (status !== 'SUCCEEDED')
    throw new Error(`An undisturbed training ended as ${status}: ${failure?.message ?? 'without a reason'}`);
  const seconds = (performance.now() - launchedMs) / 1000;
  report(`one training went through undisturbed in ${seconds.toFixed(1)} s`);
  return { runId, seconds };
}

async function cancelAtStart({ system, versionId, waiting, report }: TestRun): Promise<ChaosPromise> {
  const id = await launch(system.client(), versionId);
  await waiting.until('a start', async () => (await statusOf(system, id)) !== 'QUEUED', STUCK_MS);
  const tookMs = await cancelTwice(system, id);
  await waiting.until('the process to end', async () => (await system.childPids()).length === 0, CANCEL_MS);
  const seen =
    tookMs === undefined
      ? await statusOf(system, id)
      : `CANCELED after ${(tookMs / 1000).toFixed(1)} s, at a load average of ${os.loadavg()[0]?.toFixed(1)}`;
  report(`a training that started was cancelled: ${seen}`);
  return {
    promise: 'a cancel during start, sent twice, within ten seconds',
    held: tookMs !== undefined && tookMs <= CANCEL_MS,
    seen,
  };
}

interface FaultInjection {
  /** Number of trainings that were started. */
  readonly runIds: readonly string[];
  readonly faults: Readonly<Record<string, number>>;
  readonly remarks: readonly string[];
  readonly promises: readonly ChaosPromise[];
}

/** Of a fault that finds nothing to apply to, in each round. */
const TRIES_MAX = 3;
/** Faults between two tries. */
const RETRY_AFTER = 3;

async function injectFaults(
  testRun: TestRun,
  undisturbed: Undisturbed,
  runIds: readonly string[],
): Promise<FaultInjection> {
  const { system, waiting, random, startedMs, deadlineMs, rounds, serverGoneMs, report } = testRun;
  const faults: Partial<Record<FaultName, number>> = {};
  const wrong: string[] = [];
  const cancelsMs: number[] = [];
  const names = testRun.faults.filter((name) => name !== 'set clock back' || system.clock !== undefined);
  const planned = inRounds(names, rounds, random);
  const isLate = (): boolean => performance.now() > startedMs + deadlineMs;
  let checkCount = 0;
  // `entries` of an array also visits what is added to it meanwhile.
  for (const [index, name] of planned.entries()) {
    // Spread over the trainings, so that the last of them meet as many faults as the first.
    const endedWanted = Math.floor((index * runIds.length) / planned.length) - SLOTS;
    await waiting.until(
      'trainings to succeed',
      async () => isLate() || (await endedCount(system, runIds)) >= endedWanted,
      deadlineMs,
    );
    await waiting.pause(1_000 * undisturbed.seconds * 0.6 * random());
    if (isLate() || (await endedCount(system, runIds).catch(() => 0)) === runIds.length) break;
    await system.findOrphans();
    const fault: Fault = FAULTS[name];
    try {
      if (
        !(await fault({ system, random, runIds, serverGoneMs, onCanceled: (tookMs) => void cancelsMs.push(tookMs) }))
      ) {
        // There was nothing to apply it to at that moment, for example no write while the disk was full.
        if (planned.filter((each) => each === name).length < TRIES_MAX * rounds)
          planned.splice(index + 1 + RETRY_AFTER, 0, name);
        continue;
      }
      faults[name] = (faults[name] ?? 0) + 1;
      const found = await faultsNow(system);
      checkCount += 1;
      wrong.push(...found.map((what) => `after ${name}: ${what}`));
      report(
        `${name}${found.length === 0 ? '' : `: ${found.join('; ')}`}   (${await endedCount(system, runIds).catch(() => '?')} of ${runIds.length} ended)`,
      );
    } catch (error) {
      if (waiting.isOver()) throw error;
      wrong.push(`${name}: ${String(error)}`);
      report(`${name}: ${String(error)}`);
    }
  }
  const begun = isLate() ? await giveUpWaiting(system, runIds) : runIds;
  await untilAllEnded(system, begun);
  const remarks = [
    ...(begun.length === runIds.length
      ? []
      : [`${runIds.length - begun.length} of ${runIds.length} trainings were not started, because the time was over.`]),
    ...names
      .filter((name) => faults[name] === undefined)
      .map((name) => `Not injected, because time ran out or there was nothing to apply it to: ${name}.`),
  ];
  return {
    runIds: begun,
    faults,
    remarks,
    promises: [
      {
        promise: 'cancels of running runs, each sent twice, within ten seconds',
        held: cancelsMs.every((tookMs) => tookMs <= CANCEL_MS),
        seen:
          cancelsMs.length === 0
            ? 'none'
            : `${cancelsMs.length}, the slowest after ${(Math.max(...cancelsMs) / 1000).toFixed(1)} s; each was resumed`,
      },
      {
        promise: 'after each fault: no duplicates, no artifact without its bytes, no process without its parent',
        held: wrong.length === 0,
        seen: wrong.length === 0 ? `${checkCount} checks` : wrong.join('; '),
      },
    ],
  };
}

/** Every fault comes once before any is repeated, in a new order each round. */
function inRounds(names: readonly FaultName[], rounds: number, random: Random): FaultName[] {
  return Array.from({ length: rounds }, (_, round) => {
    const wanted = round === 0 ? names : names.filter((name) => name !== LONGEST_FAULT);
    const left = [...wanted];
    return wanted.flatMap(() => left.splice(Math.floor(random() * left.length), 1));
  }).flat();
}

/** Cancels the runs that no worker has taken yet. @returns the others. */
async function giveUpWaiting(system: SystemUnderTest, runIds: readonly string[]): Promise<string[]> {
  const waiting = await system.withDatabase((db) =>
    db.run.findMany({ where: { id: { in: [...runIds] }, status: 'QUEUED', attempt: 0 }, select: { id: true } }),
  );
  for (const { id } of waiting) await cancelTwice(system, id);
  return runIds.filter((id) => !waiting.some((run) => run.id === id));
}

/** Resolves when all have ended, or when nothing has happened to any of them for so long that they will never end. */
async function untilAllEnded(system: SystemUnderTest, runIds: readonly string[]): Promise<void> {
  let lastEvents = -1;
  let lastMs = performance.now();
  await system.waiting.until(
    'the trainings',
    async () => {
      if ((await endedCount(system, runIds)) === runIds.length) return true;
      const events = await system.withDatabase((db) => db.runEvent.count());
      if (events !== lastEvents) lastMs = performance.now();
      lastEvents = events;
      return performance.now() - lastMs > STUCK_MS;
    },
    runIds.length * STUCK_MS,
  );
}

async function endedCount(system: SystemUnderTest, runIds: readonly string[]): Promise<number> {
  return system.withDatabase((db) =>
    db.run.count({ where: { id: { in: [...runIds] }, status: { in: ['SUCCEEDED', 'FAILED', 'CANCELED'] } } }),
  );
}

async function launchSome({ system, versionId }: TestRun, count: number): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count) ids.push(await launch(system.client(), versionId));
  return ids;
}

function launch(client: RegistryClient, versionId: string): Promise<string> {
  return launchTraining(client, { modelSlug: 'chaos', versionId, steps: STEPS, checkpointEverySteps: KEEP_EVERY });
}
