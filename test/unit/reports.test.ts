/** The tables that `npm run chaos` and `npm run load` write into docs/reliability.md. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { z } from 'zod';
import { writeReport as writeChaos, type ChaosReport } from '../../chaos/report.ts';
import { writeReport as writeLoad, type LoadReport } from '../../load/report.ts';

const MACHINE = { cpu: 'a processor', cores: 2, memoryGigabytes: 8, node: 'v24.0.0' };
const LOADS = { before: [0.5, 0, 0], after: [1.5, 0, 0] };
const STARTED_AT = new Date('2026-11-30T10:00:00Z');

const CHAOS: ChaosReport = {
  ...{ startedAt: STARTED_AT, machine: MACHINE, loadAverage: LOADS, seed: 7, trainingCount: 6, durationSeconds: 90.4 },
  ...{ undisturbedSeconds: 3, faults: { 'kill child': 2, 'cut network': 1 }, remarks: ['The clock was not set back.'] },
  promises: [
    { promise: 'no run is stuck', held: true, seen: '7 of 7 ended' },
    { promise: 'every run succeeded', held: false, seen: 'FAILED INTERNAL' },
  ],
};

const LATENCIES = { count: 30, errorCount: 0, p50Ms: 5, p95Ms: 20, p99Ms: 30, maxMs: 40 };
const LOAD: LoadReport = {
  ...{
    startedAt: STARTED_AT,
    machine: MACHINE,
    loadAverage: LOADS,
    requestsPerSecond: 50,
    minutes: 2,
    repeatedCount: 1,
  },
  size: { runCount: 1000, metricPointCount: 10_000, datasetCount: 200 },
  plans: [
    { operation: 'runs', isCount: false, statementCount: 1, rowsTouched: 70, buffers: 9, sequentialScans: [] },
    { operation: 'server', isCount: true, statementCount: 1, rowsTouched: 9000, buffers: 9, sequentialScans: ['Run'] },
  ],
  costs: {
    byOperation: [{ operation: 'runs', weight: 1, serverMs: 4, databaseMs: 3, responseBytes: 100 }],
    mean: { serverMs: 4, databaseMs: 3, responseBytes: 100 },
  },
  arrival: {
    ...{ all: LATENCIES, errors: [], lateCount: 0 },
    byOperation: { run: LATENCIES, runs: { ...LATENCIES, p95Ms: 77 } },
  },
  overLimits: { all: LATENCIES, byKind: {}, wrong: [] },
  memory: {
    samples: [{ atSeconds: 0, residentMegabytes: 300, liveMegabytes: 71 }],
    ...{ liveSlopePerMinute: 0.1, residentPeaksMegabytes: [400, 401] },
  },
  workers: {
    ...{ workerCount: 100, claims: { ...LATENCIES, p95Ms: 123 }, renewals: LATENCIES, reports: LATENCIES },
    ...{ repeatedCount: 0, errorCount: 0, errors: [] },
  },
  connections: { lowest: 17, highest: 19 },
  saturation: { connectionCount: 16, requestsPerSecond: 160, p95Ms: 170 },
  broken: [],
};

/** The real page, in a folder of its own. */
async function pageOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-reports-'));
  t.after(() => rm(folder, { recursive: true }));
  const page = path.join(folder, 'page.md');
  await writeFile(page, await readFile(path.resolve(import.meta.dirname, '../../docs/reliability.md')));
  return page;
}

test('both tables replace those between their markers, and nothing else of the page', async (t) => {
  const page = await pageOf(t);
  const real = await readFile(page, 'utf8');
  await writeChaos(page, 'npm run chaos -- --trainings 6 --seed 6', CHAOS);
  await writeChaos(page, 'npm run chaos -- --trainings 6 --seed 7', CHAOS);
  await writeLoad(page, LOAD);
  const text = await readFile(page, 'utf8');
  assert.match(text, /`npm run chaos -- --trainings 6 --seed 7`, 2026-11-30, 2 cores .*0\.5 before and 1\.5 after/);
  assert.doesNotMatch(text, /--seed 6/);
  assert.match(text, /kill child 2, cut network 1/);
  assert.match(text, /The clock was not set back\./);
  assert.match(text, /\| no run is stuck \| 7 of 7 ended \| held \|/);
  assert.match(text, /\| every run succeeded \| FAILED INTERNAL \| \*\*broken\*\* \|/);
  assert.match(text, /30 requests, p50 5 ms, p95 20 ms, p99 30 ms, worst 40 ms; 0 errors/);
  assert.match(text, /the highest p95: `runs` 77 ms, `run` 20 ms/);
  assert.match(text, /0 of 1 do; at most 70 rows are touched/);
  assert.match(text, /Every promise was kept\./);
  const outside = (whole: string): string =>
    whole.replace(/(<!-- (?:chaos|load): the [^]*?-->)[^]*?(<!-- \w+: end -->)/g, '$1$2');
  assert.equal(outside(text), outside(real));
  const figures = z.object({ seed: z.number() });
  assert.equal(figures.parse(JSON.parse(await readFile(path.join(path.dirname(page), 'chaos.json'), 'utf8'))).seed, 7);
});

test('a broken promise of the load is in the table, and a page without markers is refused', async (t) => {
  const page = await pageOf(t);
  await writeLoad(page, { ...LOAD, broken: ['p95 of runs is 177 ms, not under 100 ms.'] });
  const text = await readFile(page, 'utf8');
  assert.match(text, /- \*\*Broken\*\*: p95 of runs is 177 ms/);
  assert.match(text, /100 workers beside them.*p95 123 ms/);
  assert.match(text, /connections to the database \| 17 to 19 \|/);
  await writeFile(page, 'nothing');
  await assert.rejects(writeLoad(page, LOAD), /no markers/);
});
