/**
 * `npm run load`: checks whether a registry as large as a big lab's after years still answers quickly.
 *
 *   npm run load                         the whole proof: 100,000 runs, 50 requests a second and 100 workers for ten
 *                                        minutes
 *   npm run load -- --minutes 1          the same, shorter
 *   npm run load -- --json               one JSON document on standard output, progress on standard error
 *   npm run load -- --runs 5000          a small registry, for a quick look
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { table } from '../src/cli/terminal.ts';
import { startPostgres } from '../src/platform/postgres.ts';
import { thisMachine } from '../test/support/measured.ts';
import { measureConstantArrival, measureSaturation } from './arrival.ts';
import { createLoadClient } from './client.ts';
import { measureCosts } from './costs.ts';
import { startFleet, watchConnections } from './fleet.ts';
import { watchMemory } from './memory.ts';
import { operationsFor } from './operations.ts';
import { sendOverLimits } from './over-limits.ts';
import { explainOperations, logPlans, ROWS_TOUCHED_MAX } from './plans.ts';
import { writeReport } from './report.ts';
import { seed } from './seed.ts';
import { withLoadedServer } from './server.ts';

const RELIABILITY_PAGE = path.resolve(import.meta.dirname, '../docs/reliability.md');

const HELP = `usage: npm run load [-- --minutes 10] [-- --rate 50] [-- --workers 100] [-- --runs 100000] [-- --json] [-- --report]

Fills a separate database with runs, a million metric points and 5,000 datasets, starts the real server, and sends it
every list and detail query of the contract over HTTP: first one at a time, to read the plan that PostgreSQL chooses and
the processor time of server and database, then mixed at a constant rate with requests over the limits between them and
simulated workers beside them that claim runs, renew their leases and report a step every second, then as fast as it can. Everything is deleted afterwards.

  --report  puts the figures into docs/load.json and the table into docs/reliability.md

exit code: 0 every promise was kept; 1 broken promises, which are printed.
`;

/** The seeded queue has 200 runs, and a claim is to find one. */
const WORKERS_MAX = 150;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    rate: { type: 'string', default: '50' },
    workers: { type: 'string', default: '100' },
    runs: { type: 'string', default: '100000' },
    'plans-only': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
if (values.report && values['plans-only']) {
  process.stderr.write(HELP);
  process.exit(2);
}
const minutes = Number(values.minutes);
const requestsPerSecond = Number(values.rate);
const runCount = Number(values.runs);
const workerCount = Number(values.workers);
if (
  !(minutes > 0 && minutes <= 120 && requestsPerSecond > 0 && runCount >= 1000) ||
  !(Number.isInteger(workerCount) && workerCount >= 1 && workerCount <= WORKERS_MAX)
) {
  process.stderr.write(HELP);
  process.exit(2);
}
const scale = runCount / 100_000;
const size = {
  runCount,
  metricPointCount: Math.round(1_000_000 * scale),
  datasetCount: Math.max(200, Math.round(5_000 * scale)),
};
const report = (message: string): void => void process.stderr.write(`${message}\n`);

const P95_MAX_MS = 100;
const CLAIM_P95_MAX_MS = 200;
const CONNECTIONS_MAX = 20;
const SATURATION_SECONDS = 20;
const SATURATION_CONNECTIONS = 16;
const WARM_UP_SECONDS = 15;
/** A leak of a kilobyte for each request would be three megabytes a minute. */
const GROWTH_MAX_PER_MINUTE = 1;
/** Resident memory goes up and down with garbage: its peaks in the last third against those in the second. */
const RESIDENT_GROWTH_MAX = 1.15;
const MEMORY_SAMPLES = 20;

