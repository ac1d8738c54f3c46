/** Exports in PostgreSQL. */
import type { Transaction } from '../../platform/db.ts';

export type ExportStore = ReturnType<typeof createExportStore>;

export function createExportStore() {
  return {
    /** Locks the checkpoint until the transaction ends, so that two requests at once do not both launch; those who only refer to it go on. */
    lockCheckpoint: async (tx: Transaction, checkpointId: string): Promise<void> => {
      await tx.$queryRaw`SELECT 1 FROM "Checkpoint" WHERE id = ${checkpointId}::uuid FOR NO KEY UPDATE`;
    },

    hasGolden: async (tx: Transaction, checkpointId: string): Promise<boolean> => {
      const [row] = await tx.$queryRaw<{ has: boolean }[]>`SELECT golden IS NOT NULL AS has FROM "Checkpoint" WHERE id = ${checkpointId}::uuid`;
      return row?.has ?? false;
    },

    /** The run of kind EXPORT that waits or works for this checkpoint. */
    liveRunOf: async (tx: Transaction, checkpointId: string): Promise<string | undefined> => {
      const run = await tx.run.findFirst({
        where: { kind: 'EXPORT', status: { in: ['QUEUED', 'RUNNING'] }, config: { path: ['checkpointId'], equals: checkpointId } },
        select: { id: true },
        orderBy: { id: 'desc' },
      });
      return run?.id;
    },
  };
}
