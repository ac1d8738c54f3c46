/**
 * `npm run cluster`: runs through a real Slurm on this machine while its parts fail, in bounded time.
 *
 *   npm run cluster                        twelve runs of three people, each fault once
 *   npm run cluster -- --runs 4 --json
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { installEngine } from '../src/cli/engine.ts';
import { missingHere } from './slurm.ts';
import { asTable, writeReport } from './report.ts';
import { FAULT_NAMES, runTrial } from './trial.ts';

const RELIABILITY_PAGE = path.resolve(import.meta.dirname, '../docs/reliability.md');

const HELP = `usage: npm run cluster [-- --runs 12] [-- --minutes 25] [-- --json] [-- --report]

Starts Slurm with one controller and two nodes, each node in a network, host name and folder of its own, a registry
whose own worker takes only imports, and "paraffin launcher". Then it sends trainings and evaluations of three people through
Slurm and injects each of these once:
${FAULT_NAMES.map((name) => `  ${name}`).join('\n')}
At the end it checks that every run succeeded with the result of an undisturbed one, and that nothing is left. Needs
root and Debian's packages slurm-wlm, munge and iproute2; everything that it starts and writes is removed, also after Ctrl-C.

  --runs <n>     how many, of which each fourth is an evaluation (default 12)
  --minutes <n>  no fault begins later, and runs that have not ended are not waited for (default 25)
  --json         one JSON document on standard output; progress is on standard error
  --report       puts the figures into docs/cluster.json and the tables into docs/reliability.md

examples:
  npm run cluster
  npm run --silent cluster -- --runs 4 --json > cluster.json

exit code: 0 every promise held; 1 broken promises, which are printed; 2 invalid arguments, or something is missing; 130 Ctrl-C.
`;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '12' },
    minutes: { type: 'string', default: '25' },
    json: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const runCount = Number(values.runs);
const minutes = Number(values.minutes);
if (!(Number.isInteger(runCount) && runCount >= 1 && runCount <= 100 && minutes > 0 && minutes <= 120)) {
  process.stderr.write(HELP);
  process.exit(2);
}
const missing = await missingHere();
if (missing !== undefined) {
  process.stderr.write(`${missing}\n`);
  process.exit(2);
}
await installEngine();
const stopped = new AbortController();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopped.abort());
try {
  const report = await runTrial({
    runCount,
    deadlineMs: minutes * 60_000,
    signal: stopped.signal,
    onProgress: (text) => void process.stderr.write(`${text}\n`),
  });
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : asTable(report));
  const command = `npm run cluster -- --runs ${runCount} --minutes ${minutes}`;
  if (values.report) await writeReport(RELIABILITY_PAGE, command, report);
  process.exitCode = report.promises.every(({ held }) => held) ? 0 : 1;
} catch (error) {
  if (!stopped.signal.aborted) throw error;
  process.exitCode = 130;
}
