/**
 * Measures how long it takes until a list shows its first row, in headless Chromium over loopback, in a registry of
 * 100,000 runs.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import type { Page } from 'playwright-core';
import { table } from '../src/cli/terminal.ts';
import { startPostgres } from '../src/platform/postgres.ts';
import { openBrowser } from '../test/support/browser.ts';
import { eventually } from '../test/support/eventually.ts';
import { seed } from './seed.ts';
import { withLoadedServer } from './server.ts';

interface PagePaint {
  readonly address: string;
  /**
   * From the start of the navigation to the frame with the first row, with nothing in the browser's cache: median and
   * worst.
   */
  readonly firstVisitMs: number;
  readonly firstVisitMaxMs: number;
  /** The same with the browser's cache: median. */
  readonly nextVisitMs: number;
}

const FIRST_ROW_MAX_MS = 1000;
const VISITS = 5;
const TIMEOUT_MS = 30_000;
const LISTS = ['/datasets', '/models', '/runs', '/leaderboard'] as const;
const ROW = 'main tbody tr, main .card';
/** Runs before the page's scripts and records the time of the first frame that shows a row. */
const WATCH = `new MutationObserver((_, observer) => {
  if (document.querySelector(${JSON.stringify(ROW)}) === null) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.firstRowAtMs = performance.now(); }));
}).observe(document, { childList: true, subtree: true });`;

const HELP = `usage: npm run load:pages [-- --runs 100000] [-- --json]

Fills a separate database with runs, datasets and models, starts the real server, opens each list five times with
nothing in the browser's cache and five times with it, and prints after how many milliseconds the first row was seen.
Everything is deleted afterwards.

Examples:
  npm run load:pages                   everything, about three minutes on two cores
  npm run load:pages -- --runs 5000    a small registry, for a quick look
  npm run load:pages -- --json         one JSON document on standard output, progress on standard error

exit code: 0 every list showed its first row within a second; 1 late lists, which are printed.
`;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '100000' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const runCount = Number(values.runs);
if (!(runCount >= 1000)) {
  process.stderr.write(HELP);
  process.exit(2);
}
const size = { runCount, metricPointCount: runCount * 10, datasetCount: Math.max(200, Math.round(runCount / 20)) };

await promisify(execFile)(process.execPath, [path.resolve(import.meta.dirname, '../scripts/build-web.mjs')]);
const folder = await mkdtemp(path.join(os.tmpdir(), 'paraffin-load-'));
const postgres = await startPostgres(path.join(folder, 'postgres'));
try {
  report('migrating');
  await withLoadedServer(folder, postgres.url, () => Promise.resolve());
  await seed(postgres.url, size, (done, total) => report(`seeding ${done}/${total}`));
  const paints = await withLoadedServer(folder, postgres.url, ({ url }) => measurePages(url));
  const late = paints.filter((paint) => paint.firstVisitMs >= FIRST_ROW_MAX_MS);
  const machine = {
    cpu: os.cpus()[0]?.model,
    cores: os.availableParallelism(),
    loadAverage: os.loadavg().map((each) => Number(each.toFixed(1))),
  };
  const rows = paints.map(({ address, firstVisitMs, firstVisitMaxMs, nextVisitMs }) => [
    address,
    String(firstVisitMs),
    String(firstVisitMaxMs),
    String(nextVisitMs),
  ]);
  process.stdout.write(
    values.json
      ? `${JSON.stringify({ machine, size, paints, late: late.map((paint) => paint.address) }, null, 2)}\n`
      : `${table(['page', 'first visit ms', 'worst ms', 'next visit ms'], rows)}\n${machine.cores} cores of ${machine.cpu}; load average at the end: ${machine.loadAverage.join(' ')}\n${late.length === 0 ? `Every list shows its first row within ${FIRST_ROW_MAX_MS} ms.` : `LATE ${late.map((paint) => paint.address).join(', ')}`}\n`,
  );
  process.exitCode = late.length === 0 ? 0 : 1;
} finally {
  await postgres.stop();
  await rm(folder, { recursive: true, force: true });
}

function report(message: string): void {
  process.stderr.write(`${message}\n`);
}

/** @param url of a server with rows in every list. */
async function measurePages(url: string): Promise<readonly PagePaint[]> {
  const browser = await openBrowser();
  try {
    const page = await browser.context.newPage();
    await page.addInitScript(WATCH);
    const cache = await browser.context.newCDPSession(page);
    const paints: PagePaint[] = [];
    for (const address of LISTS) {
      // The very first page also makes the server compile its code, which a lab's server has done days ago.
      await visit(page, url + address);
      const times = { first: [0], next: [0] };
      for (const [kind, isOff] of [
        ['first', true],
        ['next', false],
      ] as const) {
        await cache.send('Network.enable');
        await cache.send('Network.setCacheDisabled', { cacheDisabled: isOff });
        times[kind] = [];
        for (let count = 0; count < VISITS; count += 1) times[kind].push(await visit(page, url + address));
        times[kind].sort((a, b) => a - b);
      }
      const paint = {
        address,
        firstVisitMs: median(times.first),
        firstVisitMaxMs: times.first.at(-1) ?? 0,
        nextVisitMs: median(times.next),
      };
      report(
        `${address}: first row after ${paint.firstVisitMs} ms, at most ${paint.firstVisitMaxMs} ms; ${paint.nextVisitMs} ms from the browser's cache`,
      );
      paints.push(paint);
    }
    return paints;
  } finally {
    await browser.close();
  }
}

async function visit(page: Page, address: string): Promise<number> {
  await page.goto('about:blank');
  await page.goto(address, { waitUntil: 'commit', timeout: TIMEOUT_MS });
  // Read by the debugger, because the page's content security policy allows no other script.
  const firstRow = async (): Promise<number | undefined> => {
    const seen: unknown = await page.evaluate('window.firstRowAtMs');
    return typeof seen === 'number' ? Math.round(seen) : undefined;
  };
  return eventually(`the first row of ${address}`, firstRow, TIMEOUT_MS);
}

function median(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
