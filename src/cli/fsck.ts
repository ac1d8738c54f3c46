/** `paraffin fsck`: every stored byte is read again. */
import { parseArgs } from 'node:util';
import { checkArtifacts, type FsckReport } from '../modules/artifacts/index.ts';
import { withStoredBytesLock } from '../platform/advisory-lock.ts';
import { byteSizeInWords, EXIT_DAMAGE_FOUND, withRegistry } from './custody.ts';
import { createStatusLine, progressBar } from './terminal.ts';

const HELP = `usage: npm run paraffin -- fsck [--json]

Reads every stored file again and holds it against its sha256. What does not match is moved to artifacts/quarantine, and
whatever cites it answers ARTIFACT_CORRUPT from then on. Reports what is missing, changed, or wanted by nobody. The
server may run meanwhile.

exit code: 0 all is whole; 3 something is missing or changed; 1 the check could not be made.

examples:
  npm run paraffin -- fsck
  npm run -s paraffin -- fsck --json > fsck.json
`;

export async function fsckCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const status = createStatusLine(process.stderr);
  const report = await withRegistry(({ db, store, databaseUrl }) =>
    withStoredBytesLock(databaseUrl, 'SHARED', () =>
      checkArtifacts({
        db,
        store,
        onProgress: ({ bytesDone, bytesTotal }) => status.show(`${progressBar(bytesTotal === 0 ? 1 : bytesDone / bytesTotal)} ${byteSizeInWords(bytesDone)} of ${byteSizeInWords(bytesTotal)}`),
      }),
    ),
  );
  status.end();
  process.stdout.write(values.json === true ? `${JSON.stringify(report, null, 2)}\n` : asText(report));
  return report.damaged.length === 0 ? 0 : EXIT_DAMAGE_FOUND;
}

function asText({ checked, damaged, healed, filesWithoutRow, uncitedRows, strangeFiles, quarantined }: FsckReport): string {
  return [
    `Checked ${checked.count} artifacts, ${byteSizeInWords(checked.byteSize)}.`,
    ...damaged.map(({ sha256, damage, citedBy }) => `${damage} ${sha256}, cited by ${citedBy.length === 0 ? 'nothing' : citedBy.join(', ')}.`),
    ...(healed.length === 0 ? [] : [`Whole again: ${healed.join(', ')}.`]),
    ...(filesWithoutRow.count === 0 ? [] : [`Files that no row names: ${filesWithoutRow.count}, ${byteSizeInWords(filesWithoutRow.byteSize)}. "paraffin gc" takes the old ones.`]),
    ...(uncitedRows.count === 0 ? [] : [`Artifacts that nothing cites: ${uncitedRows.count}, ${byteSizeInWords(uncitedRows.byteSize)}. "paraffin gc" takes the old ones.`]),
    ...strangeFiles.map((file) => `Not an artifact: ${file}`),
    ...(quarantined.count === 0 ? [] : [`In quarantine: ${quarantined.count} files, ${byteSizeInWords(quarantined.byteSize)}.`]),
    damaged.length === 0 ? 'All is whole.' : `${damaged.length} damaged: restore them from a backup, or import them again.`,
    '',
  ].join('\n');
}
