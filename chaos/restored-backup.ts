/** A backup that is taken while trainings run, and the same trainings continued from the restored backup. */
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { withStoredBytesLock } from '../src/platform/advisory-lock.ts';
import { openArtifactStore } from '../src/platform/artifact-store/index.ts';
import { writeBackup } from '../src/platform/backup.ts';
import { programVersion } from '../src/platform/program-version.ts';
import { outcomeOf } from './checks.ts';
import { statusOf } from './faults.ts';
import { ENDED } from './small-trainings.ts';
import type { ChaosPromise } from './report.ts';
import { startSystem, paraffin, type SystemUnderTest } from './system-under-test.ts';
import type { Waiting } from './waiting.ts';

/** Time to load TensorFlow and to finish at most two trainings on a busy machine. */
const TRAIN_MS = 240_000;

/** Resolves with the file; it contains at least one unfinished training that has kept a state. */
export async function backUpMidway(system: SystemUnderTest, runIds: readonly string[]): Promise<string> {
  const file = path.join(system.folder, 'meanwhile.tar');
  const hasSavedState = (): Promise<boolean> =>
    system.withDatabase(
      async (db) =>
        (await db.run.count({ where: { id: { in: [...runIds] }, status: 'RUNNING', trainingStates: { some: {} } } })) >
        0,
    );
  await system.waiting.until('a training that has saved a state', hasSavedState, 180_000);
  const databaseUrl = await system.databaseUrl();
  await withStoredBytesLock(databaseUrl, 'SHARED', () =>
    writeBackup({
      databaseUrl,
      store: openArtifactStore(path.join(system.folder, 'artifacts')),
      file,
      program: programVersion(),
    }),
  );
  return file;
}

export interface RestoredBackup {
  /** The backup. */
  readonly file: string;
  /** An empty folder. */
  readonly folder: string;
  /** A key of the first registry: keys are restored, too. */
  readonly keyFile: string;
  /** The result that every training must match bit for bit; the backup contains it. */
  readonly undisturbedRunId: string;
  readonly waiting: Waiting;
}

export async function continueFromBackup({
  file,
  folder,
  keyFile,
  undisturbedRunId,
  waiting,
}: RestoredBackup): Promise<ChaosPromise> {
  await paraffin(['restore', file, '--data-dir', folder], {});
  const system = await startSystem(folder, { waiting, keyFile });
  try {
    const midway = await system.withDatabase((db) =>
      db.run.findMany({
        where: { events: { some: { kind: 'REQUEUED', message: { startsWith: 'Restored from a backup' } } } },
        select: { id: true, trainingStates: { select: { step: true } } },
      }),
    );
    const isOver = async (): Promise<boolean> =>
      (await Promise.all(midway.map(({ id }) => statusOf(system, id)))).every((status) => ENDED.includes(status));
    await waiting.until('the restored trainings to end', isOver, TRAIN_MS).catch((error: unknown) => {
      if (waiting.isOver()) throw error;
    });
    const wanted = await system.withDatabase((db) => outcomeOf(db, undisturbedRunId));
    const outcomes = await Promise.all(midway.map(({ id }) => system.withDatabase((db) => outcomeOf(db, id))));
    const same = outcomes.filter((outcome) => isDeepStrictEqual(outcome, wanted));
    const steps = midway.map(({ trainingStates }) => Math.max(0, ...trainingStates.map(({ step }) => step)));
    return {
      promise:
        'trainings in a backup that was taken midway and restored into another folder reach the same result there',
      held: midway.length > 0 && same.length === midway.length && steps.some((step) => step > 0),
      seen: `${midway.length} unfinished, with saved states at step ${steps.join(' and ')}; ${same.length} with the same weights and losses`,
    };
  } finally {
    await system.stop();
  }
}
