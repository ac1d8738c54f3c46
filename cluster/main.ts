/**
 * `npm run cluster`: trainings through a real Slurm on this machine while its parts fail, in bounded time.
 *
 *   npm run cluster                        eight trainings, each fault once
 *   npm run cluster -- --trainings 12 --json
 */
import { parseArgs } from 'node:util';
import { installEngine } from '../src/cli/engine.ts';
import { missingHere } from './slurm.ts';
import { FAULT_NAMES, runTrial, type TrialReport } from './trial.ts';

const HELP = `usage: npm run cluster [-- --trainings 8] [-- --minutes 25] [-- --json]

Starts Slurm with one controller and two nodes, each node in a network and host name of its own, a registry whose own
worker takes only imports, and "paraffin launcher". Then it sends trainings through Slurm and injects each of these once:
${FAULT_NAMES.map((name) => `  ${name}`).join('\n')}
At the end it checks that every run succeeded with the weights of an undisturbed training, and that nothing is left. Needs
root and Debian's packages slurm-wlm, munge and iproute2; everything that it starts and writes is removed, also after Ctrl-C.

  --trainings <n>  how many (default 8)
  --minutes <n>    no fault begins later, and trainings that still run are not waited for (default 25)
  --json           one JSON document on standard output; progress is on standard error

examples:
  npm run cluster
  npm run --silent cluster -- --trainings 12 --json > cluster.json

exit code: 0 every promise held; 1 broken promises, which are printed; 2 invalid arguments, or something is missing; 130 Ctrl-C.
`;

const { values } = parseArgs({
  options: {
    trainings: { type: 'string', default: '8' },
    minutes: { type: 'string', default: '25' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const trainingCount = Number(values.trainings);
const minutes = Number(values.minutes);
if (!(Number.isInteger(trainingCount) && trainingCount >= 1 && trainingCount <= 100 && minutes > 0 && minutes <= 120)) {
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
    trainingCount,
    deadlineMs: minutes * 60_000,
    signal: stopped.signal,
    onProgress: (text) => void process.stderr.write(`${text}\n`),
  });
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : asTable(report));
  process.exitCode = report.promises.every(({ held }) => held) ? 0 : 1;
} catch (error) {
  if (!stopped.signal.aborted) throw error;
  process.exitCode = 130;
}

function asTable(report: TrialReport): string {
  const {
    slurm,
    machine,
    loadAverage,
    trainingCount: count,
    durationSeconds,
    undisturbedSeconds,
    faults,
    jobEnds,
    promises,
  } = report;
  const left = FAULT_NAMES.filter((name) => !faults.includes(name));
  return [
    `${count} trainings through ${slurm} in ${Math.round(durationSeconds)} s (an undisturbed one: ${undisturbedSeconds.toFixed(1)} s).`,
    `${machine}; load average ${loadAverage.map((load) => load.toFixed(1)).join(' ')}.`,
    `Faults, each once: ${faults.join(', ')}.`,
    ...(left.length === 0
      ? []
      : [`Not injected, because time ran out or no training was early enough: ${left.join(', ')}.`]),
    `Jobs ended as: ${Object.entries(jobEnds)
      .map(([state, jobs]) => `${state} ${jobs}`)
      .join(', ')}.`,
    ...promises.map(({ promise, held, seen }) => `${held ? 'held  ' : 'BROKEN'}  ${promise}: ${seen}`),
    '',
  ].join('\n');
}
