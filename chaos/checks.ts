/** Checks the promises in the database, files and processes themselves, and not by the server's answers. */
import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { checkArtifacts } from '../src/modules/artifacts/index.ts';
import { runsWithMissingEvents } from '../src/modules/runs/index.ts';
import { openArtifactStore, type ArtifactStore } from '../src/platform/artifact-store/index.ts';
import type { Database } from '../src/platform/db.ts';
import { ENDED } from './small-trainings.ts';
import type { ChaosPromise } from './report.ts';
import { livePids, type SystemUnderTest } from './system-under-test.ts';

/** Deadline for PostgreSQL to recover, and for children to end after their agent. */
const SETTLE_MS = 60_000;
const FOLLOW_MS = 15_000;

export interface Outcome {
  /** Digests of the checkpoints that the run has registered. */
  readonly weights: readonly (string | null)[];
  /** Steps and losses in the order in which they were written. */
  readonly losses: readonly (readonly [step: number, loss: number | undefined])[];
}

export async function outcomeOf(db: Database, runId: string): Promise<Outcome> {
  const { checkpoints, metricChunks } = await db.run.findUniqueOrThrow({
    where: { id: runId },
    include: { checkpoints: true, metricChunks: { where: { name: 'loss' }, orderBy: { firstStep: 'asc' } } },
  });
  return {
    weights: checkpoints.map(({ sha256 }) => sha256),
    losses: metricChunks.flatMap((chunk) => chunk.steps.map((step, index) => [step, chunk.values[index]] as const)),
  };
}

/** After each fault: violations of what must hold at any moment, in words. */
export async function faultsNow(system: SystemUnderTest): Promise<string[]> {
  let wrong: string[] = [];
  await system.waiting.until(
    'PostgreSQL',
    async () => {
      wrong = await system.withDatabase((db) => wrongIn(db, openArtifactStore(path.join(system.folder, 'artifacts'))));
      return true;
    },
    SETTLE_MS,
  );
  let orphans: number[] = [];
  await system.waiting
    .until(
      'orphaned processes to end',
      async () => {
        orphans = await system.findOrphans();
        return orphans.length === 0;
      },
      FOLLOW_MS,
    )
    .catch(() => undefined);
  return [...wrong, ...orphans.map((pid) => `process ${pid} has outlived its parent`)];
}

async function wrongIn(db: Database, store: ArtifactStore): Promise<string[]> {
  const twice = await db.$queryRaw<{ what: string }[]>`
    SELECT 'run ' || "sourceRunId" || ' has several checkpoints' AS what FROM "Checkpoint" WHERE "sourceRunId" IS NOT NULL GROUP BY "sourceRunId" HAVING count(*) > 1
    UNION ALL SELECT 'run ' || "runId" || ' has step ' || step || ' of ' || name || ' twice' FROM "RunMetricChunk", unnest(steps) AS each(step) GROUP BY "runId", name, step HAVING count(*) > 1`;
  const missing = await runsWithMissingEvents(db);
  const artifacts = await db.artifact.findMany({ select: { sha256: true, byteSize: true } });
  const incomplete = await Promise.all(
    artifacts.map(async ({ sha256, byteSize }) =>
      (await store.stat(sha256))?.byteSize === Number(byteSize) ? [] : [`artifact ${sha256} is missing or incomplete`],
    ),
  );
  return [
    ...twice.map(({ what }) => what),
    ...missing.map((runId) => `run ${runId} misses events`),
    ...incomplete.flat(),
  ];
}

/** @param undisturbedRunId the run whose result all others must match bit for bit. */
export function checkAtEnd(
  system: SystemUnderTest,
  undisturbedRunId: string,
  runIds: readonly string[],
): Promise<ChaosPromise[]> {
  return system.withDatabase(async (db) => {
    const runs = await db.run.findMany({
      where: { id: { in: [undisturbedRunId, ...runIds] } },
      include: { events: true },
    });
    const outcomes = await Promise.all(runs.map((run) => outcomeOf(db, run.id)));
    const stuck = runs.filter((run) => !ENDED.includes(run.status));
    const unsuccessful = runs.filter((run) => run.status !== 'SUCCEEDED');
    const single = outcomes.filter(({ weights }) => weights.length === 1);
    const digests = new Set(outcomes.flatMap(({ weights }) => weights));
    const series = new Set(
      outcomes.filter((_, index) => runs[index]?.status === 'SUCCEEDED').map(({ losses }) => JSON.stringify(losses)),
    );
    const wrong = await wrongIn(db, openArtifactStore(path.join(system.folder, 'artifacts')));
    const fsck = await checkArtifacts({
      db,
      store: openArtifactStore(path.join(system.folder, 'artifacts')),
      onProgress: () => undefined,
    });
    // A run ends a moment before its folder is deleted.
    await system.waiting
      .until('work folders to be removed', async () => (await readdir(system.workDir)).length === 0, FOLLOW_MS)
      .catch(() => undefined);
    const left = await readdir(system.workDir);
    return [
      {
        promise: 'no run is stuck',
        held: stuck.length === 0,
        seen: `${runs.length - stuck.length} of ${runs.length} ended, in ${runs.reduce((sum, run) => sum + run.attempt, 0)} attempts`,
      },
      {
        promise: 'every run succeeded',
        held: unsuccessful.length === 0,
        seen:
          unsuccessful.length === 0
            ? `${runs.length} SUCCEEDED`
            : unsuccessful.map((run) => `${run.status} ${run.failureCode ?? ''}`).join(', '),
      },
      {
        promise: 'one checkpoint for each run',
        held: single.length === runs.length - unsuccessful.length,
        seen: `${outcomes.reduce((sum, { weights }) => sum + weights.length, 0)} checkpoints of ${runs.length} runs`,
      },
      { promise: 'the same weights, bit for bit', held: digests.size === 1, seen: `${digests.size} different sha256` },
      { promise: 'the same losses', held: series.size === 1, seen: `${series.size} different series` },
      {
        promise: 'events without a gap, each step of a metric once',
        held: wrong.length === 0,
        seen: wrong.length === 0 ? `${runs.reduce((sum, run) => sum + run.events.length, 0)} events` : wrong.join('; '),
      },
      {
        promise: 'every artifact matches its digest',
        held: fsck.damaged.length === 0,
        seen: `${fsck.checked.count} read again, ${fsck.damaged.length} damaged`,
      },
      { promise: 'no work folder is left', held: left.length === 0, seen: `${left.length} left` },
    ];
  });
}

/** Checks a stopped system: none of its processes and ports is left. */
export async function checkNothingLeft({
  seenProcesses,
  seenPorts,
}: Pick<SystemUnderTest, 'seenProcesses' | 'seenPorts'>): Promise<ChaosPromise> {
  const alive = await livePids(seenProcesses);
  const open = (await Promise.all([...seenPorts].map(async (port) => ((await isOpen(port)) ? [port] : [])))).flat();
  return {
    promise: 'no process and no port is left',
    held: alive.length + open.length === 0,
    seen: `${seenProcesses.size} processes and ${seenPorts.size} ports were seen, ${alive.length} and ${open.length} are left`,
  };
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
