/**
 * Runs in a real worker process: the real agent, real children, the real engine, and what happens when they are killed.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { childEnvironment } from '../../src/env.ts';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import { MAX_FRUITLESS_ATTEMPTS, type RunRecord } from '../../src/modules/runs/index.ts';
import { checkArtifacts } from '../../src/modules/artifacts/index.ts';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { writeBackup } from '../../src/platform/backup.ts';
import { openDatabase } from '../../src/platform/db.ts';
import { startPostgres } from '../../src/platform/postgres.ts';
import { artifactPlaceOf, artifactVariables } from '../support/artifact-place.ts';
import { rawFilesOf } from '../support/artifact-stage.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import {
  childrenOf,
  familyOf,
  isAlive,
  processGroupOf,
  startTestWorker,
  type TestWorker,
} from '../support/processes.ts';
import { ADMIN, openTestRegistry, type TestRegistry } from '../support/registry.ts';
import type { RunStatus } from '../../src/protocol/runs.ts';

const STEPS = 36;
const KEEP_EVERY = 6;
/** Allows for two busy cores, for loading TensorFlow, and for 90 MB that are written each time a state is saved. */
const RUN_DEADLINE_MS = 240_000;

let base = '';
let dataDir = '';
let database: TestDatabase;
let registry: TestRegistry;
let worker: TestWorker;
let workerCount = 0;
let datasetId = '';
let versionId = '';
let uninterrupted: Outcome;

interface Outcome {
  readonly losses: readonly number[];
  /** sha256 over every tensor of the registered encoder. */
  readonly weightsSha256: string;
}

before(async () => {
  base = await realpath(await mkdtemp(path.join(tmpdir(), 'paraffin-agent-')));
  dataDir = path.join(base, 'data');
  await mkdir(dataDir);
  await drawTissue({ outDir: path.join(base, 'images'), imagesPerLabel: 8, imageSizePx: 48, seed: 3, groups: 4 });
  database = await openTestDatabase();
  registry = await openTestRegistry(database, [base]);
  datasetId = (
    await database.db.dataset.create({
      data: { slug: 'agent-test', name: 'Agent test', imageKind: 'PATCH', synthetic: true },
    })
  ).id;
  await nextWorker();
});
after(async () => {
  worker.signal('SIGKILL');
  await worker.gone;
  await registry.close();
  await database.close();
  await rm(base, { recursive: true, force: true });
});

async function nextWorker(): Promise<void> {
  workerCount += 1;
  worker = await startTestWorker({ databaseUrl: database.url, dataDir, name: `test-${workerCount}` });
}

async function runOf(id: string): Promise<RunRecord> {
  const run = await registry.runs.get(ADMIN, id);
  assert.ok(run !== undefined);
  return run;
}

async function reaches(id: string, status: RunStatus, deadlineMs = RUN_DEADLINE_MS): Promise<RunRecord> {
  return eventually(
    `run ${id} to be ${status}`,
    async () => {
      const run = await runOf(id);
      if (run.status === status) return run;
      assert.ok(
        !['SUCCEEDED', 'FAILED', 'CANCELED'].includes(run.status),
        `The run is ${run.status}: ${JSON.stringify(run.failure)}`,
      );
      return undefined;
    },
    deadlineMs,
  );
}

async function launchPretraining(changes: object = {}): Promise<RunRecord> {
  return registry.runs.launchPretraining(ADMIN, {
    modelSlug: 'agent-test',
    datasets: [{ datasetVersionId: versionId }],
    encoder: 'RESNET18',
    imageSizePx: 32,
    batchSize: 4,
    steps: STEPS,
    temperature: 0.5,
    sampling: 'EVEN',
    precision: 'FLOAT32',
    checkpointEverySteps: KEEP_EVERY,
    // Without a probe, whose events and states would disturb the counts of these tests; pretrain-probe.test.ts covers
    // it.
    probe: { enabled: false },
    seed: 7,
    ...changes,
  });
}

