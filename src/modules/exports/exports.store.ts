/** Exports in PostgreSQL. */
import type { Database, Transaction } from '../../platform/db.ts';
import type { CheckpointExport } from '../../generated/prisma/client.ts';
import type { ExportFormat } from '../../generated/prisma/enums.ts';
import type { ExportRecord, NewExports } from './exports.records.ts';
import { exportConfigSchema, type ExportConfig } from '../../protocol/export.ts';

/** A queued or running run of kind EXPORT. */
export interface LiveExportRun {
  readonly runId: string;
  readonly config: ExportConfig;
}

export type ExportStore = ReturnType<typeof createExportStore>;

export function createExportStore(db: Database) {
  return {
    find: async (checkpointId: string, format: ExportFormat): Promise<ExportRecord | undefined> => {
      const row = await db.checkpointExport.findUnique({ where: { checkpointId_format: { checkpointId, format } } });
      return row === null ? undefined : toRecord(row);
    },

    ofCheckpoints: async (checkpointIds: readonly string[]): Promise<ExportRecord[]> =>
      (
        await db.checkpointExport.findMany({
          where: { checkpointId: { in: [...checkpointIds] } },
          orderBy: { format: 'asc' },
        })
      ).map(toRecord),

    /** The latest result of a format replaces earlier ones. */
    put: async (tx: Transaction, { checkpointId, runId, exports }: NewExports): Promise<void> => {
      for (const made of exports) {
        const { format, status, maxRelativeDifference } = made;
        const file =
          made.status === 'AVAILABLE'
            ? { sha256: made.sha256, byteSize: made.byteSize, reason: null }
            : { sha256: null, byteSize: null, reason: made.reason };
        const facts = { status, maxRelativeDifference, ...file, runId, checkedAt: new Date() };
        await tx.checkpointExport.upsert({
          where: { checkpointId_format: { checkpointId, format } },
          create: { checkpointId, format, ...facts },
          update: facts,
        });
      }
    },

    /**
     * Locks the checkpoint until the transaction ends, so that two concurrent requests do not both launch a run. The
     * lock does not block transactions that only reference the checkpoint.
     */
    lockCheckpoint: async (tx: Transaction, checkpointId: string): Promise<void> => {
      await tx.$queryRaw`SELECT 1 FROM "Checkpoint" WHERE id = ${checkpointId}::uuid FOR NO KEY UPDATE`;
    },

    hasGolden: async (tx: Transaction, checkpointId: string): Promise<boolean> => {
      const [row] = await tx.$queryRaw<
        { has: boolean }[]
      >`SELECT golden IS NOT NULL AS has FROM "Checkpoint" WHERE id = ${checkpointId}::uuid`;
      return row?.has ?? false;
    },

    /** For one checkpoint; oldest first. */
    liveRunsOf: async (tx: Transaction, checkpointId: string): Promise<LiveExportRun[]> => {
      const runs = await tx.run.findMany({
        where: {
          kind: 'EXPORT',
          status: { in: ['QUEUED', 'RUNNING'] },
          config: { path: ['checkpointId'], equals: checkpointId },
        },
        select: { id: true, config: true },
        orderBy: { id: 'asc' },
      });
      return runs.map(({ id, config }) => ({ runId: id, config: exportConfigSchema.parse(config) }));
    },

    countLiveRuns: (tx: Transaction): Promise<number> =>
      tx.run.count({ where: { kind: 'EXPORT', status: { in: ['QUEUED', 'RUNNING'] } } }),

    /** Whether any worker is busy with an export. */
    isAnyRunning: async (): Promise<boolean> =>
      (await db.run.count({ where: { kind: 'EXPORT', status: { in: ['RUNNING', 'CANCELING'] } } })) > 0,
  };
}

function toRecord(row: CheckpointExport): ExportRecord {
  return { ...row, byteSize: row.byteSize === null ? null : Number(row.byteSize) };
}
