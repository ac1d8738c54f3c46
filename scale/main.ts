/**
 * `npm run scale`: what a registry of many images takes, stage by stage, through the real server and worker.
 *
 *   npm run scale -- --images 10000              about two minutes on two cores
 *   npm run scale -- --images 1000000 --dir DIR  resumable: finished stages in DIR are not repeated
 *   npm run scale -- --images 100000 --report    writes the tables of docs/benchmarks.md
 *   npm run scale -- --manifest-only --images 10000000
 */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { installEngine } from '../src/cli/engine.ts';
import { formatByteSize, createStatusLine, progressBar } from '../src/cli/terminal.ts';
import {
  diskNeedOf,
  IMAGES_MAX,
  IMAGES_STEP,
  manifestDiskNeedOf,
  STAGES,
  TEST_IMAGES_MAX,
  TRAINING,
  type ScaleSize,
} from './plan.ts';
import { thisMachine } from '../test/support/measured.ts';
import { asText, writeReport, type ScaleReport } from './report.ts';
import { runManifestParts } from './run-manifest.ts';
import { runScale } from './run.ts';
import type { MeasuredPart } from './stages.ts';
import { IMAGES_PER_SHARD } from './synthetic-rows.ts';

const BENCHMARKS_PAGE = path.resolve(import.meta.dirname, '../docs/benchmarks.md');

const HELP = `usage: npm run scale [-- --images 10000] [-- --test-images N] [-- --manifest-only] [-- --stages a,b] [-- --dir DIR] [-- --keep] [-- --json] [-- --report]

Draws many small images, imports them into a registry of its own, pretrains ${TRAINING.steps} steps at ${TRAINING.imageSizePx} px, embeds and evaluates on images
of which half are copies of those that the pretraining has seen, and prints the time, the peak memory and the stored bytes of each
part. Every result is checked: the counts of the versions, and the copies that the leakage finds.

  --images <n>       images of the version for pretraining, a multiple of ${IMAGES_STEP} up to ${IMAGES_MAX} (default 10000)
  --test-images <n>  images to embed and evaluate on (default: --images, at most ${TEST_IMAGES_MAX})
  --manifest-only    no images: writes a manifest of so many rows (a multiple of ${IMAGES_PER_SHARD}), reads three of its columns, looks for
                     copies and near duplicates of the test images by hashes, computes the sampling order and reads a first batch
  --stages <names>   only these stages, separated by commas: ${STAGES.join(', ')}; those before must have finished in --dir
  --dir <folder>     works there and leaves it: the same command continues after the last finished stage
  --keep             leaves the temporary folder, and says where it is
  --seed <n>         draws other images (default 1)
  --report           puts the figures into docs/scale.json and the tables into docs/benchmarks.md
  --json             one JSON document on standard output; progress is on standard error

It says first how much of the disk it will take, and refuses to begin without it. Ctrl-C stops everything that it started and removes
the temporary folder.

examples:
  npm run scale
  npm run scale -- --images 100000 --test-images 10000 --report
  npm run scale -- --images 1000000 --dir /data/scale --report
  npm run scale -- --images 1000000 --dir /data/scale --stages pretrain,evaluate
  npm run scale -- --manifest-only --images 10000000
  npm run --silent scale -- --json > scale.json

exit code: 0 all stages gave what they should; 1 a stage failed or gave something else; 2 invalid arguments; 130 stopped by Ctrl-C.
`;

const options = {
  images: { type: 'string', default: '10000' },
  'test-images': { type: 'string' },
  'manifest-only': { type: 'boolean', default: false },
  stages: { type: 'string' },
  dir: { type: 'string' },
  keep: { type: 'boolean', default: false },
  seed: { type: 'string', default: '1' },
  report: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h' },
} as const;

function misused(reason: string): never {
  process.stderr.write(`${reason}\n\n${HELP}`);
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return misused(error instanceof Error ? error.message : String(error));
  }
}

const values = readArguments();
if (values.help === true) {
  process.stdout.write(HELP);
  process.exit(0);
}
const isManifestOnly = values['manifest-only'];
const size = sizeOf();
const wanted = values.stages?.split(',').map((name) => name.trim()) ?? [...STAGES];
if (isManifestOnly && values.stages !== undefined)
  misused('--stages chooses among the stages that --manifest-only leaves out.');
