/** `paraffin gc`: deletes bytes that nothing references. */
import { collectGarbage } from '../modules/artifacts/index.ts';
import { dropSupersededStates, oldestActiveStart } from '../modules/runs/index.ts';
import { withStoredBytesLock } from '../platform/advisory-lock.ts';
import { withRegistry } from './with-registry.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { byteSizeInWords } from './terminal.ts';

export interface GcOptions {
  readonly dryRun: boolean;
  /** Training states that a run keeps, from 1. */
  readonly keepStates: number;
  readonly graceHours: number;
  readonly json?: true | undefined;
}

export async function gc({ dryRun, keepStates, graceHours, json }: GcOptions): Promise<ExitCode> {
  const graceMs = graceHours * 3_600_000;
  const report = await withRegistry(({ db, transact, store, databaseUrl }) =>
    withStoredBytesLock(databaseUrl, 'EXCLUSIVE', async () => {
      const before = Math.min(Date.now() - graceMs, (await oldestActiveStart(db))?.getTime() ?? Infinity);
      let trainingStateCount = 0;
      const dropReferences: NonNullable<Parameters<typeof collectGarbage>[0]['dropReferences']> = async (tx) => {
        trainingStateCount = await dropSupersededStates(tx, keepStates);
      };
      const collected = await collectGarbage({ db, transact, store, before: new Date(before), dryRun, dropReferences });
      return { dryRun, trainingStateCount, ...collected };
    }),
  );
  if (json === true) {
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    return EXIT.DONE;
  }
  const verb = dryRun ? 'Would delete' : 'Deleted';
  process.stdout.write(
    `${verb} ${report.files.count} files, ${byteSizeInWords(report.files.byteSize)}; ${report.rows.count} unreferenced artifacts, ${report.trainingStateCount} superseded training states.\n`,
  );
  return EXIT.DONE;
}
