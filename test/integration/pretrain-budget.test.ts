/** A pretraining with a time budget: measured, planned and frozen by the worker, and resumed with the same plan. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { canComputeIn } from '../../workers/engine/kernels/compute-dtype.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import { TaskStopped, type StopRequest } from '../../workers/tasks/task.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { importDrawnVersion } from '../support/drawn-version.ts';
import { ADMIN, openTestRegistry, type TestRegistry } from '../support/registry.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';
import {
  pretrainingConfigSchema,
  unplannedPretrainingSchema,
  type PretrainingConfig,
  type UnplannedPretraining,
} from '../../src/protocol/pretraining/config.ts';

let database: TestDatabase;
let registry: TestRegistry;
let runner: TaskRunner;
let versionId = '';

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  registry = await openTestRegistry(database, [runner.base], runner.base);
  versionId = await importDrawnVersion({ database, registry, runner }, 'budget-test', 8);
});
after(async () => {
  await registry.close();
  await runner.close();
  await database.close();
});

/** The config that a launch freezes, with a budget that may be shorter than a launch allows. */
async function launched(budgetSeconds: number): Promise<string> {
  const { id, config } = await registry.runs.launchPretraining(ADMIN, {
    modelSlug: 'budget-test',
    datasets: [{ datasetVersionId: versionId }],
    encoder: 'RESNET18',
    imageSizePx: 32,
    batchSize: 8,
    temperature: null,
    precision: null,
    sampling: 'EVEN',
    budget: '10s',
    seed: 7,
  });
  const unplanned: UnplannedPretraining = unplannedPretrainingSchema.parse(config);
  await database.db.run.update({
    where: { id },
    data: { config: { ...unplanned, budget: { seconds: budgetSeconds } } },
  });
  return id;
}

async function configOf(id: string): Promise<PretrainingConfig> {
  return pretrainingConfigSchema.parse((await database.db.run.findUniqueOrThrow({ where: { id } })).config);
}

const isMeasuring = (event: string): boolean => event.startsWith('Measuring');

test('the plan follows from the measured speed, is explained, and is the same for the attempt that continues', async () => {
  // Long enough that a busy machine, too, plans more steps than the first attempt takes.
  const id = await launched(30);
  let visits = 0;
  const stopSoon = (): StopRequest => {
    // Earlier work, which is polled as well, leaves nothing to continue from.
    if (!first.events.some((event) => event.startsWith('Probe at step 0 '))) return 'NO';
    visits += 1;
    return visits > 3 ? 'DRAIN' : 'NO';
  };
  const first: LaunchedTask = await runner.claim(pretrainTask, id, stopSoon);
  await assert.rejects(first.execute(), TaskStopped);
  const precisionCount = canComputeIn('bfloat16') ? 2 : 1;
  assert.equal(first.events.filter(isMeasuring).length, precisionCount);

  const planned = await configOf(id);
  assert.ok(planned.budget !== null);
  assert.equal(planned.budget.seconds, 30);
  assert.equal(planned.budget.speeds.length, precisionCount);
  assert.equal(planned.budget.speeds.at(-1)?.precision, planned.precision);
  assert.ok(planned.steps >= 4, `${planned.steps} steps`);
  assert.equal(planned.epochs, planned.steps / 4);
  assert.ok(first.events.includes(planned.explanation.join(' ')));
  assert.match(planned.explanation[0] ?? '', /^30 seconds at /);

  await database.db.run.update({ where: { id }, data: { status: 'QUEUED', leaseExpiresAt: null } });
  const second = await runner.claim(pretrainTask, id);
  await second.execute();
  assert.deepEqual(second.events.filter(isMeasuring), []);
  assert.ok(second.events.some((event) => event.startsWith('Continues from step ')));
  const ended = await configOf(id);
  assert.deepEqual([ended.budget, ended.precision, ended.seed], [planned.budget, planned.precision, planned.seed]);
  if (ended.earlierPlans.length === 0) assert.equal(ended.steps, planned.steps);
  else assert.equal(ended.earlierPlans[0]?.totalSteps, planned.steps);
  const checkpoint = await database.db.checkpoint.findFirstOrThrow({ where: { sourceRunId: id } });
  assert.deepEqual([checkpoint.step, checkpoint.epoch], [ended.steps, ended.epochs]);
});

test('a budget too small for one epoch fails with what would fit, and registers nothing', async () => {
  const id = await launched(0.05);
  const run = await runner.claim(pretrainTask, id);
  await assert.rejects(run.execute(), (error) => {
    assert.ok(error instanceof DomainError);
    assert.equal(error.code, 'BUDGET_TOO_SMALL');
    assert.match(error.message, /less than one epoch of 32\.$/);
    assert.match(error.hint ?? '', /^Give at least \d+m/);
    return true;
  });
  assert.equal(await database.db.checkpoint.count({ where: { sourceRunId: id } }), 0);
});
