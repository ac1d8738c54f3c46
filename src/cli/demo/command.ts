/** `paraffin demo`: the main workflow from beginning to end on this machine, through the API like a lab tool. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { childEnvironment, readEnvironment, type Environment } from '../../env.ts';
import { createLogger } from '../../logger.ts';
import { startApp } from '../../app.ts';
import { installEngine } from '../engine.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { onStopSignal } from '../../platform/stop-signal.ts';
import { formatGroups, table } from '../terminal.ts';
import { connectToRegistry, type RegistryClient } from './client.ts';
import { chooseImages, type DemoImages } from './images.ts';
import {
  datasetCount,
  ensureDataset,
  evaluationOf,
  followRun,
  importedVersion,
  launchEvaluation,
  launchImport,
  launchPretraining,
  pretrainedRun,
  type EvaluationAnswer,
  type ImportedVersion,
  type PretrainedRun,
} from './steps.ts';

/** Seed of the random encoder that is registered as a model of its own. */
const RANDOM_SEED = 2;

/** Small enough for two cores and five minutes; the README says what a real pretraining takes. */
const DEMO_TRAINING = {
  encoder: 'RESNET18',
  imageSizePx: 64,
  batchSize: 64,
  // null leaves the choice to the recipe.
  temperature: null,
  // Each image is seen equally often, although the sets differ in size by a factor of ten.
  sampling: 'PROPORTIONAL',
  seed: 1,
  checkpointEverySteps: 50,
};

export interface DemoOptions {
  /** Images: one subfolder for each label. */
  readonly data?: string | undefined;
  /** Number of pretraining steps. */
  readonly steps: number;
}

/** Runs the whole workflow once; stops everything that it started. */
export async function demo({ data, steps }: DemoOptions): Promise<ExitCode> {
  const startedMs = performance.now();
  const env = readEnvironment();
  await mkdir(env.dataDir, { recursive: true });

  say('1. The engine');
  await installEngine();
  const images = await chooseImages(env.dataDir, data);
  say(
    images.synthetic
      ? '   Images: SYNTHETIC, drawn by Paraffin (no real images were found).'
      : `   Images: ${images.source}`,
  );

  say('2. PostgreSQL, catalogue, server, worker');
  const server = await startApp(
    { ...env, port: 0, logLevel: demoLogLevel(env), importRoots: [...env.importRoots, ...images.importRoots] },
    createLogger(demoLogLevel(env), 'demo'),
  );
  const stopped = onStopSignal(() => server.stop());
  try {
    const key = (await readFile(path.join(env.dataDir, 'admin-key'), 'utf8')).trim();
    await runSteps({ client: connectToRegistry(server.url, key), server, env, images, steps, startedMs });
    return stopped.isStopping() ? EXIT.INTERRUPTED : EXIT.DONE;
  } catch (error) {
    // Ctrl-C closes our connections: the resulting errors belong to the requested stop.
    if (stopped.isStopping()) return EXIT.INTERRUPTED;
    throw error;
  } finally {
    await server.stop();
    stopped.dispose();
  }
}

interface DemoRun {
  readonly client: RegistryClient;
  readonly server: { readonly url: string };
  readonly env: Environment;
  readonly images: DemoImages;
  readonly steps: number;
  readonly startedMs: number;
}

