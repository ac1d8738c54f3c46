/** `paraffin backup`: database and stored bytes of one instant in one file. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { withStoredBytesLock } from '../platform/advisory-lock.ts';
import { writeBackup } from '../platform/backup.ts';
import { programVersion } from '../platform/program-version.ts';
import { byteSizeInWords, EXIT_DAMAGE_FOUND, withRegistry } from './custody.ts';
import { createStatusLine, progressBar } from './terminal.ts';

const HELP = `usage: npm run paraffin -- backup FILE|FOLDER [--json]

Writes database and stored bytes, as they are at one instant, into one tar file of mode 0600; into a folder under a name
with the time. The server and its runs go on meanwhile. The key file of the data directory is not in it.

exit code: 0 done; 3 done, but some stored bytes were missing or changed already (run fsck); 1 it could not be made.

examples:
  npm run paraffin -- backup /backups
  npm run paraffin -- backup /backups/before-the-move.tar
`;

export async function backupCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } });
  const [target] = positionals;
  if (values.help === true || target === undefined) {
    process.stdout.write(HELP);
    return values.help === true ? 0 : 2;
  }
  const isFolder = await stat(target).then((facts) => facts.isDirectory(), () => false);
  const file = path.resolve(isFolder ? path.join(target, `paraffin-${new Date().toISOString().replaceAll(':', '-')}.tar`) : target);
  const status = createStatusLine(process.stderr);
  const report = await withRegistry(({ databaseUrl, store }) =>
    withStoredBytesLock(databaseUrl, 'SHARED', () =>
      writeBackup({
        databaseUrl,
        store,
        file,
        program: programVersion(),
        onProgress: ({ bytesDone, bytesTotal }) => status.show(`${progressBar(bytesTotal === 0 ? 1 : bytesDone / bytesTotal)} ${byteSizeInWords(bytesDone)} of ${byteSizeInWords(bytesTotal)}`),
      }),
    ),
  );
  status.end();
  if (values.json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else {
    process.stdout.write(`${report.file}: ${byteSizeInWords(report.byteSize)}, ${report.rowCount} rows, ${report.artifacts.count} artifacts.\n`);
    if (report.damaged.length > 0) process.stdout.write(`Missing or changed already, and so not in it: ${report.damaged.join(', ')}\n`);
  }
  return report.damaged.length === 0 ? 0 : EXIT_DAMAGE_FOUND;
}
