/**
 * A pretraining with a probe: launched by the service, executed by the task with the real engine, read back over HTTP
 * as a page reads it.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { dropSupersededStates, type RunRecord } from '../../src/modules/runs/index.ts';
import { exportTask } from '../../workers/tasks/export.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import { TaskStopped, type StopRequest } from '../../workers/tasks/task.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { ADMIN } from '../support/registry.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';

let database: TestDatabase;
let server: TestServer;
let runner: TaskRunner;
let labelledId = '';
let unlabelledId = '';
/** The same training twice: with a probe that registers its best encoder, and without a probe. */
let watched: LaunchedTask;
let unwatched: LaunchedTask;

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  runner = await createTaskRunner(database, server.folder);
  const images = path.join(server.folder, 'images');
  await drawTissue({ outDir: images, imagesPerLabel: 8, imageSizePx: 48, seed: 3, groups: 4 });
  labelledId = await importVersion('labelled', {
    path: images,
    layout: 'CSV',
    labelsCsvPath: path.join(images, 'labels.csv'),
  });
  unlabelledId = await importVersion('unlabelled', { path: images, layout: 'FLAT' });
  watched = await carried({ probe: { everySteps: 2 }, registerSteps: [2, 4, 2], registerBest: true });
  unwatched = await carried({ probe: { enabled: false }, checkpointEverySteps: 2 });
});
after(async () => {
  await server.close();
  await database.close();
});

async function importVersion(slug: string, changes: object): Promise<string> {
  const dataset =
    (await database.db.dataset.findUnique({ where: { slug } })) ??
    (await database.db.dataset.create({ data: { slug, name: slug, imageKind: 'PATCH', synthetic: true } }));
  const run = await server.services.runs.launchImport(ADMIN, { datasetId: dataset.id, ...changes });
  await (await runner.claim(importDatasetTask, run.id)).execute();
  return (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: run.id } })).id;
}

function queued(changes: object): Promise<RunRecord> {
  return server.services.runs.launchPretraining(ADMIN, {
    modelSlug: 'watched',
    datasets: [{ datasetVersionId: labelledId }],
    encoder: 'RESNET18',
    imageSizePx: 32,
    batchSize: 4,
    steps: 4,
    seed: 5,
    temperature: 0.5,
    sampling: 'EVEN',
    precision: 'FLOAT32',
    ...changes,
  });
}

async function launch(changes: object = {}, stop?: () => StopRequest): Promise<LaunchedTask> {
  return runner.claim(pretrainTask, (await queued(changes)).id, stop);
}

async function carried(changes: object = {}): Promise<LaunchedTask> {
  const task = await launch(changes);
  await task.execute();
  return task;
}

async function refusal(changes: object): Promise<{ code: unknown; field: unknown; hint: unknown }> {
  try {
    await queued(changes);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return {
      code: Reflect.get(error, 'code'),
      field: Reflect.get(error, 'field'),
      hint: Reflect.get(error, 'hint'),
    };
  }
  return assert.fail('It was launched.');
}

const runAnswer = z.object({
  data: z.object({
    run: z.object({
      metrics: z.array(
        z.object({ name: z.string(), points: z.array(z.object({ step: z.number(), value: z.number() })) }),
      ),
      trainingStates: z.array(
        z.object({
          step: z.number(),
          isBest: z.boolean(),
          probe: z.object({ ridgeMacroF1: z.number() }).nullable(),
          checkpoint: z.object({ id: z.string() }).nullable(),
        }),
      ),
      checkpoints: z.array(
        z.object({
          id: z.string(),
          step: z.number(),
          epoch: z.number(),
          sha256: z.string(),
          probe: z
            .object({
              datasetVersionName: z.string(),
              step: z.number(),
              imageCount: z.number(),
              groupCount: z.number(),
              split: z.string(),
              ridgeMacroF1: z.number(),
              randomEncoder: z.object({ ridgeMacroF1: z.number() }),
              overRandomEncoder: z.object({
                value: z.number(),
                ci95Low: z.number(),
                ci95High: z.number(),
                verdict: z.string(),
              }),
              sharedImageCount: z.number(),
              sharedGroupCount: z.number(),
              sentence: z.string(),
              overlap: z.string().nullable(),
            })
            .nullable(),
        }),
      ),
    }),
  }),
});

async function asShown(runId: string): Promise<z.infer<typeof runAnswer>['data']['run']> {
  return runAnswer.parse(
    await server.ask(
      `query ($id: ID!) { run(id: $id) {
        metrics { name points { step value } }
        trainingStates { step isBest probe { ridgeMacroF1 } checkpoint { id } }
        checkpoints { id step epoch sha256 probe {
          datasetVersionName step imageCount groupCount split ridgeMacroF1 randomEncoder { ridgeMacroF1 }
          overRandomEncoder { value ci95Low ci95High verdict } sharedImageCount sharedGroupCount sentence overlap } }
      } }`,
      { id: runId },
    ),
  ).data.run;
}

