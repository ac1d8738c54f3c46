/**
 * `npm run experiment:paper-mini`: the paper's questions on a few thousand patches, answered through a real server, its
 * GraphQL API and a worker.
 *
 *   npm run experiment:paper-mini                   within 90 minutes on two cores
 *   npm run experiment:paper-mini -- --quick        within 10 minutes: the same with short trainings
 *   npm run experiment:paper-mini -- --methods      the pretraining methods instead, each on all images
 *   npm run experiment:paper-mini -- --data DIR --out DIR --minutes 30
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { z } from 'zod';
import { startApp } from '../../src/app.ts';
import { connectToRegistry, type RegistryClient } from '../../src/cli/demo/client.ts';
import {
  ensureDataset,
  followRun,
  importedVersion,
  launchImport,
  launchPretraining,
  pretrainedRun,
} from '../../src/cli/demo/steps.ts';
import { installEngine } from '../../src/cli/engine.ts';
import { readEnvironment } from '../../src/env.ts';
import { createLogger } from '../../src/logger.ts';
import { onStopSignal } from '../../src/platform/stop-signal.ts';
import { experimentParts } from './images.ts';
import { armsOf, methodArmsOf, planWithin, type Arm, type Plan, type Question } from './plan.ts';
import { compareEvaluations, evaluationOfRun, launchEvaluation } from './registry.ts';
import { PAGES, PROTOCOLS, reportOf, type Measured } from './report.ts';

const PROJECT_ROOT = path.resolve(import.meta.dirname, '../..');
const HELP = `Usage: npm run experiment:paper-mini -- [options]

Asks the paper's questions on a few thousand patches, in a separate registry that is removed at the end, and writes
tables, curves and a conclusion.

  --data DIR       the images (default: ../shared/data/histology-mini)
  --out DIR        where the report goes (default: docs/experiments)
  --minutes N      its time limit (default: 90, with --quick 10)
  --quick          short trainings: shows that the machinery works, and hardly any learning
  --methods        compares the pretraining methods on all images, instead of the images by one method
  --help

Examples:
  npm run experiment:paper-mini
  npm run experiment:paper-mini -- --quick --out /tmp/report
  npm run experiment:paper-mini -- --methods --minutes 120
`;
const { values } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    data: { type: 'string', default: path.resolve(PROJECT_ROOT, '../shared/data/histology-mini') },
    out: { type: 'string', default: path.join(PROJECT_ROOT, 'docs/experiments') },
    quick: { type: 'boolean', default: false },
    methods: { type: 'boolean', default: false },
    minutes: { type: 'string' },
  },
});

if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
const MINUTES = z.coerce
  .number()
  .gt(0)
  .parse(values.minutes ?? (values.quick ? 10 : 90));
/**
 * `reserve`: time left for writing the report and for a machine that becomes slower meanwhile. `wantedSteps`: the steps
 * that each training must keep when another seed is added: three epochs.
 */
const TIMES = { seconds: 60 * MINUTES, reserveSeconds: 4 * MINUTES, wantedSteps: 80, stepsMax: 2000 };
const QUESTION: Question = values.methods ? 'methods' : 'data';
const TRAINING = {
  encoder: 'RESNET18',
  imageSizePx: 64,
  batchSize: 64,
  // null leaves the choice to the recipe.
  temperature: null,
  precision: null,
  probe: { enabled: false },
  sampling: 'PROPORTIONAL',
  checkpointEverySteps: 10_000_000,
} as const;
const PROBE_STEPS = 8;
const FOLDS = 4;
/** Seed of the folds and of the random baselines: the same for all, so that all differences are paired. */
const EVALUATION_SEED = 1;

const startedMs = performance.now();
const elapsedSeconds = (): number => (performance.now() - startedMs) / 1000;
const say = (text: string): void => void process.stdout.write(`${text}\n`);

interface Imported {
  readonly folder: string;
  readonly versionId: string;
  readonly imageCount: number;
  readonly isTest: boolean;
}

await installEngine();
const dataDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-paper-mini-'));
const env = {
  // Every folder of the server follows from this one, the artifacts that its worker reads among them.
  ...readEnvironment({ ...process.env, PARAFFIN_DATA_DIR: dataDir }),
  port: 0,
  logLevel: 'error',
  importRoots: [path.resolve(values.data), path.join(dataDir, 'imports')],
  withWorker: true,
};
const server = await startApp(env, createLogger('error', 'experiment'));
const stopped = onStopSignal(() => server.stop());
try {
  await run(connectToRegistry(server.url, (await readFile(path.join(dataDir, 'admin-key'), 'utf8')).trim()));
} catch (error) {
  // Requests to a server that is shutting down.
  if (!stopped.isStopping()) throw error;
  say('Stopped: nothing was written.');
  process.exitCode = 130;
} finally {
  await server.stop();
  stopped.dispose();
  await rm(dataDir, { recursive: true, force: true });
}

