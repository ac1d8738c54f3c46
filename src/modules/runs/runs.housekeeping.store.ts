/** Queries on runs for garbage collection and backups. */
import type { Database, Transaction } from '../../platform/db.ts';
import { Prisma } from '../../generated/prisma/client.ts';
import type { DroppedReferences } from '../artifacts/index.ts';
import { KEEP_STATES_DEFAULT } from '../../protocol/pretraining/monitoring.ts';

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

/** Which states to delete. */
export interface StateRetention {
  /** Default: every run. */
  readonly runId?: string;
  /** Last states to keep of each run; default: the number in the run's config. */
  readonly keepLast?: number | undefined;
}

/**
 * Deletes training states that no run will continue from.
 *
 * A run that has not succeeded keeps its last states, from which it continues; the state that its probe found best,
 * with which later ones are compared; and those of the steps in `registerSteps`. A run that has succeeded keeps only
 * the best state, until that is registered as a checkpoint.
 */
export async function dropSupersededStates(
  tx: Transaction,
  { runId, keepLast }: StateRetention = {},
): Promise<DroppedReferences> {
  const ofRun = runId === undefined ? Prisma.empty : Prisma.sql`WHERE s."runId" = ${runId}::uuid`;
  const keep =
    keepLast === undefined
      ? Prisma.sql`coalesce((r.config->>'keepStates')::int, ${KEEP_STATES_DEFAULT}::int)`
      : Prisma.sql`${Math.max(1, keepLast)}::int`;
  const dropped = await tx.$queryRaw<{ sha256: string }[]>`
    WITH ranked AS (
      SELECT s."runId", s.step, r.status, ${keep} AS keep,
        row_number() OVER (PARTITION BY s."runId" ORDER BY s.step DESC) AS place,
        s."probeMacroF1" IS NOT NULL AND row_number() OVER (PARTITION BY s."runId" ORDER BY s."probeMacroF1" DESC NULLS LAST, s.step) = 1 AS "isBest",
        coalesce(r.config->'registerSteps' @> to_jsonb(s.step), false) AS "isNamed",
        EXISTS (SELECT 1 FROM "Checkpoint" c WHERE c."sourceRunId" = s."runId" AND c.step = s.step) AS "isRegistered"
      FROM "TrainingState" s JOIN "Run" r ON r.id = s."runId" ${ofRun})
    DELETE FROM "TrainingState" s USING ranked
    WHERE ranked."runId" = s."runId" AND ranked.step = s.step AND CASE WHEN ranked.status = 'SUCCEEDED'
      THEN NOT (ranked."isBest" AND NOT ranked."isRegistered")
      ELSE ranked.place > ranked.keep AND NOT ranked."isBest" AND NOT ranked."isNamed" END
    RETURNING s.sha256`;
  const [kept] = await tx.$queryRaw<{ count: number; byteSize: bigint }[]>`
    SELECT count(*)::int AS count, coalesce(sum(a."byteSize"), 0)::bigint AS "byteSize"
    FROM "TrainingState" s JOIN "Artifact" a USING (sha256) ${ofRun}`;
  return {
    kind: 'training states',
    droppedCount: dropped.length,
    sha256s: dropped.map(({ sha256 }) => sha256),
    kept: { count: kept?.count ?? 0, byteSize: Number(kept?.byteSize ?? 0) },
  };
}
