/** Workers in PostgreSQL. */
import { z } from 'zod';
import type { Database, Transaction } from '../../platform/db.ts';
import { workerCapabilitiesSchema, type WorkerCapabilities } from '../../protocol/requirements.ts';
import { LEASE_SECONDS, runKindSchema, type RunKind } from '../../protocol/runs.ts';
import type { WorkerRecord } from './workers.records.ts';
import { ALIVE_MS } from './workers.rules.ts';

const FORGOTTEN_AFTER_DAYS = 7;

/** What a worker says of itself when it asks for a run. */
export interface SeenWorker {
  readonly workerName: string;
  readonly programVersion: string;
  readonly kinds: readonly RunKind[];
  readonly deviceId: string | null;
  /** The only run that it takes; null: any. */
  readonly runId: string | null;
  readonly capabilities: WorkerCapabilities;
}

/** The column: by device, or by kinds for a place without one. */
const placesSchema = z.record(
  z.string(),
  z.object({ kinds: z.array(runKindSchema), capabilities: workerCapabilitiesSchema }),
);

export type WorkerStore = ReturnType<typeof createWorkerStore>;

export function createWorkerStore(db: Database) {
  return {
    /**
     * Records that the worker asks for a run; the places of a worker ask one by one. One that was silent and holds no
     * run has started again, perhaps with other devices. With each new worker, those that were silent for long go.
     */
    see: async (worker: SeenWorker): Promise<void> => {
      const { workerName, programVersion, kinds, deviceId, runId, capabilities } = worker;
      const deviceIds = deviceId === null ? [] : [deviceId];
      const places: z.infer<typeof placesSchema> =
        runId === null ? { [deviceId ?? kinds.join(' ')]: { kinds: [...kinds], capabilities } } : {};
      const [seen] = await db.$queryRaw<{ isNew: boolean }[]>`
        INSERT INTO "Worker" AS worker (name, "programVersion", kinds, "deviceIds", places)
        VALUES (${workerName}, ${programVersion}, ${[...kinds]}::"RunKind"[], ${deviceIds}::text[], ${JSON.stringify(places)}::jsonb)
        ON CONFLICT (name) DO UPDATE SET "programVersion" = excluded."programVersion", "lastSeenAt" = now(),
          places = CASE
            WHEN worker."lastSeenAt" < now() - make_interval(secs => ${ALIVE_MS / 1000})
              AND NOT EXISTS (SELECT 1 FROM "Run" WHERE "workerName" = ${workerName} AND status IN ('RUNNING', 'CANCELING')) THEN excluded.places
            ELSE worker.places || excluded.places END,
          kinds = ARRAY(SELECT DISTINCT unnest(worker.kinds || excluded.kinds) ORDER BY 1),
          "deviceIds" = ARRAY(SELECT DISTINCT unnest(worker."deviceIds" || excluded."deviceIds") ORDER BY 1)
        RETURNING xmax = 0 AS "isNew"`;
      if (seen?.isNew !== true) return;
      // A worker with one place asks for nothing while it carries a long run.
      await db.$executeRaw`
        DELETE FROM "Worker" WHERE "lastSeenAt" < now() - make_interval(days => ${FORGOTTEN_AFTER_DAYS}::int)
        AND NOT EXISTS (SELECT 1 FROM "Run" WHERE "workerName" = name AND status IN ('RUNNING', 'CANCELING'))`;
    },

    /** False for a worker that is not known. */
    setDraining: async (tx: Transaction, name: string, isDraining: boolean): Promise<boolean> =>
      (await tx.worker.updateMany({ where: { name }, data: { isDraining } })).count === 1,

    /** By name. */
    list: async (tx: Transaction = db): Promise<WorkerRecord[]> => {
      const workers = await tx.worker.findMany({ orderBy: { name: 'asc' } });
      const held = await tx.run.findMany({
        where: { status: { in: ['RUNNING', 'CANCELING'] }, workerName: { in: workers.map(({ name }) => name) } },
        select: { id: true, workerName: true, leaseExpiresAt: true },
        orderBy: { id: 'asc' },
      });
      const parts = await tx.runPart.findMany({
        where: { leaseTokenDigest: { not: null }, workerName: { in: workers.map(({ name }) => name) } },
        select: { workerName: true, leaseExpiresAt: true },
      });
      return workers.map(({ lastSeenAt, places, ...worker }) => {
        const isOwn = ({ workerName }: { readonly workerName: string | null }): boolean => workerName === worker.name;
        const runs = held.filter(isOwn);
        // A renewal makes the lease end so much later than it was made.
        const renewals = [...runs, ...parts.filter(isOwn)].map(
          ({ leaseExpiresAt }) => (leaseExpiresAt?.getTime() ?? 0) - LEASE_SECONDS * 1000,
        );
        return {
          ...worker,
          places: Object.values(placesSchema.parse(places)),
          lastHeardAt: new Date(Math.max(lastSeenAt.getTime(), ...renewals)),
          runIds: runs.map(({ id }) => id),
        };
      });
    },
  };
}