async function runSteps({ client, server, env, images, steps, startedMs }: DemoRun): Promise<void> {
  const count = await datasetCount(client);
  say(`   ${server.url}/graphql serves ${count} datasets.`);

  say('3. Import');
  const versions: { version: ImportedVersion; isTest: boolean; name: string }[] = [];
  for (const dataset of images.datasets) {
    const datasetId = await ensureDataset(client, dataset, images.synthetic);
    const runId = await launchImport(client, datasetId, dataset);
    await followRun(client, `   ${dataset.name}`, runId);
    const version = await importedVersion(client, runId);
    const issues = version.issues
      .map((issue) => `${issue.kind} ${issue.count}${issue.kept ? ' (kept)' : ''}`)
      .join(', ');
    say(
      `   ${version.imageCount} images, ${version.labelCounts.length} labels, ${formatGroups(version)}; ${issues === '' ? 'no problems' : issues}`,
    );
    versions.push({ version, isTest: dataset.isTest, name: dataset.name });
  }
  const tests = versions.filter((candidate) => candidate.isTest);
  const [test] = tests;
  if (test === undefined) throw new Error('No dataset to evaluate on.');
  const importedImages = versions.reduce((sum, { version }) => sum + version.imageCount, 0);

  say('4. Pretrain by SimCLR');
  const training = {
    ...DEMO_TRAINING,
    batchSize: Math.min(DEMO_TRAINING.batchSize, importedImages),
    datasets: versions.map(({ version }) => ({ datasetVersionId: version.id })),
  };
  const pretrainingRunId = await launchPretraining(client, {
    ...training,
    steps,
    modelSlug: 'demo',
    probe: { datasetVersionId: test.version.id },
  });
  await followRun(client, '   SimCLR', pretrainingRunId);
  const pretrained = await pretrainedRun(client, pretrainingRunId);
  const [checkpoint] = pretrained.checkpoints;
  if (checkpoint === undefined) throw new Error('The run registered no checkpoint.');
  for (const sentence of pretrained.explanation) say(`   ${sentence}`);
  if (checkpoint.probe !== null) say(`   Probe: ${checkpoint.probe.sentence}`);
  const randomRunId = await launchPretraining(client, {
    ...training,
    modelSlug: 'demo-random',
    steps: 0,
    seed: RANDOM_SEED,
  });
  await followRun(client, '   Random encoder', randomRunId);
  const [randomCheckpoint] = (await pretrainedRun(client, randomRunId)).checkpoints;
  if (randomCheckpoint === undefined) throw new Error('The run registered no random encoder.');

  say('5. Evaluate by linear probe, 5 folds by group');
  const evaluations: { encoder: 'pretrained' | 'random'; answer: EvaluationAnswer }[] = [];
  for (const [encoder, id] of [
    ['pretrained', checkpoint.id],
    ['random', randomCheckpoint.id],
  ] as const) {
    const runId = await launchEvaluation(client, id, test.version.id);
    await followRun(client, `   ${encoder}`, runId);
    evaluations.push({ encoder, answer: await evaluationOf(client, runId) });
  }
  const againstRandom: AgainstRandom[] = [];
  for (const { name, version } of tests) {
    if (version.id === test.version.id && evaluations[0] !== undefined) {
      againstRandom.push(againstRandomOf(name, evaluations[0].answer));
      continue;
    }
    const runId = await launchEvaluation(client, checkpoint.id, version.id);
    await followRun(client, `   pretrained on ${name}`, runId);
    againstRandom.push(againstRandomOf(name, await evaluationOf(client, runId)));
  }

  say('6. Download and verify');
  const download = await downloadAndVerify(client, env.dataDir, checkpoint);
  say(
    `   ${(download.bytes / 1e6).toFixed(1)} MB, sha256 ${download.sha256.slice(0, 16)}… ${download.verified ? 'as registered; loaded again, its embeddings are equal' : 'DIFFERS'}`,
  );

  const loss = seriesOf(pretrained, 'loss');
  const speed = seriesOf(pretrained, 'imagesPerSecond');
  const summary = {
    datasetCount: count,
    importedImages,
    synthetic: images.synthetic,
    pretraining: {
      runId: pretrainingRunId,
      encoder: checkpoint.encoder,
      steps,
      firstLoss: loss.at(0) ?? null,
      lastLoss: loss.at(-1) ?? null,
      imagesPerSecond: median(speed),
    },
    checkpointId: checkpoint.id,
    download,
    evaluations: evaluations.map(({ encoder, answer }) => ({
      encoder,
      protocol: answer.protocol,
      ...macroF1Of(answer.metrics),
    })),
    againstRandom,
    seconds: Math.round((performance.now() - startedMs) / 100) / 10,
  };
  const summaryPath = path.join(env.dataDir, 'summary.json');
  await writeWhole(summaryPath, `${JSON.stringify(summary, null, 2)}\n`);
  printResults(summary, evaluations, test.name, images.synthetic);
  say(`\nWritten to ${path.relative(process.cwd(), summaryPath)}. Run "npm start" to open this registry.`);
  if (!download.verified) throw new Error('The downloaded checkpoint differs from the registered one.');
}

