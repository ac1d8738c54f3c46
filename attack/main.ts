/**
 * `npm run attack`: what docs/security.md promises, tested by attacking a server of its own. Bounded in time, on
 * loopback alone.
 *
 *   npm run attack                      everything, under 15 minutes
 *   npm run attack -- --quick           a few seconds for each kind
 *   npm run attack -- --seed 7 --json   the same attacks again; one JSON document on standard output
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { installEngine } from '../src/cli/engine.ts';
import { ATTACKS } from './attacks.ts';
import { runCampaign } from './campaign.ts';
import { asText, writeTable } from './report.ts';

const SECURITY_PAGE = path.resolve(import.meta.dirname, '../docs/security.md');

const HELP = `usage: npm run attack [-- --quick] [-- --only a,b] [-- --seed 1] [-- --json] [-- --write]

Starts a registry of its own in a temporary folder and attacks it over loopback, as outsiders, holders of limited keys and
accidents would. A finding is something that should not have happened. At the end, also by Ctrl-C, everything that it
started is stopped and deleted.

  --quick         a few seconds for each kind of attack
  --only <names>  only these kinds, separated by commas
  --seed <n>      the same attacks in the same order (default 1)
  --json          one JSON document on standard output; progress is on standard error
  --write         put the table of tries and findings into docs/security.md

kinds of attack:
${ATTACKS.map(({ name, about }) => `  ${name.padEnd(14)}  ${about}`).join('\n')}

examples:
  npm run attack
  npm run attack -- --quick --only ${ATTACKS[0]?.name ?? ''}
  npm run attack -- --seed 7 --write
  npm run --silent attack -- --json > attack.json

exit code: 0 no findings; 1 findings, which are printed; 2 invalid arguments; 130 stopped by Ctrl-C.
`;

const options = {
  quick: { type: 'boolean', default: false },
  only: { type: 'string', default: ATTACKS.map(({ name }) => name).join(',') },
  seed: { type: 'string', default: '1' },
  json: { type: 'boolean', default: false },
  write: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h' },
} as const;

function exitWithUsageError(reason: string): never {
  process.stderr.write(`${reason}\n\n${HELP}`);
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return exitWithUsageError(error instanceof Error ? error.message : String(error));
  }
}

const values = readArguments();
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const seed = Number(values.seed);
if (!Number.isSafeInteger(seed) || seed < 0) exitWithUsageError('--seed must be a whole number from 0.');
const wanted = values.only.split(',').map((name) => name.trim());
const unknown = wanted.filter((name) => ATTACKS.every((attack) => attack.name !== name));
if (unknown.length > 0) exitWithUsageError(`Unknown kind of attack: ${unknown.join(', ')}.`);

// Its workers cannot train without the engine, or with one from before a change of native/.
await installEngine();
const stopped = new AbortController();
// Cleans up even after several signals, because an immediate exit would leave servers and databases behind.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopped.abort());
try {
  const report = await runCampaign({
    seed,
    quick: values.quick,
    attacks: ATTACKS.filter(({ name }) => wanted.includes(name)),
    signal: stopped.signal,
    onProgress: (text) => void process.stderr.write(`${text}\n`),
  });
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : asText(report));
  if (values.write) await writeTable(SECURITY_PAGE, report);
  process.exitCode = report.attacks.every(({ findings }) => findings.length === 0) ? 0 : 1;
} catch (error) {
  if (!stopped.signal.aborted) throw error;
  process.exitCode = 130;
}
