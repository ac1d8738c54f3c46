/**
 * Measures whether the default settings reach their targets, through the product itself: a separate server, an import,
 * a pretraining with a time budget and no other setting, and evaluations with a random encoder and colour statistics as
 * baselines.
 */
import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { parse } from 'csv-parse';
import { z } from 'zod';
import { startApp } from '../../src/app.ts';
import { connectToRegistry, type RegistryClient } from '../../src/cli/demo/client.ts';
import type { DemoDataset } from '../../src/cli/demo/images.ts';
import {
  ensureDataset,
  followRun,
  importedVersion,
  launchImport,
  launchPretraining,
  pretrainedRun,
} from '../../src/cli/demo/steps.ts';
import { readEnvironment } from '../../src/env.ts';
import { createLogger } from '../../src/logger.ts';
import { experimentParts } from '../paper-mini/images.ts';
import { launchEvaluation } from '../paper-mini/registry.ts';
import { DATA_NAMES, type DataName } from './images.ts';

const metricsSchema = z.array(
  z.object({ name: z.string(), value: z.number(), ci95Low: z.number(), ci95High: z.number() }),
);
const estimateSchema = z.object({ value: z.number(), ci95Low: z.number(), ci95High: z.number() });
export type BarEstimate = z.infer<typeof estimateSchema>;

const measuredSchema = z.object({
  data: z.enum(DATA_NAMES),
  seed: z.int(),
  minutes: z.number(),
  steps: z.int(),
  imageSizePx: z.int(),
  imagesPerSecond: z.number(),
  /** By probe set: macro-F1, and its paired differences to the random encoder and to colour statistics. */
  tests: z.record(
    z.string(),
    z.object({ macroF1: estimateSchema, againstRandom: estimateSchema, againstColour: estimateSchema }),
  ),
});
export type MeasuredBar = z.infer<typeof measuredSchema>;

/** How long the defaults may train on each set to reach its target. */
export const BAR_MINUTES: Readonly<Record<DataName, number>> = { 'pcam-mini': 60, 'histology-mini': 10 };
/** Evaluations share their folds, so that all are paired. */
const EVALUATION_SEED = 1;
const FOLDS = 4;

export async function readBars(file: string): Promise<MeasuredBar[]> {
  const content = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '[]';
    throw error;
  });
  return z.array(measuredSchema).parse(JSON.parse(content));
}

export async function writeBars(file: string, bars: readonly MeasuredBar[]): Promise<void> {
  await writeFile(`${file}.part`, `${JSON.stringify(bars, null, 2)}\n`);
  await rename(`${file}.part`, file);
}

interface Stage {
  readonly client: RegistryClient;
  readonly unlabelled: readonly string[];
  readonly tests: readonly { readonly name: string; readonly versionId: string }[];
}