async function stepsKept(runId: string): Promise<number[]> {
  return (await database.db.trainingState.findMany({ where: { runId }, orderBy: { step: 'asc' } })).map(
    (state) => state.step,
  );
}

/**
 * Resolves when the training has saved a state of a later step, and is therefore busy with the next steps. Earlier
 * states may be deleted meanwhile.
 */
async function untilStateAfter(runId: string, step: number): Promise<number> {
  return eventually(
    `a training state after step ${step}`,
    async () => {
      const latest = (await stepsKept(runId)).at(-1) ?? 0;
      return latest > step ? latest : undefined;
    },
    RUN_DEADLINE_MS,
  );
}

async function busyChild(): Promise<number> {
  return eventually('a child', async () => (await childrenOf(worker.pid)).at(0));
}

async function outcomeOf(runId: string): Promise<Outcome> {
  const [series] = await registry.runs.metrics(ADMIN, runId, ['loss']);
  const checkpoints = await database.db.checkpoint.findMany({ where: { sourceRunId: runId } });
  assert.equal(checkpoints.length, 1, 'exactly one checkpoint');
  const bytes = await openArtifactStore(artifactPlaceOf(dataDir)).read(checkpoints[0]?.sha256 ?? '');
  const hash = createHash('sha256');
  for (const { name, data } of readSafetensors(bytes).tensors)
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return { losses: (series?.points ?? []).map((point) => point.value), weightsSha256: hash.digest('hex') };
}

async function allKindsOf(runId: string): Promise<string[]> {
  return (await registry.runs.eventsAfter(ADMIN, runId, 0)).map((event) => event.kind);
}

async function kindsOf(runId: string): Promise<string[]> {
  const events = await registry.runs.eventsAfter(ADMIN, runId, 0);
  assert.deepEqual(
    events.map((event) => event.sequence),
    events.map((_, index) => index + 1),
  );
  return events.map((event) => event.kind).filter((kind) => kind !== 'METRICS' && kind !== 'PROGRESS');
}

test('an import seals a version, and leaves no temporary file', async () => {
  const run = await registry.runs.launchImport(ADMIN, {
    datasetId,
    path: path.join(base, 'images'),
    layout: 'FOLDER_PER_LABEL',
  });
  await reaches(run.id, 'SUCCEEDED');
  const version = await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: run.id } });
  assert.deepEqual([version.status, version.imageCount], ['SEALED', 32]);
  versionId = version.id;
  await noTemporaryFiles();
});

/** A run ends slightly before its process and its folder disappear. */
async function noTemporaryFiles(): Promise<void> {
  await eventually('temporary files to be gone', async () => {
    const unfinished = (await rawFilesOf(artifactPlaceOf(dataDir)).names()).filter((name) => name.startsWith('tmp/'));
    const work = await readdir(path.join(dataDir, 'work')).catch(() => []);
    return unfinished.length + work.length === 0 ? true : undefined;
  });
}

test('an import that fails says why, and leaves no version and no file', async () => {
  const folder = path.join(base, 'broken');
  for (const label of ['tumour', 'stroma']) {
    await mkdir(path.join(folder, label), { recursive: true });
    for (const file of ['a.png', 'b.png'])
      await writeFile(path.join(folder, label, file), `not an image: ${label} ${file}`);
  }
  const run = await registry.runs.launchImport(ADMIN, {
    datasetId,
    path: folder,
    layout: 'FOLDER_PER_LABEL',
    accept: ['FEWER_THAN_BEFORE'],
  });
  const failed = await reaches(run.id, 'FAILED');
  assert.deepEqual([failed.failure?.class, failed.failure?.code], ['DATA', 'IMPORT_NOTHING_READABLE']);
  assert.equal(await database.db.datasetVersion.count({ where: { datasetId } }), 1);
  await noTemporaryFiles();
});

