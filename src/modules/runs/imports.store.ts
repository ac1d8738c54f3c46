/** Reports of imports in PostgreSQL. */
import type { Database, Transaction } from '../../platform/db.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import { importReportSchema, type ImportReportRecord } from '../../protocol/import.ts';

export type ImportReportStore = ReturnType<typeof createImportReportStore>;

export function createImportReportStore(db: Database) {
  return {
    /** The report of a new attempt replaces that of an earlier one. */
    setReport: async (tx: Transaction, runId: string, report: ImportReportRecord): Promise<void> => {
      const { issueList } = report;
      if (issueList !== null) await recordArtifacts(tx, [{ ...issueList, mediaType: 'text/csv; charset=utf-8' }]);
      const columns = { report, issueListSha256: issueList?.sha256 ?? null };
      await tx.importReport.upsert({ where: { runId }, create: { runId, ...columns }, update: columns });
    },

    reportsOf: async (runIds: readonly string[]): Promise<Map<string, ImportReportRecord>> => {
      const rows = await db.importReport.findMany({ where: { runId: { in: [...runIds] } } });
      return new Map(rows.map(({ runId, report }) => [runId, importReportSchema.parse(report)]));
    },
  };
}