/** Measures one seed on one set in a registry that is deleted. */
export async function measureBar(
  { data, seed, minutes }: { data: DataName; seed: number; minutes: number },
  sharedDir: string,
  workDir: string,
  signal: AbortSignal,
): Promise<MeasuredBar> {
  const dataDir = path.join(workDir, `registry-${data}-${seed}`);
  const imports = path.join(dataDir, 'imports');
  await mkdir(imports, { recursive: true });
  const env = {
    // Every folder of the server follows from this one, the artifacts that its worker reads among them.
    ...readEnvironment({ ...process.env, PARAFFIN_DATA_DIR: dataDir }),
    port: 0,
    logLevel: 'error',
    importRoots: [path.resolve(sharedDir), imports],
    withWorker: true,
  };
  const server = await startApp(env, createLogger('error', 'experiment'));
  const stop = (): void => void server.stop();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const key = (await readFile(path.join(dataDir, 'admin-key'), 'utf8')).trim();
    const client = connectToRegistry(server.url, key);
    const source = path.join(path.resolve(sharedDir), data);
    const stage =
      data === 'pcam-mini' ? await stagePcam(client, source, imports) : await stageHistology(client, source, imports);
    return { data, seed, minutes, ...(await trainAndTest(stage, data, seed, minutes)) };
  } finally {
    signal.removeEventListener('abort', stop);
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function trainAndTest({ client, unlabelled, tests }: Stage, data: DataName, seed: number, minutes: number) {
  const runId = await launchPretraining(client, {
    modelSlug: `bar-${data}`,
    datasets: unlabelled.map((datasetVersionId) => ({ datasetVersionId })),
    sampling: 'PROPORTIONAL',
    budget: `${Math.round(60 * minutes)}s`,
    // Sent as by the command line: null leaves the choice to the recipe.
    imageSizePx: null,
    batchSize: null,
    temperature: null,
    precision: null,
    seed,
  });
  await followRun(client, `pretrain on ${data} for ${minutes} minutes, seed ${seed}`, runId);
  const run = await pretrainedRun(client, runId);
  const checkpoint = run.checkpoints[0];
  if (checkpoint === undefined) throw new Error('The pretraining registered no checkpoint.');
  const facts = await client.request(
    z.object({
      run: z.object({
        checkpoints: z.array(z.object({ step: z.int(), inputContract: z.object({ imageSizePx: z.int() }) })),
      }),
    }),
    'query ($id: ID!) { run(id: $id) { checkpoints { step inputContract { imageSizePx } } } }',
    { id: runId },
  );
  const speeds = run.metrics.find(({ name }) => name === 'imagesPerSecond')?.points.map(({ value }) => value) ?? [];
  const measured: Record<string, z.infer<typeof measuredSchema>['tests'][string]> = {};
  for (const { name, versionId } of tests) measured[name] = await evaluate(client, checkpoint.id, versionId, name);
  return {
    steps: facts.run.checkpoints[0]?.step ?? 0,
    imageSizePx: facts.run.checkpoints[0]?.inputContract.imageSizePx ?? 0,
    imagesPerSecond: Math.round(speeds.at(-1) ?? 0),
    tests: measured,
  };
}

const evaluationSchema = z.object({
  run: z.object({
    evaluation: z.object({
      metrics: metricsSchema,
      baselines: z.array(z.object({ kind: z.string(), differences: metricsSchema })),
    }),
  }),
});

async function evaluate(client: RegistryClient, checkpointId: string, datasetVersionId: string, name: string) {
  const runId = await launchEvaluation(client, {
    checkpointId,
    datasetVersionId,
    protocol: 'LINEAR_PROBE',
    folds: FOLDS,
    seed: EVALUATION_SEED,
  });
  await followRun(client, `linear probe on ${name}`, runId);
  const { evaluation } = (
    await client.request(
      evaluationSchema,
      `query ($id: ID!) { run(id: $id) { evaluation {
        metrics { name value ci95Low ci95High } baselines { kind differences { name value ci95Low ci95High } }
      } } }`,
      { id: runId },
    )
  ).run;
  const macroF1 = (metrics: z.infer<typeof metricsSchema>): BarEstimate =>
    estimateSchema.parse(metrics.find((metric) => metric.name === 'macroF1'));
  const against = (kind: string): BarEstimate =>
    macroF1(evaluation.baselines.find((baseline) => baseline.kind === kind)?.differences ?? []);
  return {
    macroF1: macroF1(evaluation.metrics),
    againstRandom: against('RANDOM_ENCODER'),
    againstColour: against('COLOUR_STATISTICS'),
  };
}

const pcamRow = z.object({ path: z.string(), label: z.string(), split: z.string() });

/** Pretraining uses the training part without labels; evaluation uses the training and test parts with labels. */
async function stagePcam(client: RegistryClient, source: string, imports: string): Promise<Stage> {
  const rows: z.infer<typeof pcamRow>[] = [];
  for await (const row of createReadStream(path.join(source, 'labels.csv')).pipe(parse({ columns: true, bom: true })))
    rows.push(pcamRow.parse(row));
  const unlabelledDir = path.join(imports, 'pcam-unlabelled');
  await cp(path.join(source, 'train'), path.join(unlabelledDir, 'train'), { recursive: true });
  const labelsCsvPath = path.join(imports, 'pcam.csv');
  const lines = rows
    .filter(({ split }) => split !== 'validation')
    .map((row) => `${row.path},${row.label},${row.split}`);
  await writeFile(labelsCsvPath, `path,label,split\n${lines.join('\n')}\n`);
  const unlabelled = await imported(client, {
    slug: 'pcam-mini-unlabelled',
    name: 'pcam-mini, training part without labels',
    path: unlabelledDir,
    layout: 'FLAT',
    labelsCsvPath: null,
    patchSizePx: null,
    isTest: false,
  });
  const labelled = await imported(client, {
    slug: 'pcam-mini-labelled',
    name: 'pcam-mini, training and test part',
    path: source,
    layout: 'CSV',
    labelsCsvPath,
    patchSizePx: null,
    isTest: true,
  });
  return { client, unlabelled: [unlabelled], tests: [{ name: 'pcam-mini test', versionId: labelled }] };
}

const HISTOLOGY_TESTS = ['osteosarcoma_ut', 'kather2016_texture', 'lc25000_lung'];

async function stageHistology(client: RegistryClient, source: string, imports: string): Promise<Stage> {
  const unlabelled: string[] = [];
  const tests: { name: string; versionId: string }[] = [];
  for (const { folder, dataset } of await experimentParts(source, path.join(imports, 'labels'))) {
    const versionId = await imported(client, dataset);
    unlabelled.push(versionId);
    if (HISTOLOGY_TESTS.includes(folder)) tests.push({ name: folder, versionId });
  }
  return { client, unlabelled, tests };
}

async function imported(client: RegistryClient, dataset: DemoDataset): Promise<string> {
  const runId = await launchImport(client, await ensureDataset(client, dataset, false), dataset);
  await followRun(client, `import ${dataset.name}`, runId);
  return (await importedVersion(client, runId)).id;
}
