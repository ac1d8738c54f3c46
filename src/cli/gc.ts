/** `paraffin gc`: deletes bytes that nothing references. */
import { collectGarbage, type GarbageReport, type Sum } from '../modules/artifacts/index.ts';
import { dropBlocksOfEndedRuns, dropSetsWithoutOwner } from '../modules/embeddings/index.ts';
import {
  compactTelemetry,
  dropBlocksOfEndedImports,
  dropSupersededStates,
  oldestActiveStart,
} from '../modules/runs/index.ts';
import { withStoredBytesLock } from '../platform/advisory-lock.ts';
import type { Transaction } from '../platform/db.ts';
import { withRegistry } from './with-registry.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { formatByteSize, table } from './terminal.ts';

export interface GcOptions {
  readonly dryRun: boolean;
  /** Last training states that a run keeps, from 1; default: as many as the run was launched with. */
  readonly keepStates?: number | undefined;
  readonly graceHours: number;
  readonly json?: true | undefined;
}

export async function gc({ dryRun, keepStates, graceHours, json }: GcOptions): Promise<ExitCode> {
  const graceMs = graceHours * 3_600_000;
  const report = await withRegistry(({ db, transact, store, databaseUrl }) =>
    withStoredBytesLock(databaseUrl, 'EXCLUSIVE', async () => {
      const before = Math.min(Date.now() - graceMs, (await oldestActiveStart(db))?.getTime() ?? Infinity);
      const dropReferences = [
        (tx: Transaction) => dropSupersededStates(tx, { keepLast: keepStates }),
        dropSetsWithoutOwner,
        dropBlocksOfEndedRuns,
        dropBlocksOfEndedImports,
      ];
      const collected = await collectGarbage({ db, transact, store, before: new Date(before), dryRun, dropReferences });
      const telemetry = await compactTelemetry({ db, transact, dryRun });
      return { dryRun, ...collected, kinds: [...collected.kinds, ...telemetry] };
    }),
  );
  process.stdout.write(json === true ? `${JSON.stringify(report, null, 2)}\n` : asText(report, graceHours));
  return EXIT.DONE;
}

function asText(
  { dryRun, kinds, rows, files }: GarbageReport & { readonly dryRun: boolean },
  graceHours: number,
): string {
  const sum = ({ count, byteSize }: Sum): string[] => [String(count), formatByteSize(byteSize)];
  return [
    table(
      ['kind', dryRun ? 'would delete' : 'deleted', 'bytes', 'keeps', 'bytes'],
      kinds.map(({ kind, deleted, kept }) => [kind, ...sum(deleted), ...sum(kept)]),
    ),
    `${dryRun ? 'Would delete' : 'Deleted'} ${files.count} files, ${formatByteSize(files.byteSize)}; ${rows.count} unreferenced artifacts.`,
    `Files stay for ${graceHours} hours after they were written, and while an older run is active.`,
    '',
  ].join('\n');
}
