/** Placements in PostgreSQL. */
import type { Database, Transaction } from '../../platform/db.ts';
import type { Prisma } from '../../generated/prisma/client.ts';
import type { RunKind } from '../../generated/prisma/enums.ts';
import type { PlacementRecord } from './placements.records.ts';
import type { PlacementReport } from './placements.rules.ts';

/** A queued run, in the fair order of the queue, that no job has been asked to carry. */
export interface WaitingRun {
  readonly id: string;
  readonly attempt: number;
}

const runFacts = { select: { status: true, attempt: true, workerName: true } } satisfies Prisma.RunDefaultArgs;

export type PlacementStore = ReturnType<typeof createPlacementStore>;

export function createPlacementStore(db: Database) {
  return {
    /** The newest first. */
    ofRuns: (runIds: readonly string[], tx: Transaction = db): Promise<PlacementRecord[]> =>
      tx.placement.findMany({
        where: { runId: { in: [...runIds] } },
        orderBy: { number: 'desc' },
        include: { run: runFacts },
      }),

    /** The oldest first. */
    openOf: (launcher: string): Promise<PlacementRecord[]> =>
      db.placement.findMany({
        where: { launcher, state: { not: 'ENDED' } },
        orderBy: { id: 'asc' },
        include: { run: runFacts },
      }),

    findMany: (ids: readonly string[]): Promise<PlacementRecord[]> =>
      db.placement.findMany({ where: { id: { in: [...ids] } }, orderBy: { id: 'asc' }, include: { run: runFacts } }),

    /** Locks the rows until the transaction ends. */
    lockOf: async (tx: Transaction, launcher: string, ids: readonly string[]): Promise<PlacementRecord[]> => {
      await tx.$queryRaw`SELECT 1 FROM "Placement" WHERE id = ANY(${[...ids]}::uuid[]) ORDER BY id FOR UPDATE`;
      return tx.placement.findMany({ where: { launcher, id: { in: [...ids] } }, include: { run: runFacts } });
    },

    /** @param labels of the workers that would carry them; runs that require others are left out. */
    waitingRuns: (kinds: readonly RunKind[], labels: readonly string[], limit: number): Promise<WaitingRun[]> =>
      db.$queryRaw<WaitingRun[]>`
        SELECT id, attempt FROM "Run" WHERE status = 'QUEUED' AND kind = ANY(${[...kinds]}::"RunKind"[])
          AND coalesce(requirements->'labels', '[]') <@ ${JSON.stringify(labels)}::jsonb
          AND NOT EXISTS (SELECT 1 FROM "Placement" WHERE "runId" = "Run".id AND state <> 'ENDED')
        ORDER BY turn, "queuedAt", id LIMIT ${limit}`,

    /** The run if it still waits and has no open job; locked, so that two launchers do not both place it. */
    lockWaitingRun: async (tx: Transaction, id: string): Promise<WaitingRun | undefined> => {
      const [row] = await tx.$queryRaw<WaitingRun[]>`
        SELECT id, attempt FROM "Run" WHERE id = ${id}::uuid AND status = 'QUEUED' FOR UPDATE`;
      if (row === undefined) return undefined;
      const openCount = await tx.placement.count({ where: { runId: id, state: { not: 'ENDED' } } });
      return openCount === 0 ? row : undefined;
    },

    create: async (
      tx: Transaction,
      facts: Pick<PlacementRecord, 'runId' | 'attempt' | 'number' | 'launcher' | 'name'>,
    ): Promise<string> => (await tx.placement.create({ data: facts })).id,

    update: async (tx: Transaction, before: PlacementRecord, report: PlacementReport): Promise<void> => {
      const now = new Date();
      await tx.placement.update({
        where: { id: before.id },
        data: {
          state: report.state,
          // A known id stays, even if a look does not tell it, unless the job is to be submitted again.
          externalId: report.state === 'PLANNED' ? null : (report.externalId ?? before.externalId),
          schedulerState: report.schedulerState ?? null,
          reason: report.reason ?? null,
          position: report.position ?? null,
          ...(report.state === 'SUBMITTING' ? { submittedAt: now } : {}),
          ...(report.state === 'RUNNING' && before.startedAt === null ? { startedAt: now } : {}),
          ...(report.state === 'ENDED' ? { endedAt: now } : {}),
        },
      });
    },
  };
}
