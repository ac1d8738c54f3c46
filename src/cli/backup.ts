/** `paraffin backup`: the database and the stored bytes of one moment in one file. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { withStoredBytesLock } from '../platform/advisory-lock.ts';
import { writeBackup } from '../platform/backup.ts';
import { programVersion } from '../platform/program-version.ts';
import { withRegistry } from './with-registry.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { interruptible } from './interruptible.ts';
import { formatByteSize, createStatusLine, progressBar } from './terminal.ts';

/** @param target a file that does not exist yet, or a folder. */
export async function backup(target: string, { json }: { readonly json?: true | undefined }): Promise<ExitCode> {
  const isFolder = await stat(target).then(
    (facts) => facts.isDirectory(),
    () => false,
  );
  const file = path.resolve(
    isFolder ? path.join(target, `paraffin-${new Date().toISOString().replaceAll(':', '-')}.tar`) : target,
  );
  const status = createStatusLine(process.stderr);
  const report = await interruptible((signal) =>
    withRegistry(({ databaseUrl, store }) =>
      withStoredBytesLock(databaseUrl, 'SHARED', () =>
        writeBackup({
          signal,
          databaseUrl,
          store,
          file,
          program: programVersion(),
          onProgress: ({ bytesDone, bytesTotal }) =>
            status.show(
              `${progressBar(bytesTotal === 0 ? 1 : bytesDone / bytesTotal)} ${formatByteSize(bytesDone)} of ${formatByteSize(bytesTotal)}`,
            ),
        }),
      ),
    ),
  ).finally(() => status.end());
  if (json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else {
    process.stdout.write(
      `${report.file}: ${formatByteSize(report.byteSize)}, ${report.rowCount} rows, ${report.artifacts.count} artifacts.\n`,
    );
    if (report.damaged.length > 0)
      process.stdout.write(`Not in the backup, because missing or damaged: ${report.damaged.join(', ')}\n`);
  }
  return report.damaged.length === 0 ? EXIT.DONE : EXIT.DAMAGE_FOUND;
}