test('a labelled training is probed by default: series, baselines, a verdict with its interval, and a stated overlap', async () => {
  const { metrics, checkpoints } = await asShown(watched.runId);
  const pointsOf = (name: string): readonly { readonly step: number; readonly value: number }[] =>
    metrics.find((series) => series.name === name)?.points ?? [];
  const stepsOf = (name: string): readonly number[] => pointsOf(name).map(({ step }) => step);
  assert.deepEqual(stepsOf('probeRidgeMacroF1'), [0, 2, 4]);
  assert.deepEqual(stepsOf('probeKnnMacroF1'), [0, 2, 4]);
  for (const line of ['probeRandomRidgeMacroF1', 'probeRandomKnnMacroF1', 'probeColourRidgeMacroF1'])
    assert.deepEqual(stepsOf(line), [0], line);
  assert.equal(
    pointsOf('probeRidgeMacroF1')[0]?.value,
    pointsOf('probeRandomRidgeMacroF1')[0]?.value,
    'step 0 is the random encoder',
  );

  const probe = checkpoints.at(-1)?.probe;
  assert.ok(probe != null);
  assert.deepEqual(
    [probe.datasetVersionName, probe.step, probe.imageCount, probe.groupCount, probe.split],
    ['labelled@1', 4, 32, 4, 'GROUPS'],
  );
  const { value, ci95Low, ci95High } = probe.overRandomEncoder;
  assert.ok(Math.abs(value - (probe.ridgeMacroF1 - probe.randomEncoder.ridgeMacroF1)) < 1e-12);
  assert.ok(ci95Low <= ci95High);
  assert.match(probe.sentence, /a random encoder on labelled@1.*colour statistics/);
  assert.deepEqual([probe.sharedImageCount, probe.sharedGroupCount], [32, 4]);
  assert.match(probe.overlap ?? '', /32 of the probe's 32 images and 4 of its 4 groups/);
  assert.ok(
    watched.events.some((event) => event.includes('groups are also in the training')),
    'reported at the start',
  );
  const last = await database.db.runEvent.findFirstOrThrow({
    where: { runId: watched.runId },
    orderBy: { sequence: 'desc' },
  });
  assert.ok(last.message?.includes(probe.sentence), last.message ?? '');
  assert.match(last.message ?? '', /The probe took \d+ % of the time\./);
});

test('the weights and losses are the same bit for bit with and without a probe', async () => {
  const seen = async ({ runId }: LaunchedTask): Promise<unknown> => {
    const { metrics, checkpoints } = await asShown(runId);
    return [checkpoints.at(-1)?.sha256, metrics.find(({ name }) => name === 'loss')?.points];
  };
  assert.deepEqual(await seen(watched), await seen(unwatched));
  assert.ok((await asShown(unwatched.runId)).metrics.every(({ name }) => !name.startsWith('probe')));
});

test('a launch is probed on its own labels, a labelled version of the same dataset, a named one, or none', async () => {
  const images = path.join(server.folder, 'both');
  await drawTissue({ outDir: images, imagesPerLabel: 4, imageSizePx: 48, seed: 4, groups: 4 });
  const flatId = await importVersion('both', { path: images, layout: 'FLAT' });
  const sortedId = await importVersion('both', { path: images, layout: 'FOLDER_PER_LABEL' });
  const probedOn = async (changes: object): Promise<unknown> => {
    const run = await queued(changes);
    await server.services.runs.cancel(ADMIN, run.id);
    return z.object({ probe: z.object({ datasetVersionName: z.string() }).nullable() }).parse(run.config).probe
      ?.datasetVersionName;
  };
  assert.equal(await probedOn({}), 'labelled@1');
  assert.equal(await probedOn({ datasets: [{ datasetVersionId: flatId }] }), 'both@2');
  assert.equal(await probedOn({ datasets: [{ datasetVersionId: unlabelledId }] }), undefined);
  assert.equal(await probedOn({ probe: { datasetVersionId: sortedId } }), 'both@2');
  assert.equal(await probedOn({ steps: 0 }), undefined, 'nothing is trained');
});

test('the same images under another name are found by their bytes, although their groups differ', async () => {
  const task = await carried({
    steps: 1,
    datasets: [{ datasetVersionId: unlabelledId }],
    probe: { datasetVersionId: labelledId },
  });
  const probe = (await asShown(task.runId)).checkpoints[0]?.probe;
  assert.deepEqual([probe?.sharedImageCount, probe?.sharedGroupCount], [32, 0]);
});

describe('saved states and registered checkpoints', () => {
  test('named steps become checkpoints with lineage and golden embedding, and so does a saved state later, byte for byte', async () => {
    const { checkpoints, trainingStates } = await asShown(watched.runId);
    const best = trainingStates.find(({ isBest }) => isBest);
    assert.ok(best !== undefined && [2, 4].includes(best.step));
    assert.deepEqual(
      checkpoints.map(({ step, epoch }) => [step, epoch]),
      [
        [2, 2 / 8],
        [4, 4 / 8],
      ],
    );
    assert.ok(
      checkpoints.every(({ probe, step }) => probe?.step === step),
      'each with a verdict of its own',
    );

    // The same training without the step whose saved state is registered at the end.
    const answer = z
      .object({
        data: z.object({
          registerTrainingState: z.object({
            checkpoint: z.object({
              id: z.string(),
              sha256: z.string(),
              step: z.number(),
              version: z.number(),
              trainedOn: z.array(z.object({ id: z.string() })),
            }),
            userErrors: z.tuple([]),
          }),
        }),
      })
      .parse(await register(unwatched.runId, 2));
    const { checkpoint } = answer.data.registerTrainingState;
    assert.equal(checkpoint.sha256, checkpoints[0]?.sha256);
    assert.deepEqual([checkpoint.step, checkpoint.trainedOn], [2, [{ id: labelledId }]]);
    const again: unknown = await register(unwatched.runId, 2);
    assert.deepEqual(again, answer, 'a second request gives the same one');

    // The golden embedding is computed later, as for an imported checkpoint, and belongs to the run's own checkpoint.
    const queued = await database.db.run.findFirstOrThrow({ where: { kind: 'EXPORT', status: 'QUEUED' } });
    await (await runner.claim(exportTask, queued.id)).execute();
    const goldens = await database.db.checkpoint.findMany({ where: { sha256: checkpoint.sha256 } });
    assert.ok(goldens.length >= 2 && goldens.every(({ golden }) => golden !== null));
    assert.equal(new Set(goldens.map(({ golden }) => JSON.stringify(golden))).size, 1);
  });

  test('a run that was stopped is probed and registered like an undisturbed one', async () => {
    const choice = { probe: { everySteps: 2 }, registerSteps: [2, 4, 2], registerBest: true };
    let stopCheckCount = 0;
    // The task checks for a stop before every batch of a probe too, and is stopped within the probe of step 2.
    const stopped = await launch(choice, () => ((stopCheckCount += 1) > 8 ? 'DRAIN' : 'NO'));
    await assert.rejects(stopped.execute(), TaskStopped);
    const kept = await database.db.trainingState.findMany({ where: { runId: stopped.runId } });
    assert.equal(kept.length, 1);
    assert.ok((kept[0]?.step ?? 4) < 4, `stopped at step ${kept[0]?.step}`);
    await database.db.run.update({ where: { id: stopped.runId }, data: { status: 'QUEUED' } });
    await (await runner.claim(pretrainTask, stopped.runId)).execute();
    const seen = async ({ runId }: LaunchedTask): Promise<unknown> => {
      const { metrics, checkpoints } = await asShown(runId);
      return [
        metrics.filter(({ name }) => name.startsWith('probe') || name === 'loss'),
        checkpoints.map(({ step, sha256, probe }) => [step, sha256, probe]),
      ];
    };
    assert.deepEqual(await seen(stopped), await seen(watched));
  });

  test('a run from before shards were read in windows continues in the present order, and says from which step', async () => {
    // A stop is also asked for while a shard is opened, so that the calls do not count steps.
    const stopped: LaunchedTask = await launch({ probe: { enabled: false } }, () =>
      stopped.steps.length > 1 ? 'DRAIN' : 'NO',
    );
    await assert.rejects(stopped.execute(), TaskStopped);
    const { step } = await database.db.trainingState.findFirstOrThrow({ where: { runId: stopped.runId } });
    assert.ok(step > 0 && step < 4, `stopped at step ${step}`);
    const { config } = await database.db.run.findUniqueOrThrow({ where: { id: stopped.runId } });
    const { shuffle, ...earlier } = z.looseObject({ shuffle: z.unknown() }).parse(config);
    assert.deepEqual(shuffle, { windowShards: 64, firstWindowShards: 16, sinceStep: 0 });
    const frozen = z.record(z.string(), z.json()).parse(earlier);
    await database.db.run.update({ where: { id: stopped.runId }, data: { status: 'QUEUED', config: frozen } });

    const continued = await runner.claim(pretrainTask, stopped.runId);
    await continued.execute();
    assert.ok(continued.events.some((event) => new RegExp(`From step ${step} its images follow`).test(event)));
    const ended = await database.db.run.findUniqueOrThrow({ where: { id: stopped.runId } });
    assert.partialDeepStrictEqual(ended.config, {
      shuffle: { windowShards: 64, firstWindowShards: 16, sinceStep: step },
    });
  });

  async function register(runId: string, step: number): Promise<unknown> {
    return server.ask(
      `mutation ($input: RegisterTrainingStateInput!) { registerTrainingState(input: $input) {
        checkpoint { id sha256 step version trainedOn { id } } userErrors { code field hint } } }`,
      { input: { runId, step } },
    );
  }

  test('a pruned state, a state that was never saved, and an unknown run give different errors', async () => {
    const errorOf = async (runId: string, step: number): Promise<unknown> =>
      z
        .object({
          data: z.object({
            registerTrainingState: z.object({ checkpoint: z.null(), userErrors: z.array(z.unknown()) }),
          }),
        })
        .parse(await register(runId, step)).data.registerTrainingState.userErrors;
    assert.deepEqual(await errorOf(unwatched.runId, 3), [
      {
        code: 'TRAINING_STATE_NOT_FOUND',
        field: 'input.step',
        hint: 'The kept steps are 2, 4. For another step launch the run again with registerSteps.',
      },
    ]);
    await database.transact(async (tx) => void (await dropSupersededStates(tx)));
    assert.partialDeepStrictEqual(await errorOf(unwatched.runId, 3), [
      {
        code: 'TRAINING_STATE_NOT_FOUND',
        hint: 'This run has no kept states. Launch it again with registerSteps and the same seed to get the same state.',
      },
    ]);
    assert.deepEqual(await errorOf('no id', 2), [
      { code: 'RUN_NOT_FOUND', field: 'input.runId', hint: 'List the runs with the query `runs`.' },
    ]);
  });
});

describe('an impossible probe', () => {
  test('is refused at the launch for no labels, one label, or fewer images than labels', async () => {
    const label = async (counts: Record<string, number>): Promise<string> => {
      const labelCounts = Object.entries(counts).map(([name, count]) => ({ label: name, count }));
      const { id, ...version } = await database.db.datasetVersion.findUniqueOrThrow({
        where: { id: labelledId },
        omit: { importRunId: true, version: true, issues: true },
      });
      assert.notEqual(id, '');
      return (
        await database.db.datasetVersion.create({
          data: {
            ...version,
            issues: [],
            version: 100 + (await database.db.datasetVersion.count()),
            labelNames: Object.keys(counts),
            labelCounts,
          },
        })
      ).id;
    };
    const refused = async (datasetVersionId: string): Promise<unknown> => {
      const { code, field, hint } = await refusal({ probe: { datasetVersionId } });
      assert.ok(typeof hint === 'string' && hint !== '');
      return [code, field];
    };
    const field = 'input.probe.datasetVersionId';
    assert.deepEqual(await refused(unlabelledId), ['PROBE_UNLABELLED', field]);
    assert.deepEqual(await refused(await label({ tumour: 30 })), ['PROBE_UNLABELLED', field]);
    assert.deepEqual(await refused(await label({ a: 0, b: 1, c: 1 })), ['PROBE_TOO_SMALL', field]);
    assert.deepEqual(await refused(await label({ a: 30, b: 2 })), ['PROBE_TOO_SMALL', field]);
    assert.deepEqual(await refused('00000000-0000-7000-8000-000000000000'), ['DATASET_VERSION_NOT_FOUND', field]);
  });

  test('is refused for contradictory input, with the field at fault', async () => {
    const unlabelled = { datasets: [{ datasetVersionId: unlabelledId }] };
    for (const [changes, code, field] of [
      [{ probe: { enabled: false, everySteps: 5 } }, 'BAD_INPUT', 'input.probe.enabled'],
      [{ probe: { everySteps: 0 } }, 'BAD_INPUT', 'input.probe.everySteps'],
      [{ probe: { enabled: false }, registerBest: true }, 'BAD_INPUT', 'input.registerBest'],
      [{ ...unlabelled, registerBest: true }, 'PROBE_UNLABELLED', 'input.probe.datasetVersionId'],
      [{ ...unlabelled, probe: {} }, 'PROBE_UNLABELLED', 'input.probe.datasetVersionId'],
      [{ registerSteps: [5] }, 'BAD_INPUT', 'input.registerSteps'],
      [{ registerSteps: [0] }, 'BAD_INPUT', 'input.registerSteps.0'],
    ] as const)
      assert.partialDeepStrictEqual(await refusal(changes), { code, field }, JSON.stringify(changes));
  });
});