type Checkpoint = PretrainedRun['checkpoints'][number];

async function downloadAndVerify(
  client: RegistryClient,
  dataDir: string,
  checkpoint: Checkpoint,
): Promise<{ bytes: number; sha256: string; verified: boolean }> {
  const bytes = await client.download(checkpoint.downloadUrl);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const file = path.join(dataDir, 'demo-checkpoint.safetensors');
  await writeWhole(file, bytes);
  const program = path.resolve(import.meta.dirname, '../../../workers/verify-weights.ts');
  const child = spawn(
    process.execPath,
    [program, file, checkpoint.encoder, String(checkpoint.inputContract.imageSizePx)],
    {
      env: childEnvironment({ TF_CPP_MIN_LOG_LEVEL: '2' }),
      stdio: ['pipe', 'pipe', 'ignore'],
    },
  );
  child.stdin.end(JSON.stringify(checkpoint.golden));
  const { maxRelativeDifference } = z
    .object({ maxRelativeDifference: z.number() })
    .parse(JSON.parse(await text(child.stdout)));
  // The same weights on the same machine: anything beyond rounding is a different file.
  return { bytes: bytes.length, sha256, verified: sha256 === checkpoint.sha256 && maxRelativeDifference < 1e-5 };
}

/** Renames the complete file into place, so that a killed demo leaves no partial file under the final name. */
async function writeWhole(file: string, content: string | Uint8Array): Promise<void> {
  await writeFile(`${file}.new`, content);
  await rename(`${file}.new`, file);
}

function seriesOf(run: PretrainedRun, name: string): number[] {
  return run.metrics.find((series) => series.name === name)?.points.map((point) => point.value) ?? [];
}

function median(values: readonly number[]): number | null {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? null;
}

type Metrics = EvaluationAnswer['metrics'];

function macroF1Of(metrics: Metrics): { macroF1: number; ci95Low: number | null; ci95High: number | null } {
  const metric = metrics.find((candidate) => candidate.name === 'macroF1');
  if (metric === undefined) throw new Error('The evaluation has no macroF1.');
  return { macroF1: metric.value, ci95Low: metric.ci95Low, ci95High: metric.ci95High };
}

/** The pretrained encoder minus a random one in macro-F1, over the same folds, with the paired 95 % interval. */
interface AgainstRandom {
  readonly dataset: string;
  readonly difference: number;
  readonly ci95Low: number | null;
  readonly ci95High: number | null;
  /** Null if the patients or slides of all images are known. */
  readonly intervalCaveat: string | null;
  readonly verdict: 'BETTER' | 'WORSE' | 'NOT_DISTINGUISHABLE';
}

function againstRandomOf(dataset: string, { baselines, intervalCaveat }: EvaluationAnswer): AgainstRandom {
  const difference = baselines
    .find(({ kind }) => kind === 'RANDOM_ENCODER')
    ?.differences.find(({ name }) => name === 'macroF1');
  if (difference === undefined) throw new Error('The evaluation has no random encoder to compare with.');
  const { value, ci95Low, ci95High } = difference;
  const verdict =
    ci95Low !== null && ci95Low > 0 ? 'BETTER' : ci95High !== null && ci95High < 0 ? 'WORSE' : 'NOT_DISTINGUISHABLE';
  return { dataset, difference: value, ci95Low, ci95High, intervalCaveat, verdict };
}

const VERDICT_WORDS = {
  BETTER: 'better than a random encoder',
  WORSE: 'worse than a random encoder',
  NOT_DISTINGUISHABLE: 'not distinguishable from a random encoder',
} as const;

