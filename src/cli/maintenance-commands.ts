/**
 * Commands that maintain stored bytes. They open the database and the files directly, so that they work without a
 * server.
 */
import { InvalidArgumentError } from '@commander-js/extra-typings';
import { command, group, numberFrom, wholeNumberFrom } from './command.ts';

export const fsckCommand = command('fsck', {
  summary: 'read every stored file again and quarantine what has changed',
  details:
    'Reads every stored file again and compares it with its sha256. Damaged files are moved to artifacts/quarantine, and requests for them are answered with ARTIFACT_CORRUPT. Reports missing, damaged and unreferenced files. The server may run meanwhile. Exit code 3 when something is missing or changed.',
  examples: ['fsck', 'fsck --json > fsck.json'],
})
  .option('--json', 'one JSON document')
  .action(async (options) => {
    process.exitCode = await (await import('./fsck.ts')).fsck(options);
  });

export const gcCommand = command('gc', {
  summary: 'delete stored bytes that nothing references',
  details:
    'Deletes stored bytes that nothing references: leftovers of failed or canceled runs, of deletions, and training states that no run will continue from. Files younger than --grace-hours are kept, and so is everything that was stored since the oldest active run started. The server may run meanwhile.',
  examples: ['gc --dry-run', 'gc --keep-states 1'],
})
  .option('--dry-run', 'list what it would delete, and delete nothing', false)
  .option(
    '--keep-states <count>',
    'training states to keep of each run; of a run that succeeded none',
    wholeNumberFrom(1),
    2,
  )
  .option('--grace-hours <hours>', 'keep everything younger than this', numberFrom(0), 24)
  .option('--json', 'one JSON document')
  .action(async (options) => {
    process.exitCode = await (await import('./gc.ts')).gc(options);
  });

export const backupCommand = command('backup', {
  summary: 'back up database and stored bytes into one file',
  details:
    'Writes database and stored bytes, as they are at one instant, into one tar file of mode 0600; into a folder under a name with the time. The server and its runs continue meanwhile. The key file of the data directory is not in it. Exit code 3 when some stored bytes were missing or changed already (run fsck).',
  examples: ['backup /backups', 'backup /backups/before-the-move.tar'],
})
  .argument('<target>', 'a file that does not exist yet, or a folder')
  .option('--json', 'one JSON document')
  .action(async (target, options) => {
    process.exitCode = await (await import('./backup.ts')).backup(target, options);
  });

export const restoreCommand = command('restore', {
  summary: 'restore a backup into an empty folder',
  details:
    'Makes a registry of a backup in an empty folder, checking every digest on the way. With PARAFFIN_DATABASE_URL the rows go into that database, which must have no tables. Runs that were active wait in the queue and continue from their last kept state. A backup of an older Paraffin is brought up to date; one of a newer is refused. Exit code 3 when some stored bytes were damaged already in the backup.',
  examples: ['restore /backups/paraffin.tar --data-dir /srv/paraffin'],
})
  .argument('<file>', 'a backup')
  .requiredOption('--data-dir <folder>', 'an empty or new folder')
  .option(
    '--bytes-from <folder>',
    'for a backup of only the database (backups/ of a data directory): the artifacts folder of that directory',
  )
  .option('--json', 'one JSON document')
  .action(async (file, options) => {
    process.exitCode = await (await import('./restore.ts')).restore(file, options);
  });

export const uploadsCommand = group('uploads', 'files that were sent to this server and not imported yet').addCommand(
  command('clear', {
    summary: 'delete all of them, of every user',
    details:
      'Deletes every upload that is not being imported at this moment, finished or not, of every user. It needs neither the server nor the database, so that it frees space when a full disk keeps both from starting. Uploads are deleted anyway 24 hours after they started.',
    examples: ['uploads clear'],
  }).action(async () => {
    await (await import('./uploads.ts')).clear();
  }),
);

function headOf(text: string): { readonly sequence: number; readonly hash: string } {
  const [, sequence, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (sequence === undefined || hash === undefined)
    throw new InvalidArgumentError('Give it as this command printed it, such as 1841:9f86d0….');
  return { sequence: Number(sequence), hash };
}

export const auditCommand = group('audit', 'check the audit log against its own hashes').addCommand(
  command('verify', {
    summary: 'recompute the chain of the audit log',
    details:
      'Recomputes the chain of the audit log. The log alone cannot show that its end was cut off or that all of it was rewritten by the owner of the database: keep the head that this command prints somewhere else, and give it as --head the next time. Exit code 3 when the log was changed.',
    examples: [
      'audit verify',
      'audit verify --head 1841:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    ],
  })
    .option('--head <sequence:hash>', 'as an earlier check printed it', headOf)
    .option('--json', 'one JSON document')
    .action(async (options) => {
      process.exitCode = await (await import('./audit.ts')).verifyAudit(options);
    }),
);
