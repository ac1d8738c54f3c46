/** Training states that pretrainings keep, in PostgreSQL. */
import type { Database, Transaction } from '../../platform/db.ts';
import { dropSupersededStates } from './runs.housekeeping.store.ts';
import type { KeptStateRecord } from './runs.records.ts';
import { checkpointProbeSchema, type CheckpointProbeRecord } from '../../protocol/checkpoint-probe.ts';
import type { TrainingStateRecord } from '../../protocol/checkpoint.ts';

export type TrainingStateStore = ReturnType<typeof createTrainingStateStore>;

export function createTrainingStateStore(db: Database) {
  return {
    /** Also deletes the states of the run that this one supersedes. */
    addTrainingState: async (tx: Transaction, id: string, state: TrainingStateRecord): Promise<void> => {
      const key = { runId: id, step: state.step };
      const { sha256, probe } = state;
      // The same state of a step may be kept twice: once on schedule, once as the best.
      const probed = probe === null ? {} : { probe, probeMacroF1: probe.ridgeMacroF1 };
      await tx.trainingState.upsert({
        where: { runId_step: key },
        create: { ...key, sha256, ...probed },
        update: { sha256, ...probed },
      });
      await tx.run.update({ where: { id }, data: { fruitlessAttempts: 0 } });
      await dropSupersededStates(tx, { runId: id });
    },

    latestTrainingState: async (id: string): Promise<TrainingStateRecord | undefined> => {
      const row = await db.trainingState.findFirst({ where: { runId: id }, orderBy: { step: 'desc' } });
      return row === null ? undefined : stateRecord(row);
    },

    /** The state with the highest macro F1 of its probe; the earliest in case of a tie. */
    bestTrainingState: async (id: string): Promise<TrainingStateRecord | undefined> => {
      const row = await db.trainingState.findFirst({
        where: { runId: id, probeMacroF1: { not: null } },
        orderBy: [{ probeMacroF1: 'desc' }, { step: 'asc' }],
      });
      return row === null ? undefined : stateRecord(row);
    },

    /** The kept states of each run, by step. */
    keptStates: async (runIds: readonly string[]): Promise<KeptStateRecord[]> => {
      const rows = await db.trainingState.findMany({
        where: { runId: { in: [...runIds] } },
        orderBy: [{ runId: 'asc' }, { step: 'asc' }],
      });
      const byRun = Map.groupBy(rows, (row) => row.runId);
      return rows.map((row) => {
        const scores = (byRun.get(row.runId) ?? []).map(({ probeMacroF1 }) => probeMacroF1 ?? -1);
        const best = Math.max(...scores);
        return {
          ...stateRecord(row),
          runId: row.runId,
          keptAt: row.createdAt,
          isBest: best >= 0 && byRun.get(row.runId)?.[scores.indexOf(best)]?.step === row.step,
        };
      });
    },
  };
}

function stateRecord(row: {
  readonly step: number;
  readonly sha256: string;
  readonly probe: unknown;
}): TrainingStateRecord {
  const probe: CheckpointProbeRecord | null = row.probe === null ? null : checkpointProbeSchema.parse(row.probe);
  return { step: row.step, sha256: row.sha256, probe };
}
