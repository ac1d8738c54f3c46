/** `paraffin fsck`: reads every stored byte again. */
import { checkArtifacts, type FsckReport } from '../modules/artifacts/index.ts';
import { withStoredBytesLock } from '../platform/advisory-lock.ts';
import { withRegistry } from './with-registry.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { formatByteSize, createStatusLine, progressBar } from './terminal.ts';

export async function fsck({ json }: { readonly json?: true | undefined }): Promise<ExitCode> {
  const status = createStatusLine(process.stderr);
  const report = await withRegistry(({ db, store, databaseUrl }) =>
    withStoredBytesLock(databaseUrl, 'SHARED', () =>
      checkArtifacts({
        db,
        store,
        onProgress: ({ bytesDone, bytesTotal }) =>
          status.show(
            `${progressBar(bytesTotal === 0 ? 1 : bytesDone / bytesTotal)} ${formatByteSize(bytesDone)} of ${formatByteSize(bytesTotal)}`,
          ),
      }),
    ),
  );
  status.end();
  process.stdout.write(json === true ? `${JSON.stringify(report, null, 2)}\n` : asText(report));
  return report.damaged.length === 0 ? EXIT.DONE : EXIT.DAMAGE_FOUND;
}

function asText({
  checked,
  damaged,
  repaired,
  filesWithoutRow,
  unreferencedRows,
  unexpectedFiles,
  quarantined,
}: FsckReport): string {
  return [
    `Checked ${checked.count} artifacts, ${formatByteSize(checked.byteSize)}.`,
    ...damaged.map(
      ({ sha256, damage, referencedBy }) =>
        `${damage} ${sha256}, referenced by ${referencedBy.length === 0 ? 'no object' : referencedBy.join(', ')}.`,
    ),
    ...(repaired.length === 0 ? [] : [`Restored: ${repaired.join(', ')}.`]),
    ...(filesWithoutRow.count === 0
      ? []
      : [
          `Files without a row: ${filesWithoutRow.count}, ${formatByteSize(filesWithoutRow.byteSize)}. "paraffin gc" deletes the old ones.`,
        ]),
    ...(unreferencedRows.count === 0
      ? []
      : [
          `Unreferenced artifacts: ${unreferencedRows.count}, ${formatByteSize(unreferencedRows.byteSize)}. "paraffin gc" deletes the old ones.`,
        ]),
    ...unexpectedFiles.map((file) => `Not an artifact: ${file}`),
    ...(quarantined.count === 0
      ? []
      : [`In quarantine: ${quarantined.count} files, ${formatByteSize(quarantined.byteSize)}.`]),
    damaged.length === 0
      ? 'No damage found.'
      : `${damaged.length} damaged: restore them from a backup, or import them again.`,
    '',
  ].join('\n');
}
