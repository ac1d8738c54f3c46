/** The figures of a load test as a table of docs/reliability.md. */
import { markdownTable, writeFigures } from '../test/support/marked-page.ts';
import { measuredBy, type Measured } from '../test/support/measured.ts';
import type { ArrivalResult, SaturationResult } from './arrival.ts';
import type { CostResult } from './costs.ts';
import type { ConnectionCounts, FleetResult } from './fleet.ts';
import type { MemoryResult } from './memory.ts';
import type { OverLimitsResult } from './over-limits.ts';
import type { OperationPlans } from './plans.ts';

export interface LoadReport extends Measured {
  readonly size: { readonly runCount: number; readonly metricPointCount: number; readonly datasetCount: number };
  readonly requestsPerSecond: number;
  readonly minutes: number;
  readonly plans: readonly OperationPlans[];
  readonly costs: CostResult;
  /** Requests that were sent again, because the server had closed their idle connection. */
  readonly repeatedCount: number;
  readonly arrival: ArrivalResult;
  readonly overLimits: OverLimitsResult;
  readonly memory: MemoryResult;
  readonly workers: FleetResult;
  readonly connections: ConnectionCounts;
  readonly saturation: SaturationResult;
  /** Broken promises, in sentences. */
  readonly broken: readonly string[];
}

/** Puts the table between the page's markers, and all figures into `load.json` beside it. */
export async function writeReport(page: string, report: LoadReport): Promise<void> {
  await writeFigures(page, 'load', asMarkdown(report), report);
}

function asMarkdown(report: LoadReport): string {
  const { size, requestsPerSecond, minutes, broken } = report;
  const { costs, repeatedCount, arrival, overLimits, memory, workers, connections, saturation } = report;
  const queries = Object.entries(arrival.byOperation).toSorted(([, a], [, b]) => b.p95Ms - a.p95Ms);
  const slowest = queries.slice(0, 3).map(([name, { p95Ms }]) => `\`${name}\` ${p95Ms} ms`);
  const costliest = costs.byOperation
    .toSorted((a, b) => b.serverMs + b.databaseMs - a.serverMs - a.databaseMs)
    .slice(0, 3)
    .map(({ operation, serverMs, databaseMs }) => `\`${operation}\` (${serverMs} and ${databaseMs} ms)`);
  const pages = report.plans.filter(({ isCount }) => !isCount);
  const scanning = pages.filter(({ sequentialScans }) => sequentialScans.length > 0);
  const [firstSample, lastSample] = [memory.samples.at(0), memory.samples.at(-1)];
  const { all } = arrival;
  return [
    measuredBy(`npm run load -- --minutes ${minutes} --rate ${requestsPerSecond} --runs ${size.runCount}`, report),
    '([all figures](load.json)); the client of the load and PostgreSQL share the cores with the server.',
    '',
    markdownTable(
      ['what', 'measured'],
      [
        [
          `${requestsPerSecond} requests a second for ${minutes} minutes, mixed: p95 under 100 ms`,
          `${all.count} requests, p50 ${all.p50Ms} ms, p95 ${all.p95Ms} ms, p99 ${all.p99Ms} ms, worst ${all.maxMs} ms; ${all.errorCount} errors`,
        ],
        [`the same for each of the ${queries.length} queries by itself`, `the highest p95: ${slowest.join(', ')}`],
        [
          'requests over the limits meanwhile are refused as they should be',
          `${overLimits.all.count} requests, ${overLimits.wrong.length} answered otherwise, p95 ${overLimits.all.p95Ms} ms; ${repeatedCount} sent again`,
        ],
        [
          `${workers.workerCount} workers beside them, each renewing and reporting every second: p95 of claims under 200 ms`,
          `${workers.claims.count} claims, p50 ${workers.claims.p50Ms} ms, p95 ${workers.claims.p95Ms} ms, worst ${workers.claims.maxMs} ms; ${workers.renewals.count} renewals, p95 ${workers.renewals.p95Ms} ms; ${workers.reports.count} reports, p95 ${workers.reports.p95Ms} ms; ${workers.errorCount} failed, ${workers.repeatedCount} sent again`,
        ],
        ['at most 20 connections to the database', `${connections.lowest} to ${connections.highest}`],
        [
          'no memory growth',
          `after forced collections ${firstSample?.liveMegabytes} MB at first and ${lastSample?.liveMegabytes} MB at last, slope ${memory.liveSlopePerMinute} MB a minute; resident at most ${memory.residentPeaksMegabytes[0]} MB in the second third and ${memory.residentPeaksMegabytes[1]} MB in the last`,
        ],
        [
          'no list or detail query reads a table whole',
          `${scanning.length} of ${pages.length} do; at most ${Math.max(...pages.map(({ rowsTouched }) => rowsTouched))} rows are touched`,
        ],
        [
          'saturation',
          `${saturation.requestsPerSecond} requests a second over ${saturation.connectionCount} connections, p95 ${saturation.p95Ms} ms`,
        ],
      ],
    ),
    '',
    broken.length === 0 ? 'Every promise was kept.' : broken.map((promise) => `- **Broken**: ${promise}`).join('\n'),
    `A request of the mix keeps the server at work for ${costs.mean.serverMs} ms and the database for ${costs.mean.databaseMs} ms; most by ${costliest.join(', ')}.`,
  ].join('\n');
}