const stages = STAGES.filter((stage) => wanted.includes(stage));
const unknown = wanted.filter((name) => !STAGES.some((stage) => stage === name));
if (unknown.length > 0) misused(`There is no stage called ${unknown.join(', ')}.`);
if (values.report && stages.length < STAGES.length && values.dir === undefined)
  misused('--report needs all stages: leave out --stages, or continue in a --dir.');

function sizeOf(): ScaleSize {
  const imageCount = Number(values.images);
  const testImageCount = Number(values['test-images'] ?? Math.min(imageCount, TEST_IMAGES_MAX));
  const seed = Number(values.seed);
  for (const [name, count] of [
    ['--images', imageCount],
    ['--test-images', testImageCount],
  ] as const)
    if (!(Number.isInteger(count) && count >= IMAGES_STEP && count <= IMAGES_MAX && count % IMAGES_STEP === 0))
      misused(`${name} must be a multiple of ${IMAGES_STEP} up to ${IMAGES_MAX}.`);
  if (isManifestOnly && imageCount % IMAGES_PER_SHARD > 0)
    misused(`With --manifest-only, --images must be a multiple of ${IMAGES_PER_SHARD}.`);
  if (testImageCount > 2 * imageCount)
    misused('--test-images must be at most twice --images, because half of them are copies.');
  if (!Number.isSafeInteger(seed) || seed < 0) misused('--seed must be a whole number from 0.');
  return { imageCount, testImageCount, seed };
}

await installEngine();
const stopped = new AbortController();
// Cleans up even after several signals, because an immediate exit would leave a server and millions of files behind.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stopped.abort());
const say = (text: string): void => void process.stderr.write(`${text}\n`);
const folder = values.dir ?? (await mkdtemp(path.join(os.tmpdir(), 'paraffin-scale-')));
const isKept = values.dir !== undefined || values.keep;
const startedAt = new Date().toISOString();
const [loadBefore = 0] = os.loadavg();
const status = createStatusLine(process.stderr);
try {
  const need = isManifestOnly ? manifestDiskNeedOf(size) : diskNeedOf(size);
  say(`At most ${formatByteSize(need.byteSize)} and ${need.fileCount} files below ${folder}.`);
  const parts = isManifestOnly ? await manifestParts() : await imageParts();
  status.end();
  const report: ScaleReport = {
    startedAt,
    machine: thisMachine(),
    loadAverage: { before: loadBefore, after: os.loadavg()[0] ?? 0 },
    isManifestOnly,
    command: `npm run scale --${isManifestOnly ? ' --manifest-only' : ''} --images ${size.imageCount} --test-images ${size.testImageCount} --seed ${size.seed}`,
    size,
    parts: [...parts],
  };
  process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : asText(report));
  if (values.report) await writeReport(BENCHMARKS_PAGE, report);
} catch (error) {
  status.end();
  process.exitCode = stopped.signal.aborted ? 130 : 1;
  say(stopped.signal.aborted ? 'Stopped.' : error instanceof Error ? error.message : String(error));
} finally {
  if (isKept) say(`${folder} is left as it is.`);
  else {
    say(`Removing ${folder}.`);
    await rm(folder, { recursive: true, force: true });
  }
}

/** Shows the progress of one part or stage after another, each on its own line. */
function createProgress(): (name: string, fraction: number, text: string) => void {
  let current = '';
  return (name, fraction, text) => {
    if (name !== current) status.end();
    current = name;
    status.show(`${name} ${progressBar(fraction)} ${String(Math.round(fraction * 100)).padStart(3)} %  ${text}`);
  };
}

async function imageParts(): Promise<readonly MeasuredPart[]> {
  const result = await runScale({ folder, size, stages, signal: stopped.signal, onProgress: createProgress() });
  if (result.earlier.length > 0) say(`Finished before: ${result.earlier.join(', ')}.`);
  return STAGES.flatMap((stage) => result.stages[stage]?.parts ?? []);
}

async function manifestParts(): Promise<readonly MeasuredPart[]> {
  const progress = createProgress();
  const onProgress = (part: string, fraction: number): void => progress(part, fraction, '');
  return runManifestParts({ folder, size, signal: stopped.signal, onProgress });
}
