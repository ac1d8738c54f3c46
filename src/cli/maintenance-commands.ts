/**
 * Commands that maintain stored bytes. They open the database and the files directly, so that they work without a
 * server.
 */
import { InvalidArgumentError } from '@commander-js/extra-typings';
import { command, group, numberFrom, wholeNumberFrom } from './command.ts';

export const fsckCommand = command('fsck', {
  summary: 'verify every stored file and quarantine damaged ones',
  details:
    'Reads every stored file and compares it with its sha256. Damaged files are moved to artifacts/quarantine, and requests for them are answered with ARTIFACT_CORRUPT. Reports missing, damaged and unreferenced files. The server can stay running. Exit code 3 if a file is missing or changed.',
  examples: ['fsck', 'fsck --json > fsck.json'],
})
  .option('--json', 'print one JSON document')
  .action(async (options) => {
    process.exitCode = await (await import('./fsck.ts')).fsck(options);
  });

export const gcCommand = command('gc', {
  summary: 'delete stored files that no object refers to',
  details:
    'Deletes stored files that no object refers to: results of failed or canceled runs, files of deleted objects, training states from which no run will continue, and embeddings whose dataset version or checkpoint was deleted. Compacts the events and metrics of long runs. Prints for each kind what it deletes and what stays. It keeps files younger than --grace-hours, and everything that was stored since the oldest active run started. The server can stay running.',
  examples: ['gc --dry-run', 'gc --keep-states 1'],
})
  .option('--dry-run', 'print what it would delete, without deleting it', false)
  .option(
    '--keep-states <count>',
    'last training states to keep of each run that has not succeeded (default: as launched)',
    wholeNumberFrom(1),
  )
  .option('--grace-hours <hours>', 'keep all files younger than this', numberFrom(0), 24)
  .option('--json', 'print one JSON document')
  .action(async (options) => {
    process.exitCode = await (await import('./gc.ts')).gc(options);
  });

export const artifactsCommand = group('artifacts', 'move the stored files of a registry').addCommand(
  command('copy', {
    summary: 'copy all stored files into a bucket or a folder',
    details:
      'Copies every stored file of the registry to --to and verifies it on the way; the registry itself keeps using its present store until PARAFFIN_ARTIFACTS_URL is changed. An interrupted copy continues when the same command is run again. The server can stay running; stop it and run the command once more before the change, so that nothing is left behind. Credentials of buckets come from the standard chain of AWS. Exit code 3 if a stored file is missing or damaged.',
    examples: ['artifacts copy --to s3://lab-bucket/paraffin', 'artifacts copy --to /srv/paraffin/artifacts'],
  })
    .requiredOption('--to <place>', 's3://bucket/prefix, or a folder')
    .option('--json', 'print one JSON document')
    .action(async (options) => {
      process.exitCode = await (await import('./artifacts.ts')).copy(options);
    }),
);

export const backupCommand = command('backup', {
  summary: 'back up database and stored files into one file',
  details:
    'Writes a consistent snapshot of the database and the stored files into one tar file with mode 0600; for a folder, the file name contains the time. The server and its runs continue meanwhile. The backup does not contain the key file of the data directory. Exit code 3 if some stored files were already missing or damaged (run fsck).',
  examples: ['backup /backups', 'backup /backups/before-the-move.tar'],
})
  .argument('<target>', 'a file that does not exist yet, or a folder')
  .option('--json', 'print one JSON document')
  .action(async (target, options) => {
    process.exitCode = await (await import('./backup.ts')).backup(target, options);
  });

export const restoreCommand = command('restore', {
  summary: 'restore a backup into an empty folder',
  details:
    'Restores a backup into an empty folder and checks every digest. With PARAFFIN_DATABASE_URL the rows go into that database, which must have no tables; with PARAFFIN_ARTIFACTS_URL the stored files go into that bucket, whose prefix must be empty. Runs that were active are queued and continue from their last kept state. A backup of an older Paraffin is migrated; a backup of a newer one is refused. Exit code 3 if some stored files in the backup are damaged.',
  examples: ['restore /backups/paraffin.tar --data-dir /srv/paraffin'],
})
  .argument('<file>', 'a backup')
  .requiredOption('--data-dir <folder>', 'an empty or new folder')
  .option(
    '--bytes-from <place>',
    'for a backup of the database alone (backups/ of a data directory): the artifacts folder of that directory, or s3://bucket/prefix',
  )
  .option('--json', 'print one JSON document')
  .action(async (file, options) => {
    process.exitCode = await (await import('./restore.ts')).restore(file, options);
  });

export const uploadsCommand = group('uploads', 'manage uploads that have not been imported').addCommand(
  command('clear', {
    summary: 'delete the uploads of all users',
    details:
      'Deletes the uploads of all users, complete or not, except those that are being imported now. It needs neither the server nor the database, so that it works when a full disk prevents both from starting. The server itself deletes uploads 24 hours after their start.',
    examples: ['uploads clear'],
  }).action(async () => {
    await (await import('./uploads.ts')).clear();
  }),
);

function headOf(text: string): { readonly sequence: number; readonly hash: string } {
  const [, sequence, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (sequence === undefined || hash === undefined)
    throw new InvalidArgumentError('Give the head as this command printed it, such as 1841:9f86d0….');
  return { sequence: Number(sequence), hash };
}

export const auditCommand = group('audit', 'verify the hash chain of the audit log').addCommand(
  command('verify', {
    summary: 'verify the hash chain of the audit log',
    details:
      'Recomputes the hash chain of the audit log. The log alone cannot show that its end was truncated, or that the owner of the database rewrote all of it: store the head that this command prints in another place, and pass it as --head the next time. Exit code 3 if the log was changed.',
    examples: [
      'audit verify',
      'audit verify --head 1841:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    ],
  })
    .option('--head <sequence:hash>', 'head that an earlier check printed', headOf)
    .option('--json', 'print one JSON document')
    .action(async (options) => {
      process.exitCode = await (await import('./audit.ts')).verifyAudit(options);
    }),
);