test('an uninterrupted training registers one checkpoint with its lineage', async () => {
  const run = await launchPretraining();
  const ended = await reaches(run.id, 'SUCCEEDED');
  uninterrupted = await outcomeOf(run.id);
  assert.equal(uninterrupted.losses.length, STEPS);
  assert.deepEqual([ended.attempt, ended.progress, ended.failure], [1, 1, null]);
  assert.deepEqual(await kindsOf(run.id), [
    'QUEUED',
    'STARTED',
    ...stepsOfKeeping().map(() => 'CHECKPOINT'),
    'SUCCEEDED',
  ]);
  const trainedOn = await database.db.checkpointTrainedOn.findMany({ where: { checkpoint: { sourceRunId: run.id } } });
  assert.deepEqual(
    trainedOn.map((row) => row.datasetVersionId),
    [versionId],
  );
});

function stepsOfKeeping(): number[] {
  return Array.from({ length: STEPS / KEEP_EVERY }, (_, index) => (index + 1) * KEEP_EVERY);
}

test('a training that is killed between two saved states reaches the same losses and weights, bit for bit', async () => {
  const step = KEEP_EVERY + Math.ceil(KEEP_EVERY / 2);
  const run = await launchPretraining();
  await eventually(
    `a loss at step ${step}`,
    async () => {
      const [series] = await registry.runs.metrics(ADMIN, run.id, ['loss']);
      return (series?.points.at(-1)?.step ?? 0) >= step ? true : undefined;
    },
    RUN_DEADLINE_MS,
  );
  // Metrics are written for several steps at a time, so the run is now at that step or slightly past it.
  process.kill(await busyChild(), 'SIGKILL');
  await reaches(run.id, 'SUCCEEDED');
  assert.deepEqual(await outcomeOf(run.id), uninterrupted, `killed at step ${step} or soon after`);
});

test('a backup taken during a training is complete after a restore, where the run waits in the queue', async () => {
  const file = path.join(base, 'meanwhile.tar');
  // More steps than it makes during the backup, also where each artifact is read from a bucket.
  const { id: runId } = await launchPretraining({ steps: 100 * STEPS });
  await untilStateAfter(runId, 0);
  const { damaged } = await writeBackup({
    databaseUrl: database.url,
    store: openArtifactStore(artifactPlaceOf(dataDir)),
    file,
    program: '1.0.0',
  });
  assert.deepEqual(damaged, []);
  const { status, attempt } = await runOf(runId);
  assert.deepEqual([status, attempt], ['RUNNING', 1], 'the backup did not disturb it');
  await registry.runs.cancel(ADMIN, runId);
  await reaches(runId, 'CANCELED');
  const elsewhere = path.join(base, 'elsewhere');
  await promisify(execFile)(process.execPath, ['src/cli/main.ts', 'restore', file, '--data-dir', elsewhere], {
    cwd: path.resolve(import.meta.dirname, '../..'),
    env: childEnvironment({ PARAFFIN_DATABASE_URL: '', ...artifactVariables(elsewhere) }),
  });
  const postgres = await startPostgres(path.join(elsewhere, 'postgres'));
  const db = openDatabase(postgres.url);
  try {
    const { checked, damaged: broken } = await checkArtifacts({
      db,
      store: openArtifactStore(artifactPlaceOf(elsewhere)),
      onProgress: () => undefined,
    });
    assert.ok(checked.count > 0);
    assert.deepEqual(broken, []);
    const restored = await db.run.findUniqueOrThrow({ where: { id: runId }, include: { trainingStates: true } });
    assert.equal(restored.status, 'QUEUED');
    assert.ok(restored.trainingStates.length > 0, 'with what it continues from');
    assert.equal(await db.checkpoint.count({ where: { sourceRunId: runId } }), 0, 'what came later is not in it');
  } finally {
    await db.$disconnect();
    await postgres.stop();
  }
});

async function noneAlive(pids: readonly number[]): Promise<void> {
  await eventually(
    'the child and what it started to end',
    async () => ((await Promise.all(pids.map(isAlive))).includes(true) ? undefined : true),
    10_000,
  );
}

