/** Queries on runs for garbage collection and backups. */
import type { Database, Transaction } from '../../platform/db.ts';

/**
 * When the oldest active run began; undefined if none is active. A run may record an artifact long after it stored the
 * bytes.
 */
export async function oldestActiveStart(db: Database): Promise<Date | undefined> {
  const oldest = await db.run.aggregate({
    where: { status: { in: ['RUNNING', 'CANCELING'] } },
    _min: { startedAt: true },
  });
  return oldest._min.startedAt ?? undefined;
}

/**
 * Deletes training states that no run will continue from: all but the last `keepLast` states of each run, and all
 * states of succeeded runs. The state that a run's own probe found best stays until it is registered as a checkpoint.
 * @returns the number of deleted states.
 */
export async function dropSupersededStates(tx: Transaction, keepLast: number): Promise<number> {
  return tx.$executeRaw`
    DELETE FROM "TrainingState" s USING "Run" r, (
      SELECT "runId", step, row_number() OVER (PARTITION BY "runId" ORDER BY step DESC) AS place,
        "probeMacroF1" IS NOT NULL AND row_number() OVER (PARTITION BY "runId" ORDER BY "probeMacroF1" DESC NULLS LAST, step) = 1 AS "isBest"
      FROM "TrainingState") ranked
    WHERE r.id = s."runId" AND ranked."runId" = s."runId" AND ranked.step = s.step AND (ranked.place > ${Math.max(1, keepLast)} OR r.status = 'SUCCEEDED')
      AND NOT (ranked."isBest" AND NOT EXISTS (SELECT 1 FROM "Checkpoint" c WHERE c."sourceRunId" = s."runId" AND c.step = s.step))`;
}
