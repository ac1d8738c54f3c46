/**
 * `npm run experiment:recipes`: which optimizer, learning rate, crop, jitter, temperature and batch size teach an
 * encoder the most about tissue. One thing is changed at a time, at equal images seen; results are stored in a file,
 * and the next run measures the missing ones.
 *
 *   npm run experiment:recipes                          missing cells, for an hour
 *   npm run experiment:recipes -- --minutes 10 --only temperature
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { compatCacheDir, preparePython } from '../../compat/python-environment.ts';
import { installEngine } from '../../src/cli/engine.ts';
import { onStopSignal } from '../../src/platform/stop-signal.ts';
import { BAR_MINUTES, measureBar, readBars, writeBars } from './bars.ts';
import { availableData, writePixels, type DataName, type PixelSet } from './images.ts';
import { ablationCells, cellKey, parityCells, SEEDS, variants, type Cell } from './plan.ts';
import { BASE_RECIPE, stepsOf } from './recipe.ts';
import { reportOf } from './report.ts';
import { verdictsOf } from './verdicts.ts';
import { findResult, readResults, writeResults } from './results.ts';
import { runCell } from './run-cell.ts';

const PROJECT_ROOT = path.resolve(import.meta.dirname, '../..');
const HELP = `Usage: npm run experiment:recipes -- [options]

Trains encoders with one changed setting each, evaluates them by a linear probe, and writes a table with intervals. Cells
that were measured before are not measured again: run it as often as you like.

  --minutes N      start no cell after this many minutes (default: 60; 0 only writes the report)
  --data DIR       where pcam-mini and histology-mini are (default: ../shared/data)
  --sets A,B       which sets to use (default: pcam-mini)
  --only TEXT      only rows whose factor or value contains TEXT
  --parity         the comparison with PyTorch instead of the ablation
  --bars           the targets of the defaults, through a registry: an hour of training per seed on pcam-mini, ten
                   minutes on histology-mini; exit code 1 if a target is missed with three seeds
  --bar-minutes N  train for this long instead: a preview, not the target
  --out DIR        the folder of recipes.md and recipes/cells.json (default: docs/experiments)
  --help

Examples:
  npm run experiment:recipes -- --minutes 90
  npm run experiment:recipes -- --only temperature
  npm run experiment:recipes -- --parity --sets pcam-mini,histology-mini
  npm run experiment:recipes -- --bars --sets histology-mini --minutes 45
`;
const { values } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '60' },
    data: { type: 'string', default: path.resolve(PROJECT_ROOT, '../shared/data') },
    sets: { type: 'string', default: 'pcam-mini' },
    only: { type: 'string', default: '' },
    parity: { type: 'boolean', default: false },
    bars: { type: 'boolean', default: false },
    'bar-minutes': { type: 'string' },
    out: { type: 'string', default: path.join(PROJECT_ROOT, 'docs/experiments') },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const minutes = z.coerce.number().min(0).parse(values.minutes);
const startedMs = performance.now();
const isLate = (): boolean => performance.now() - startedMs > minutes * 60_000;

const wanted = values.sets.split(',');
const available = await availableData(values.data);
if (!available.some((name) => wanted.includes(name))) {
  process.stderr.write(`${values.data} has neither of ${values.sets}. Give their folder by --data.\n`);
  process.exit(1);
}
await installEngine();
const resultsFile = path.join(values.out, 'recipes/cells.json');
await mkdir(path.dirname(resultsFile), { recursive: true });
const results = await readResults(resultsFile);
const barsFile = path.join(values.out, 'recipes/bars.json');
const bars = await readBars(barsFile);
const workDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-recipes-'));
const abort = new AbortController();
const stopped = onStopSignal(() => {
  abort.abort();
  return Promise.resolve();
});
try {
  const sets: PixelSet[] = [];
  // The report shows every set, also those that this run does not measure.
  for (const name of available) {
    if (values.bars && wanted.includes(name)) await measureBars(name);
    sets.push(await measureSet(name));
  }
  const cpu = os.cpus();
  const machine = `Last written on ${os.availableParallelism()} cores of ${cpu[0]?.model.trim() ?? 'an unknown CPU'}.`;
  await writeFile(path.join(values.out, 'recipes.md'), reportOf(results, sets, bars, machine));
  say(`${path.join(values.out, 'recipes.md')} is written.`);
  if (values.bars) {
    const verdicts = verdictsOf(bars);
    for (const { bar, verdict, figures } of verdicts) say(`${verdict.padEnd(12)} ${bar}: ${figures}`);
    if (verdicts.some(({ verdict }) => verdict === 'MISSED')) process.exitCode = 1;
  }
} catch (error) {
  if (!abort.signal.aborted) throw error;
  say('Stopped. The measurements are kept, and the next run continues with the rest.');
  process.exitCode = 130;
} finally {
  stopped.dispose();
  await rm(workDir, { recursive: true, force: true });
}

/** Measures one seed after another until the time is over; a seed that would not finish in time is not started. */
async function measureBars(name: DataName): Promise<void> {
  const barMinutes = z.coerce
    .number()
    .gt(0)
    .parse(values['bar-minutes'] ?? BAR_MINUTES[name]);
  for (const seed of SEEDS) {
    if (bars.some((bar) => bar.data === name && bar.seed === seed && bar.minutes === barMinutes)) continue;
    if (performance.now() - startedMs + barMinutes * 60_000 > minutes * 60_000) {
      say(`${name}, seed ${seed}: ${barMinutes} minutes of training do not fit into the rest of --minutes ${minutes}.`);
      return;
    }
    bars.push(await measureBar({ data: name, seed, minutes: barMinutes }, values.data, workDir, abort.signal));
    await writeBars(barsFile, bars);
  }
}

async function measureSet(name: DataName): Promise<PixelSet> {
  say(`${name}: decoding`);
  const pixelsPath = path.join(workDir, `${name}.u8`);
  const pixels = await writePixels(name, values.data, BASE_RECIPE.sourceSizePx, pixelsPath);
  const cells = (values.parity ? parityCells(name) : ablationCells(name)).filter(isSelected);
  const missing = cells.filter((cell) => findResult(results, cell) === undefined);
  say(`${name}: ${cells.length - missing.length} of ${cells.length} cells are measured`);
  for (const [index, cell] of missing.entries()) {
    if (values.bars || !wanted.includes(name) || isLate()) break;
    const title = `${name} ${cell.trainer} ${titleOf(cell)}, seed ${cell.seed}`;
    const place = {
      pixels,
      pixelsPath,
      workDir,
      python: () => preparePython(compatCacheDir(), say),
      signal: abort.signal,
      onProgress: (line: string) => {
        if (process.stdout.isTTY) process.stdout.write(`\r${title}: ${line.slice(0, 60).padEnd(60)}`);
      },
    };
    const measured = await runCell(cell, place);
    results.push(measured);
    await writeResults(resultsFile, results);
    say(`${process.stdout.isTTY ? '\r' : ''}${index + 1}/${missing.length} ${title}: ${measured.seconds} s`);
  }
  return pixels;
}

function titleOf(cell: Cell): string {
  const key = cellKey(cell);
  const variant = variants().find(({ recipe }) => cellKey({ ...cell, recipe }) === key);
  if (variant !== undefined) return `${variant.factor} ${variant.value}`;
  return stepsOf(cell.recipe) === 0 ? 'control' : 'other';
}

/** The controls apply to every row. */
function isSelected(cell: Cell): boolean {
  return stepsOf(cell.recipe) === 0 || titleOf(cell).includes(values.only);
}