describe('one training that is interrupted in every way', () => {
  let run: RunRecord;
  let keptStep = 0;

  test('continues from its last state when its child is killed', async () => {
    run = await launchPretraining();
    keptStep = await untilStateAfter(run.id, keptStep);
    process.kill(await busyChild(), 'SIGKILL');
    await eventually('the second attempt', async () => ((await runOf(run.id)).attempt === 2 ? true : undefined));
    keptStep = await untilStateAfter(run.id, keptStep);
    assert.deepEqual(await stepsKept(run.id), [KEEP_EVERY, 2 * KEEP_EVERY]);
  });

  test('leaves no child if its worker is killed, and continues when the lease expires', async () => {
    const child = await busyChild();
    assert.equal(
      await processGroupOf(child),
      child,
      'a signal to the group of its worker, handled in the middle of a matrix product, would be written into its memory',
    );
    const family = await familyOf(child);
    assert.ok(family.length > 1, 'the child and its decoder of images');
    worker.signal('SIGKILL');
    await worker.gone;
    await noneAlive(family);
    assert.equal((await runOf(run.id)).status, 'RUNNING');
    // Otherwise the lease would expire only after half a minute.
    await database.db.run.update({ where: { id: run.id }, data: { leaseExpiresAt: new Date(0) } });
    await nextWorker();
    keptStep = await untilStateAfter(run.id, keptStep);
  });

  test('waits in the queue if its worker is asked to end, and the next worker takes it', async () => {
    const child = await busyChild();
    const family = await familyOf(child);
    worker.signal('SIGTERM');
    assert.deepEqual(await worker.gone, { code: 0, signal: null });
    assert.equal((await runOf(run.id)).status, 'QUEUED');
    assert.equal(await isAlive(child), false);
    await noneAlive(family);
    assert.ok(((await stepsKept(run.id)).at(-1) ?? 0) > keptStep, 'it saved a state before it ended');
    keptStep = (await stepsKept(run.id)).at(-1) ?? 0;
    await nextWorker();
    await untilStateAfter(run.id, keptStep);
  });

  test('is CANCELED within ten seconds, and finishes when it is resumed', async () => {
    const family = await familyOf(await busyChild());
    await registry.runs.cancel(ADMIN, run.id);
    await reaches(run.id, 'CANCELED', 10_000);
    assert.equal(await database.db.checkpoint.count({ where: { sourceRunId: run.id } }), 0);
    await noneAlive(family);
    await noTemporaryFiles();
    await registry.runs.resume(ADMIN, run.id);
    await reaches(run.id, 'SUCCEEDED');
  });

  test('reaches the same losses and the same weights, bit for bit, as an undisturbed training', async () => {
    assert.deepEqual(await outcomeOf(run.id), uninterrupted);
    assert.equal((await runOf(run.id)).attempt, 5);
  });
});

test('a run whose child dies before it saves anything is abandoned after three attempts', async () => {
  const run = await launchPretraining();
  for (const attempt of [1, 2, 3]) {
    await eventually(`attempt ${attempt}`, async () => ((await runOf(run.id)).attempt === attempt ? true : undefined));
    process.kill(await busyChild(), 'SIGKILL');
  }
  const failed = await reaches(run.id, 'FAILED');
  assert.deepEqual([failed.attempt, failed.failure?.code], [3, 'CHILD_DIED']);
  assert.deepEqual(await kindsOf(run.id), [
    'QUEUED',
    'STARTED',
    'REQUEUED',
    'STARTED',
    'REQUEUED',
    'STARTED',
    'FAILED',
  ]);
});

