/**
 * `npm run chaos`: the promises of docs/reliability.md, tested by fault injection, in bounded time and only on
 * loopback.
 *
 *   npm run chaos                      thirty trainings
 *   npm run chaos -- --quick           six trainings, each kind of fault once
 *   npm run chaos -- --seed 7 --json   the same faults again; one JSON document on standard output
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { installEngine } from '../src/cli/engine.ts';
import { FAULT_NAMES } from './faults.ts';
import { asTable, writeReport } from './report.ts';
import { runTrainings } from './trainings.ts';

const RELIABILITY_PAGE = path.resolve(import.meta.dirname, '../docs/reliability.md');

const HELP = `usage: npm run chaos [-- --quick] [-- --trainings 30] [-- --minutes 45] [-- --gone 300] [-- --seed 1] [-- --faults a,b] [-- --json] [-- --report]

Runs small trainings on a separate server and injects faults at random moments: it kills child, agent, server and
PostgreSQL with SIGKILL, takes the server away for minutes, restarts PostgreSQL under load, suspends it for a minute,
suspends the agent, cuts its network, delays and reorders what it sends, fills the disk, sets the clock back, delivers
messages twice, and cancels runs. The worker has nothing of the server but HTTP. It downloads and uploads a checkpoint over
a bad network, takes a backup during the trainings, and continues them from the restored backup. Then it checks every
promise and deletes everything, also after Ctrl-C.

  --quick          six trainings and each kind of fault once
  --trainings <n>  how many (default 30)
  --minutes <n>    no fault and no training begins later (default 45; with --quick 8); what was left out is reported
  --faults <names> only these kinds, separated by commas: ${FAULT_NAMES.join(', ')}
  --gone <seconds> how long the server is gone (default 300; with --quick 45, more than two leases)
  --seed <n>       the same faults in the same order (default 1)
  --json           one JSON document on standard output; progress is on standard error
  --report         puts the figures into docs/chaos.json and the table into docs/reliability.md

The clock is set back where libfaketime is installed (Debian: apt-get install libfaketime), for these processes alone. The
disk is a file system in memory where one can be mounted (by root), else a limit on the size of files.

examples:
  npm run chaos -- --quick
  npm run chaos -- --seed 7
  npm run chaos -- --quick --faults "fill disk,set clock back"
  npm run --silent chaos -- --json > chaos.json
  npm run chaos -- --report

exit code: 0 every promise held; 1 broken promises, which are printed; 2 invalid arguments; 130 stopped by Ctrl-C.
`;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    trainings: { type: 'string' },
    minutes: { type: 'string' },
    gone: { type: 'string' },
    faults: { type: 'string', default: FAULT_NAMES.join(',') },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const trainingCount = Number(values.trainings ?? (values.quick ? 6 : 30));
const minutes = Number(values.minutes ?? (values.quick ? 8 : 45));
const goneSeconds = Number(values.gone ?? (values.quick ? 45 : 300));
const seed = Number(values.seed);
const wantedFaults = values.faults.split(',').map((name) => name.trim());
const faults = FAULT_NAMES.filter((name) => wantedFaults.includes(name));
if (!(
  Number.isInteger(trainingCount) &&
  trainingCount >= 1 &&
  trainingCount <= 1000 &&
  minutes > 0 &&
  minutes <= 600 &&
  goneSeconds > 0 &&
  goneSeconds <= 3600 &&
  Number.isInteger(seed) &&
  faults.length === wantedFaults.length
)) {
  process.stderr.write(HELP);
  process.exit(2);
}

const chosenOptions = [
  ...(values.quick ? ['--quick'] : []),
  ...['--trainings', String(trainingCount), '--seed', String(seed)],
  ...(values.gone === undefined ? [] : ['--gone', values.gone]),
  ...(values.minutes === undefined ? [] : ['--minutes', values.minutes]),
  ...(faults.length < FAULT_NAMES.length ? ['--faults', `"${faults.join(',')}"`] : []),
];

// Its workers cannot train without the engine, or with one from before a change of native/.
await installEngine();
const stopped = new AbortController();
// Cleans up even after several signals: an immediate exit would leave a mount and a database behind.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopped.abort());
try {
  const report = await runTrainings({
    seed,
    trainingCount,
    faults,
    rounds: values.quick ? 1 : 3,
    serverGoneMs: goneSeconds * 1_000,
    deadlineMs: minutes * 60_000,
    signal: stopped.signal,
    onProgress: (text) => void process.stderr.write(`${text}\n`),
  });
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : asTable(report));
  if (values.report) await writeReport(RELIABILITY_PAGE, `npm run chaos -- ${chosenOptions.join(' ')}`, report);
  process.exitCode = report.promises.every((promise) => promise.held) ? 0 : 1;
} catch (error) {
  if (!stopped.signal.aborted) throw error;
  process.exitCode = 130;
}