async function run(client: RegistryClient): Promise<void> {
  const parts = await experimentParts(path.resolve(values.data), path.join(dataDir, 'imports', 'labels'));
  const imported: Imported[] = [];
  for (const { folder, dataset } of parts) {
    const runId = await launchImport(client, await ensureDataset(client, dataset, false), dataset);
    await followRun(client, `import ${folder}`, runId);
    const version = await importedVersion(client, runId);
    imported.push({ folder, versionId: version.id, imageCount: version.imageCount, isTest: dataset.isTest });
  }
  const arms = QUESTION === 'methods' ? methodArmsOf(parts) : armsOf(parts);
  const tests = imported.filter(({ isTest }) => isTest);
  const measured: Measured[] = [];

  say(`${elapsedSeconds().toFixed(0)} s: measuring the pace.`);
  // Of the methods the last one is the slowest; the images do not change the pace.
  const speedTestArm = arms.at(-1);
  if (speedTestArm === undefined) throw new Error('There is nothing to train on.');
  const trialStartMs = performance.now();
  const speedTest = await train(client, speedTestArm, imported, PROBE_STEPS, 0);
  const trialSeconds = (performance.now() - trialStartMs) / 1000;
  const trainingOverheadSeconds = Math.max(
    1,
    trialSeconds - (PROBE_STEPS * TRAINING.batchSize) / speedTest.imagesPerSecond,
  );
  const evaluationTimes: number[] = [];
  for (const test of tests) {
    for (const protocol of PROTOCOLS) {
      const evaluationStartMs = performance.now();
      await evaluate(client, speedTest.checkpointId, test, protocol);
      evaluationTimes.push((performance.now() - evaluationStartMs) / 1000);
    }
  }
  // The mean is used, because the durations of the protocols differ greatly. These first evaluations also embed the
  // images by the random encoder and by colour statistics, which is included as a margin.
  const evaluationSeconds =
    evaluationTimes.reduce((sum, seconds) => sum + seconds, 0) / Math.max(1, evaluationTimes.length);
  const pace = { imagesPerSecond: speedTest.imagesPerSecond, trainingOverheadSeconds, evaluationSeconds };
  const evaluationsPerArm = tests.length * PROTOCOLS.length;
  // The random encoder is an arm without training steps, so its cost is only the overhead.
  const secondsLeft =
    TIMES.seconds -
    TIMES.reserveSeconds -
    elapsedSeconds() -
    (trainingOverheadSeconds + evaluationsPerArm * evaluationSeconds);
  const plan = planWithin(
    secondsLeft,
    arms.filter(({ isTrained }) => isTrained).length,
    evaluationsPerArm,
    TRAINING.batchSize,
    pace,
    TIMES.wantedSteps,
    TIMES.stepsMax,
  );
  say(
    `${elapsedSeconds().toFixed(0)} s: ${pace.imagesPerSecond.toFixed(1)} images/s, ${trainingOverheadSeconds.toFixed(1)} s around a training, ${evaluationSeconds.toFixed(1)} s for an evaluation: ${plan.steps} steps, ${plan.seedCount} seed(s).`,
  );

  let seedsDone = 0;
  let slowestSeedSeconds = 0;
  for (let seed = 1; seed <= plan.seedCount; seed += 1) {
    // If the machine has become slower since the pace was measured, whole seeds are left out so that the time is not
    // exceeded.
    if (seed > 1 && elapsedSeconds() + slowestSeedSeconds > TIMES.seconds - TIMES.reserveSeconds / 4) {
      say(`Seed ${seed} no longer fits in the time: ${seedsDone} of ${plan.seedCount} seeds.`);
      break;
    }
    const seedStartSeconds = elapsedSeconds();
    const randomEvaluations = new Map<string, string>();
    for (const arm of arms) {
      const armStartSeconds = elapsedSeconds();
      const { checkpointId } = await train(client, arm, imported, arm.isTrained ? plan.steps : 0, seed);
      const trainedSeconds = elapsedSeconds();
      for (const test of tests) {
        for (const protocol of PROTOCOLS) {
          const evaluation = await evaluate(client, checkpointId, test, protocol);
          const place = `${test.folder} ${protocol}`;
          const random = randomEvaluations.get(place);
          if (!arm.isTrained) randomEvaluations.set(place, evaluation.id);
          measured.push({
            arm: arm.name,
            seed,
            test: test.folder,
            protocol,
            evaluation,
            againstRandom: random === undefined ? null : await compareEvaluations(client, evaluation.id, random),
          });
        }
      }
      say(
        `${elapsedSeconds().toFixed(0)} s: seed ${seed}, ${arm.name}: trained in ${(trainedSeconds - armStartSeconds).toFixed(1)} s, evaluated in ${(elapsedSeconds() - trainedSeconds).toFixed(1)} s.`,
      );
    }
    seedsDone = seed;
    slowestSeedSeconds = Math.max(slowestSeedSeconds, elapsedSeconds() - seedStartSeconds);
  }
  await write(arms, tests, { ...plan, seedCount: seedsDone }, measured, imported, pace.imagesPerSecond);
}