test('a run survives more deaths of its worker than crashes of its own, and none of them leaves a file', async () => {
  const run = await launchPretraining({ steps: 2, checkpointEverySteps: 100 });
  for (let death = 1; death <= MAX_FRUITLESS_ATTEMPTS + 1; death += 1) {
    await eventually(
      `attempt ${death}`,
      async () => ((await runOf(run.id)).attempt === death ? true : undefined),
      RUN_DEADLINE_MS,
    );
    await busyChild();
    worker.signal('SIGKILL');
    await worker.gone;
    await database.db.run.update({ where: { id: run.id }, data: { leaseExpiresAt: new Date(0) } });
    await nextWorker();
  }
  const ended = await reaches(run.id, 'SUCCEEDED');
  assert.equal(ended.attempt, MAX_FRUITLESS_ATTEMPTS + 2);
  assert.equal((await outcomeOf(run.id)).losses.length, 2);
  await noTemporaryFiles();
});

describe('a cancel', () => {
  test('reaches a child that is still starting, whether sent once or twice', async () => {
    const run = await launchPretraining();
    await busyChild();
    await Promise.all([registry.runs.cancel(ADMIN, run.id), registry.runs.cancel(ADMIN, run.id)]);
    // Less than the time after which an unresponsive child is killed: the agent does not wait for a child that is still
    // starting.
    await reaches(run.id, 'CANCELED', 5_000);
    await noTemporaryFiles();
    assert.deepEqual((await childrenOf(worker.pid)).length, 0);
  });

  test('saves the state first, however long the current step takes', async () => {
    const run = await launchPretraining({ steps: 100_000, checkpointEverySteps: 50_000, seed: 11 });
    const child = await busyChild();
    const metricsSince = async (): Promise<Date | undefined> =>
      (await registry.runs.eventsAfter(ADMIN, run.id, 0)).find((event) => event.kind === 'METRICS')?.at;
    // More steps than a cancel may lose.
    await eventually(
      'ten seconds of learning',
      async () => ((await metricsSince())?.getTime() ?? Number.NaN) < Date.now() - 12_000 || undefined,
      RUN_DEADLINE_MS,
    );
    assert.deepEqual(await stepsKept(run.id), []);
    // From outside this looks like a long step.
    process.kill(child, 'SIGSTOP');
    await registry.runs.cancel(ADMIN, run.id);
    const askedMs = Date.now();
    // The agent renews every second: after this many renewals it would have been killed.
    await eventually(
      'longer than the wait for a child that has nothing to save',
      async () => {
        assert.ok(await isAlive(child), 'it was killed with what it had learned');
        const { leaseExpiresAt } = await database.db.run.findUniqueOrThrow({ where: { id: run.id } });
        return (leaseExpiresAt?.getTime() ?? 0) > askedMs + 13_000 || undefined;
      },
      60_000,
    );
    process.kill(child, 'SIGCONT');
    await reaches(run.id, 'CANCELED', 60_000);
    assert.equal((await stepsKept(run.id)).length, 1);
    await noTemporaryFiles();
  });

  test('reaches a running evaluation', async () => {
    const checkpoint = await database.db.checkpoint.findFirstOrThrow({ where: { step: STEPS } });
    const run = await registry.evaluations.launch(ADMIN, {
      checkpointId: checkpoint.id,
      datasetVersionId: versionId,
      protocol: 'LINEAR_PROBE',
      folds: 4,
      seed: 2,
      options: { bootstrapResamples: 10_000 },
    });
    await eventually(
      'progress of the evaluation',
      async () => ((await allKindsOf(run.id)).includes('PROGRESS') ? true : undefined),
      RUN_DEADLINE_MS,
    );
    await registry.runs.cancel(ADMIN, run.id);
    await reaches(run.id, 'CANCELED', 10_000);
    assert.equal(await database.db.evaluation.count({ where: { runId: run.id } }), 0);
    await noTemporaryFiles();
  });

  test('needs no living worker; the next worker removes what the dead one left', async () => {
    const run = await launchPretraining();
    // The child of this run: that of the previous run may not have ended yet.
    await eventually("the run's folder", async () =>
      (await readdir(path.join(dataDir, 'work'))).includes(`${run.id}-1`) ? true : undefined,
    );
    worker.signal('SIGKILL');
    await worker.gone;
    assert.deepEqual(await readdir(path.join(dataDir, 'work')), [`${run.id}-1`]);
    await registry.runs.cancel(ADMIN, run.id);
    assert.equal((await runOf(run.id)).status, 'CANCELING');
    await eventually(
      'the cancel',
      async () => {
        await registry.ledger.requeueExpired();
        return (await runOf(run.id)).status === 'CANCELED' ? true : undefined;
      },
      10_000,
    );
    await nextWorker();
    await noTemporaryFiles();
  });
});