function printAgainstRandom(sets: readonly AgainstRandom[], synthetic: boolean): void {
  const signed = (value: number | null): string =>
    value === null ? '?' : `${value < 0 ? '' : '+'}${value.toFixed(3)}`;
  const rows = sets.map(({ dataset, difference, ci95Low, ci95High, verdict }) => [
    dataset,
    signed(difference),
    `${signed(ci95Low)} .. ${signed(ci95High)}`,
    VERDICT_WORDS[verdict],
  ]);
  say('\nPretrained minus random encoder, macro-F1, paired over the same folds\n');
  say(table(['dataset', 'difference', '95 % interval', 'verdict'], rows));
  for (const { dataset, intervalCaveat } of sets) if (intervalCaveat !== null) say(`${dataset}: ${intervalCaveat}`);
  const better = sets.filter(({ verdict }) => verdict === 'BETTER').length;
  say(
    `\nThe pretrained encoder beats a random one (95 % interval) on ${better} of ${sets.length} labelled ${sets.length === 1 ? 'set' : 'sets'}${synthetic ? ' (SYNTHETIC images)' : ''}.`,
  );
}

interface PrintedSummary {
  readonly datasetCount: number;
  readonly importedImages: number;
  readonly pretraining: {
    readonly steps: number;
    readonly firstLoss: number | null;
    readonly lastLoss: number | null;
    readonly imagesPerSecond: number | null;
  };
  readonly againstRandom: readonly AgainstRandom[];
  readonly seconds: number;
}

function printResults(
  summary: PrintedSummary,
  evaluations: readonly { encoder: string; answer: EvaluationAnswer }[],
  testName: string,
  synthetic: boolean,
): void {
  const row = (name: string, metrics: Metrics): string[] => {
    const { macroF1, ci95Low, ci95High } = macroF1Of(metrics);
    const other = (wanted: string): string => metrics.find((metric) => metric.name === wanted)?.value.toFixed(3) ?? '';
    return [
      name,
      macroF1.toFixed(3),
      `${ci95Low?.toFixed(3) ?? ''} .. ${ci95High?.toFixed(3) ?? ''}`,
      other('balancedAccuracy'),
      other('macroAuroc'),
    ];
  };
  const baselineRow = (name: string, kind: string): string[][] => {
    const baseline = evaluations[0]?.answer.baselines.find((candidate) => candidate.kind === kind);
    return baseline === undefined ? [] : [row(name, baseline.metrics)];
  };
  const rows = [
    ...evaluations.map(({ encoder, answer }) =>
      row(encoder === 'random' ? `random encoder, seed ${RANDOM_SEED}` : 'pretrained', answer.metrics),
    ),
    // The baseline of the evaluation has its own seed: the paired differences below refer to it.
    ...baselineRow('random encoder, as compared below', 'RANDOM_ENCODER'),
    ...baselineRow('colour statistics', 'COLOUR_STATISTICS'),
  ];
  const { pretraining } = summary;
  say(`\nLinear probe on ${testName}${synthetic ? ' (SYNTHETIC images)' : ''}\n`);
  say(table(['encoder', 'macroF1', '95 % interval', 'balancedAccuracy', 'macroAuroc'], rows));
  printAgainstRandom(summary.againstRandom, synthetic);
  say(
    `\n${summary.datasetCount} datasets in the catalogue, ${summary.importedImages} images imported${synthetic ? ' (SYNTHETIC)' : ''}; ` +
      `${pretraining.steps} steps, loss ${pretraining.firstLoss?.toFixed(3) ?? '?'} -> ${pretraining.lastLoss?.toFixed(3) ?? '?'}, ${pretraining.imagesPerSecond?.toFixed(1) ?? '?'} images/s; ${summary.seconds.toFixed(0)} s in all.`,
  );
}

/** The demo's own output replaces the log, unless the user sets a log level. */
function demoLogLevel(env: Environment): string {
  return env.logLevel === 'info' ? 'warn' : env.logLevel;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