const folder = await mkdtemp(path.join(os.tmpdir(), 'paraffin-load-'));
const postgres = await startPostgres(path.join(folder, 'postgres'));
try {
  const startedAt = new Date();
  report('migrating');
  await withLoadedServer(folder, postgres.url, () => Promise.resolve());
  await seed(postgres.url, size, (done, total) => report(`seeding ${done}/${total}`));
  const operations = await operationsFor(postgres.url);

  report('plans');
  await logPlans(postgres.url, true);
  const plans = await withLoadedServer(folder, postgres.url, async ({ url, key }) => {
    const client = createLoadClient(url, key);
    const explained = await explainOperations(
      client,
      operations,
      postgres.url,
      path.join(folder, 'postgres', 'postgres.log'),
    );
    client.close();
    return explained;
  });
  await logPlans(postgres.url, false);

  const measured = values['plans-only']
    ? undefined
    : await withLoadedServer(folder, postgres.url, async ({ url, pid, key, collect }) => {
        const client = createLoadClient(url, key);
        report('where the time goes');
        const databasePid = Number(
          (await readFile(path.join(folder, 'postgres', 'cluster', 'postmaster.pid'), 'utf8')).split('\n', 1)[0],
        );
        const costs = await measureCosts(client, operations, pid, databasePid);
        const fleet = startFleet({ url, key, workerCount });
        report(`warming up for ${WARM_UP_SECONDS} s`);
        await measureConstantArrival({ client, operations, requestsPerSecond, seconds: WARM_UP_SECONDS });
        report(
          `${requestsPerSecond} requests a second for ${minutes} minutes beside ${workerCount} workers, with one over the limits every second`,
        );
        const loadBefore = os.loadavg();
        let isOver = false;
        const [arrival, overLimits, memory, connections] = await Promise.all([
          measureConstantArrival({ client, operations, requestsPerSecond, seconds: minutes * 60 }).finally(() => {
            isOver = true;
          }),
          sendOverLimits(client, 1000, () => isOver),
          watchMemory({ pid, collect, everyMs: (minutes * 60_000) / MEMORY_SAMPLES, isOver: () => isOver }),
          watchConnections(postgres.url, () => isOver),
        ]);
        const workers = await fleet.stop();
        const loadAfter = os.loadavg();
        report(`as fast as it can for ${SATURATION_SECONDS} s`);
        const saturation = await measureSaturation({
          client,
          operations,
          connectionCount: SATURATION_CONNECTIONS,
          seconds: SATURATION_SECONDS,
        });
        const repeatedCount = client.repeatedCount();
        client.close();
        return {
          costs,
          repeatedCount,
          arrival,
          overLimits,
          memory,
          workers,
          connections,
          saturation,
          loadAverage: { before: loadBefore, after: loadAfter },
        };
      });

  const broken = [
    ...plans
      .filter((plan) => !plan.isCount && (plan.sequentialScans.length > 0 || plan.rowsTouched > ROWS_TOUCHED_MAX))
      .map(
        (plan) =>
          `${plan.operation} grows with its tables: ${plan.rowsTouched} rows read, tables scanned in full: ${plan.sequentialScans.join(', ') || 'none'}. ${plan.worst ?? ''}`,
      ),
    ...(measured === undefined ? [] : brokenPromises(measured)),
  ];
  const result = {
    startedAt,
    machine: thisMachine(),
    size,
    requestsPerSecond,
    minutes,
    plans,
    ...measured,
    broken,
  };
  process.stdout.write(values.json ? `${JSON.stringify(result, null, 2)}\n` : asText());
  if (values.report && measured !== undefined) await writeReport(RELIABILITY_PAGE, { ...result, ...measured });
  process.exitCode = broken.length === 0 ? 0 : 1;

  function asText(): string {
    const lines = [
      table(
        ['operation', 'statements', 'rows read', 'buffers', 'scanned in full'],
        plans.map((plan) => [
          plan.isCount ? `${plan.operation} (counts)` : plan.operation,
          String(plan.statementCount),
          String(plan.rowsTouched),
          String(plan.buffers),
          plan.sequentialScans.join(', '),
        ]),
      ),
      '',
    ];
    if (measured !== undefined) {
      const { costs, repeatedCount, arrival, overLimits, memory, workers, connections, saturation, loadAverage } =
        measured;
      const costRow = (name: string, each: typeof costs.mean): string[] => [
        name,
        String(each.serverMs),
        String(each.databaseMs),
        String(each.responseBytes),
      ];
      lines.push(
        table(
          ['processor time per request', 'server ms', 'database ms', 'bytes'],
          [...costs.byOperation.map((each) => costRow(each.operation, each)), costRow('the mix', costs.mean)],
        ),
        '',
      );
      const row = (name: string, each: typeof arrival.all): string[] => [
        name,
        ...[each.count, each.errorCount, each.p50Ms, each.p95Ms, each.p99Ms, each.maxMs].map(String),
      ];
      const head = ['', 'requests', 'errors', 'p50 ms', 'p95 ms', 'p99 ms', 'max ms'];
      lines.push(
        table(head, [
          ...Object.entries(arrival.byOperation).map(([name, each]) => row(name, each)),
          row('all', arrival.all),
        ]),
        '',
      );
      lines.push(
        table(head, [
          ...Object.entries(overLimits.byKind).map(([name, each]) => row(name, each)),
          row('over the limits', overLimits.all),
        ]),
        '',
      );
      lines.push(
        table(head, [
          row(`claims of ${workers.workerCount} workers`, workers.claims),
          row('renewals', workers.renewals),
          row('reports', workers.reports),
        ]),
        `calls of workers that failed: ${workers.errorCount}, sent again: ${workers.repeatedCount}; connections to the database: ${connections.lowest} to ${connections.highest}`,
        '',
      );
      lines.push(
        `saturation: ${saturation.requestsPerSecond} requests a second over ${saturation.connectionCount} connections, p95 ${saturation.p95Ms} ms`,
      );
      lines.push(
        `memory: live after collections ${memory.samples.at(0)?.liveMegabytes} MB -> ${memory.samples.at(-1)?.liveMegabytes} MB, ${memory.liveSlopePerMinute} MB a minute over the last two thirds; resident at most ${memory.residentPeaksMegabytes[0]} MB in the second third, ${memory.residentPeaksMegabytes[1]} MB in the last`,
      );
      lines.push(`sent again, because the server had closed the idle connection: ${repeatedCount}`);
      lines.push(
        `sent late: ${arrival.lateCount}; load average of the machine before ${loadAverage.before.map((each) => each.toFixed(1)).join(' ')}, after ${loadAverage.after.map((each) => each.toFixed(1)).join(' ')}`,
      );
    }
    lines.push(
      ...(broken.length === 0 ? ['Every promise was kept.'] : broken.map((promise) => `BROKEN ${promise}`)),
      '',
    );
    return lines.join('\n');
  }

  function brokenPromises(found: NonNullable<typeof measured>): string[] {
    const { arrival, overLimits, memory, workers, connections } = found;
    return [
      ...(arrival.all.p95Ms < P95_MAX_MS
        ? []
        : [`p95 of all requests is ${arrival.all.p95Ms} ms, not under ${P95_MAX_MS} ms.`]),
      ...Object.entries(arrival.byOperation)
        .filter(([, each]) => each.p95Ms >= P95_MAX_MS)
        .map(([name, each]) => `p95 of ${name} is ${each.p95Ms} ms, not under ${P95_MAX_MS} ms.`),
      ...(arrival.all.errorCount === 0
        ? []
        : [`${arrival.all.errorCount} answers were errors, such as ${arrival.errors.join(' | ')}`]),
      ...overLimits.wrong.map((answer) => `A request over the limits got an unexpected answer: ${answer}`),
      ...(overLimits.all.p95Ms < P95_MAX_MS ? [] : [`p95 of refusals is ${overLimits.all.p95Ms} ms.`]),
      ...(workers.claims.p95Ms < CLAIM_P95_MAX_MS
        ? []
        : [`p95 of claims is ${workers.claims.p95Ms} ms, not under ${CLAIM_P95_MAX_MS} ms.`]),
      ...(workers.errorCount === 0
        ? []
        : [`${workers.errorCount} calls of workers failed, such as ${workers.errors.join(' | ')}`]),
      ...(connections.highest <= CONNECTIONS_MAX
        ? []
        : [`The server has ${connections.highest} connections to the database, more than ${CONNECTIONS_MAX}.`]),
      ...(memory.liveSlopePerMinute < GROWTH_MAX_PER_MINUTE
        ? []
        : [`Memory grows: live memory after a collection by ${memory.liveSlopePerMinute} MB a minute.`]),
      ...(memory.residentPeaksMegabytes[1] <= RESIDENT_GROWTH_MAX * memory.residentPeaksMegabytes[0]
        ? []
        : [`Memory grows: resident at most ${memory.residentPeaksMegabytes.join(' MB, then ')} MB.`]),
    ];
  }
} finally {
  await postgres.stop();
  await rm(folder, { recursive: true, force: true });
}