async function train(
  client: RegistryClient,
  arm: Arm,
  imported: readonly Imported[],
  steps: number,
  seed: number,
): Promise<{ checkpointId: string; imagesPerSecond: number }> {
  const datasets = imported
    .filter(({ folder }) => arm.folders.includes(folder))
    .map(({ versionId, imageCount }) => ({
      datasetVersionId: versionId,
      ...(arm.imageShare === 1 ? {} : { maxImages: Math.max(1, Math.round(arm.imageShare * imageCount)) }),
    }));
  const modelSlug = `paper-mini-${arm.name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')}`;
  const { method, methodOptions } = arm;
  const input = { ...TRAINING, method, methodOptions, modelSlug, datasets, steps, seed };
  const runId = await launchPretraining(client, input);
  await followRun(client, `pretrain ${arm.name}`, runId);
  const run = await pretrainedRun(client, runId);
  const [checkpoint] = run.checkpoints;
  if (checkpoint === undefined) throw new Error(`${arm.name} made no checkpoint.`);
  // The first steps hold one-off costs of TensorFlow.
  const speeds = run.metrics.find(({ name }) => name === 'imagesPerSecond')?.points.map(({ value }) => value) ?? [];
  return { checkpointId: checkpoint.id, imagesPerSecond: speeds.at(-1) ?? 1 };
}

async function evaluate(
  client: RegistryClient,
  checkpointId: string,
  test: Imported,
  protocol: (typeof PROTOCOLS)[number],
) {
  const runId = await launchEvaluation(client, {
    checkpointId,
    datasetVersionId: test.versionId,
    protocol,
    folds: FOLDS,
    seed: EVALUATION_SEED,
    options: { bootstrapResamples: 500 },
  });
  await followRun(client, `${protocol} ${test.folder}`, runId);
  return evaluationOfRun(client, runId);
}

/** For the report: how to make it again. */
function argumentsGiven(): string {
  const given = [values.methods ? '--methods' : '', values.minutes === undefined ? '' : `--minutes ${MINUTES}`];
  const words = given.filter((word) => word !== '');
  return words.length === 0 ? '' : ` -- ${words.join(' ')}`;
}

async function write(
  arms: readonly Arm[],
  tests: readonly Imported[],
  plan: Plan,
  measured: readonly Measured[],
  imported: readonly Imported[],
  imagesPerSecond: number,
): Promise<void> {
  const imageCount = imported.reduce((sum, each) => sum + each.imageCount, 0);
  const minutes = (elapsedSeconds() / 60).toFixed(1);
  const setting = [
    values.quick
      ? `**This is the \`--quick\` setting: it shows that the machinery works, and hardly any learning.** The full one takes 90 minutes: \`npm run experiment:paper-mini${values.methods ? ' -- --methods' : ''}\`. It has not been run for this page.`
      : `Within ${MINUTES} minutes: \`npm run experiment:paper-mini${argumentsGiven()}\`.`,
    '',
    `ResNet-18 pretrained ${QUESTION === 'methods' ? 'by each method' : 'by SimCLR'} at ${TRAINING.imageSizePx} px, batch ${TRAINING.batchSize}, ${plan.steps} steps in every arm, the default recipe, ${plan.seedCount} ${plan.seedCount === 1 ? 'seed (1)' : `seeds (1 to ${plan.seedCount})`}, on ${imageCount} images and`,
    `patches of ${imported.length} datasets of histology-mini; tested on frozen embeddings of ${tests.map(({ folder, imageCount: count }) => `${folder} (${count})`).join(' and ')}, ${FOLDS} folds by group.`,
    `${minutes} minutes (of ${MINUTES} allowed) on ${os.availableParallelism()} cores of ${os.cpus()[0]?.model ?? 'an unknown processor'}, ${imagesPerSecond.toFixed(0)} images/s${QUESTION === 'methods' ? ' by the slowest method' : ''} measured before the plan was made, under a load of ${(os.loadavg()[0] ?? 0).toFixed(1)} (a load above the number of cores means that other work shared the machine).`,
  ];
  const { markdown, pictures } = reportOf({
    question: QUESTION,
    arms,
    tests: tests.map(({ folder }) => folder),
    plan,
    measured,
    setting,
  });
  const page = PAGES[QUESTION];
  const picturesDir = path.join(values.out, page);
  await mkdir(picturesDir, { recursive: true });
  await writeFile(path.join(values.out, `${page}.md`), markdown);
  for (const [name, svg] of Object.entries(pictures)) {
    await writeFile(path.join(picturesDir, name), svg);
    await sharp(Buffer.from(svg), { density: 144 })
      .png()
      .toFile(path.join(picturesDir, name.replace('.svg', '.png')));
  }
  say(`\n${markdown}`);
}
