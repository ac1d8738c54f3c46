/**
 * Every pretraining method from its launch to a registered checkpoint, by the task with the real engine, and with them
 * one that is not part of the program.
 */
import '../support/toy-method.ts';
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { describeMethod, methodNames } from '../../src/protocol/pretraining/methods/index.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { ADMIN } from '../support/registry.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { createTaskRunner, type TaskRunner } from '../support/task-runner.ts';

let database: TestDatabase;
let server: TestServer;
let runner: TaskRunner;
let versionId = '';

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  runner = await createTaskRunner(database, server.folder);
  const images = path.join(server.folder, 'images');
  await drawTissue({ outDir: images, imagesPerLabel: 2, imageSizePx: 48, seed: 3, groups: 2 });
  const { id } = await database.db.dataset.create({
    data: { slug: 'drawn', name: 'drawn', imageKind: 'PATCH', synthetic: true },
  });
  const run = await server.services.runs.launchImport(ADMIN, { datasetId: id, path: images, layout: 'FLAT' });
  await (await runner.claim(importDatasetTask, run.id)).execute();
  versionId = (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: run.id } })).id;
});
after(async () => {
  await server.close();
  await database.close();
});

/** So small that a step is quick. */
const OPTIONS: Readonly<Record<string, object>> = {
  SIMCLR: { decoupled: true },
  BARLOW_TWINS: { projectionDim: 16 },
  VICREG: { projectionDim: 16 },
  DINO: { prototypeCount: 24, hiddenDim: 16, bottleneckDim: 8, localViewCount: 2 },
  MOCO: { version: 'V3', projectionDim: 8, hiddenDim: 16 },
  TOY: { pull: 2 },
};

const answer = z.object({
  data: z.object({
    run: z.object({
      title: z.string(),
      status: z.string(),
      explanation: z.array(z.string()),
      config: z.object({ method: z.looseObject({ name: z.string() }) }),
      watchedSeries: z.array(z.object({ name: z.string() })),
      metrics: z.array(z.object({ name: z.string(), points: z.array(z.object({ value: z.number() })) })),
      checkpoints: z.array(z.object({ step: z.number(), sha256: z.string() })),
    }),
  }),
});

describe('a pretraining by', () => {
  for (const name of methodNames())
    test(`${name}, in micro-batches, registers its encoder and says how it was made`, async () => {
      const options = OPTIONS[name];
      assert.ok(options !== undefined, `${name} has no small options in this test`);
      const launched = await server.ask(
        'mutation ($input: LaunchPretrainingInput!) { launchPretraining(input: $input) { run { id } userErrors { code message } } }',
        {
          input: {
            modelSlug: name.toLowerCase().replaceAll('_', '-'),
            datasets: [{ datasetVersionId: versionId }],
            encoder: 'RESNET18',
            method: name,
            methodOptions: options,
            temperature: null,
            imageSizePx: 40,
            batchSize: 4,
            microBatchSize: 2,
            steps: 2,
            seed: 5,
            probe: { enabled: false },
          },
        },
      );
      assert.deepEqual(at(launched, 'data.launchPretraining.userErrors'), [], JSON.stringify(launched));
      const id = String(at(launched, 'data.launchPretraining.run.id'));
      await (await runner.claim(pretrainTask, id)).execute();
      const { run } = answer.parse(
        await server.ask(
          'query ($id: ID!) { run(id: $id) { title status explanation config watchedSeries { name } metrics { name points { value } } checkpoints { step sha256 } } }',
          { id },
        ),
      ).data;
      assert.equal(run.status, 'SUCCEEDED');
      assert.deepEqual(
        run.checkpoints.map(({ step }) => step),
        [2],
      );
      const { title, paper, series: watched } = describeMethod(name);
      const { name: method, ...settings } = run.config.method;
      assert.equal(method, name);
      assert.deepEqual({ ...settings, ...options }, settings);
      assert.deepEqual(
        run.watchedSeries.map((each) => each.name),
        watched.map((each) => each.name),
      );
      assert.ok(run.explanation.some((sentence) => sentence.startsWith(`${title} (${paper}): `)));
      assert.equal(run.title.includes(` by ${title} on `), name !== 'SIMCLR');
      for (const series of ['loss', 'embeddingStd', 'effectiveRank', ...watched.map((each) => each.name)]) {
        const points = run.metrics.find((each) => each.name === series)?.points ?? [];
        assert.equal(points.length, 2, series);
        assert.ok(points.every(({ value }) => Number.isFinite(value)));
      }
    });
});
