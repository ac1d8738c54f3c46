/** A vision transformer from the launch to a registered checkpoint, which embeds, and resumes to the same weights. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { describeEncoder, encoderNameOf } from '../../src/formats/encoders/index.ts';
import { pretrainingConfigSchema } from '../../src/protocol/pretraining/config.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import { TaskStopped } from '../../workers/tasks/task.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { importDrawnVersion } from '../support/drawn-version.ts';
import { ADMIN, openTestRegistry, type TestRegistry } from '../support/registry.ts';
import { createTaskRunner, type TaskRunner } from '../support/task-runner.ts';

const STEPS = 3;
const IMAGE_SIZE_PX = 32;
let database: TestDatabase;
let registry: TestRegistry;
let runner: TaskRunner;
let versionId = '';

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  registry = await openTestRegistry(database, [runner.base], runner.base);
  versionId = await importDrawnVersion({ database, registry, runner }, 'vit-test', 4);
});
after(async () => {
  await registry.close();
  await runner.close();
  await database.close();
});

async function launched(): Promise<string> {
  const { id } = await registry.runs.launchPretraining(ADMIN, {
    modelSlug: 'vit-test',
    datasets: [{ datasetVersionId: versionId }],
    encoder: 'VIT_TI16',
    imageSizePx: IMAGE_SIZE_PX,
    batchSize: 8,
    microBatchSize: 4,
    temperature: null,
    precision: 'FLOAT32',
    sampling: 'EVEN',
    steps: STEPS,
    dropPathRate: 0.2,
    layerDecay: 0.8,
    checkpointEverySteps: 1,
    seed: 7,
  });
  return id;
}

const checkpointOf = (sourceRunId: string) => database.db.checkpoint.findFirstOrThrow({ where: { sourceRunId } });

test('a vision transformer is trained, registered with its contract, and continues to the same weights', async () => {
  const whole = await launched();
  await (await runner.claim(pretrainTask, whole)).execute();
  const { config } = await database.db.run.findUniqueOrThrow({ where: { id: whole } });
  const { dropPathRate, layerDecay, viewSizePx, optimizer } = pretrainingConfigSchema.parse(config);
  assert.deepEqual([dropPathRate, layerDecay, viewSizePx, optimizer.name], [0.2, 0.8, IMAGE_SIZE_PX, 'ADAMW']);

  const { id } = await checkpointOf(whole);
  const checkpoint = await registry.models.getCheckpoint(ADMIN, id);
  assert.ok(checkpoint !== undefined);
  assert.equal(checkpoint.encoder, 'VIT_TI16');
  assert.equal(encoderNameOf(describeEncoder(checkpoint.architecture)), 'VIT_TI16');
  assert.equal(checkpoint.embeddingDim, 192);
  assert.deepEqual([checkpoint.inputContract.pooling, checkpoint.inputContract.embeddingLayer], ['CLS', 'norm']);

  const interrupted = await launched();
  let visits = 0;
  const first = await runner.claim(pretrainTask, interrupted, () => {
    if (!first.events.some((event) => event.startsWith('Probe at step 0 '))) return 'NO';
    visits += 1;
    return visits > 2 ? 'DRAIN' : 'NO';
  });
  await assert.rejects(first.execute(), TaskStopped);
  await database.db.run.update({ where: { id: interrupted }, data: { status: 'QUEUED', leaseExpiresAt: null } });
  const second = await runner.claim(pretrainTask, interrupted);
  await second.execute();
  assert.ok(second.events.some((event) => event.startsWith('Continues from step ')));
  assert.equal((await checkpointOf(interrupted)).tensorDigest, (await checkpointOf(whole)).tensorDigest);
});
