/**
 * `npm run chaos`: the promises of docs/reliability.md, tested by breaking things. Bounded in time, on loopback alone.
 *
 *   npm run chaos                      thirty trainings, about twenty minutes on two free cores
 *   npm run chaos -- --quick           three trainings, about four minutes
 *   npm run chaos -- --seed 7 --json   the same faults again; one JSON document on standard output
 */
import { parseArgs } from 'node:util';
import { runTrainings } from './trainings.ts';
import { asTable, type ChaosReport } from './report.ts';

const HELP = `usage: npm run chaos [-- --quick] [-- --seed 1] [-- --json]

Small trainings run on a server of their own while child, agent, server and PostgreSQL are killed with SIGKILL, the agent is
frozen, its network cut, its disk full and its messages doubled, at random moments. Then every promise is checked.
Exit code: 0 all held; 1 something did not.
`;

const { values } = parseArgs({ options: { quick: { type: 'boolean' }, seed: { type: 'string', default: '1' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } });
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const report: ChaosReport = await runTrainings({ seed: Number(values.seed), trainingCount: values.quick === true ? 3 : 30, deadlineMs: values.quick === true ? 200_000 : 1_500_000 });
process.stdout.write(values.json === true ? `${JSON.stringify(report, null, 2)}\n` : asTable(report));
process.exitCode = report.promises.every((promise) => promise.held) ? 0 : 1;
