/** `paraffin gc`: takes away bytes that nothing cites. */
import { parseArgs } from 'node:util';
import { DomainError } from '../errors.ts';
import { collectGarbage } from '../modules/artifacts/index.ts';
import { dropSupersededStates, oldestActiveStart } from '../modules/runs/index.ts';
import { withStoredBytesLock } from '../platform/advisory-lock.ts';
import { byteSizeInWords, withRegistry } from './custody.ts';

const HELP = `usage: npm run paraffin -- gc [--dry-run] [--keep-states 2] [--grace-hours 24] [--json]

Takes away stored bytes that nothing cites: what failed or cancelled runs left, what was deleted, and training states that
no run will go on from (all but the last --keep-states of each; all of a run that succeeded). Nothing younger than
--grace-hours is touched, and nothing that was stored since the oldest run now at work began. The server may run meanwhile.

exit code: 0 done; 1 it could not be done, e.g. while a backup is made.

examples:
  npm run paraffin -- gc --dry-run
  npm run paraffin -- gc --keep-states 1
`;

export async function gcCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      'dry-run': { type: 'boolean', default: false },
      'keep-states': { type: 'string', default: '2' },
      'grace-hours': { type: 'string', default: '24' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const keepStates = numberAtLeast('keep-states', values['keep-states'], 1);
  const graceMs = numberAtLeast('grace-hours', values['grace-hours'], 0) * 3_600_000;
  const dryRun = values['dry-run'];
  const report = await withRegistry(({ db, transact, store, databaseUrl }) =>
    withStoredBytesLock(databaseUrl, 'EXCLUSIVE', async () => {
      const before = Math.min(Date.now() - graceMs, (await oldestActiveStart(db))?.getTime() ?? Infinity);
      let trainingStateCount = 0;
      const giveUp: NonNullable<Parameters<typeof collectGarbage>[0]['giveUp']> = async (tx) => {
        trainingStateCount = await dropSupersededStates(tx, keepStates);
      };
      const collected = await collectGarbage({ db, transact, store, before: new Date(before), dryRun, giveUp });
      return { dryRun, trainingStateCount, ...collected };
    }),
  );
  if (values.json === true) {
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    return 0;
  }
  const verb = dryRun ? 'Would take away' : 'Took away';
  process.stdout.write(`${verb} ${report.files.count} files, ${byteSizeInWords(report.files.byteSize)}; ${report.rows.count} artifacts that nothing cites, ${report.trainingStateCount} superseded training states.\n`);
  return 0;
}

function numberAtLeast(option: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value) && value >= least) return value;
  throw new DomainError({ code: 'BAD_INPUT', message: `--${option} must be a number, ${least} or more.`, field: option, hint: 'Add --help to see the options.' });
}