test('zero steps register the initial encoder, trained on nothing', async () => {
  const run = await launchPretraining({ steps: 0 });
  await reaches(run.id, 'SUCCEEDED');
  const checkpoint = await database.db.checkpoint.findFirstOrThrow({
    where: { sourceRunId: run.id },
    include: { trainedOn: true },
  });
  assert.deepEqual([checkpoint.step, checkpoint.epoch, checkpoint.trainedOn], [0, 0, []]);
  assert.notEqual((await outcomeOf(run.id)).weightsSha256, uninterrupted.weightsSha256);
});

test('a training that diverges fails with what to do', async () => {
  const checkpoint = await registerExplosive();
  const run = await launchPretraining({ initialCheckpointId: checkpoint });
  const failed = await reaches(run.id, 'FAILED');
  assert.deepEqual([failed.failure?.class, failed.failure?.code], ['USER', 'TRAINING_DIVERGED']);
  assert.match(failed.failure?.hint ?? '', /learningRate/);
  assert.equal(await database.db.checkpoint.count({ where: { sourceRunId: run.id } }), 0);
});

/** An encoder whose weights are finite, but whose embeddings are beyond float32. */
async function registerExplosive(): Promise<string> {
  const store = openArtifactStore(artifactPlaceOf(dataDir));
  const source = await database.db.checkpoint.findFirstOrThrow({ where: { step: STEPS } });
  const { tensors } = readSafetensors(await store.read(source.sha256 ?? ''));
  const explosive = tensors.map((tensor) =>
    tensor.name === 'layer4.1.bn2.weight' && tensor.dtype === 'F32'
      ? { ...tensor, data: tensor.data.map(() => 3e38) }
      : tensor,
  );
  const stored = await store.put(writeSafetensors(explosive, { format: 'pt' }));
  await database.db.artifact.create({ data: { ...stored, mediaType: 'application/octet-stream' } });
  const { modelId, encoder, embeddingDim, inputContract } = source;
  return (
    await database.db.checkpoint.create({
      data: { modelId, encoder, embeddingDim, inputContract: inputContract ?? {}, ...stored, version: 1000 },
    })
  ).id;
}

test('an evaluation reports its baselines', async () => {
  const checkpoint = await database.db.checkpoint.findFirstOrThrow({ where: { step: STEPS } });
  const run = await registry.evaluations.launch(ADMIN, {
    checkpointId: checkpoint.id,
    datasetVersionId: versionId,
    protocol: 'LINEAR_PROBE',
    folds: 4,
    seed: 1,
    options: { bootstrapResamples: 100 },
  });
  await reaches(run.id, 'SUCCEEDED');
  const [evaluation] = await registry.evaluations.ofCheckpoint(ADMIN, checkpoint.id, 1);
  assert.deepEqual(
    evaluation?.metrics.map((metric) => metric.name),
    ['macroF1', 'balancedAccuracy', 'accuracy', 'macroAuroc'],
  );
  assert.deepEqual(
    evaluation.baselines.map((baseline) => baseline.kind),
    ['RANDOM_ENCODER', 'COLOUR_STATISTICS', 'MAJORITY_CLASS'],
  );
  assert.equal(
    evaluation.confusionMatrix?.counts.flat().reduce((sum, count) => sum + count, 0),
    32,
  );
});
