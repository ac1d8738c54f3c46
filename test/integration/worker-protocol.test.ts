/**
 * The worker protocol over HTTP: what it refuses, what it forgives, a worker that shares nothing with its server but
 * the network, and one in another language.
 */
import assert from 'node:assert/strict';
import { execFile, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/env.ts';
import { NO_CAPABILITIES } from '../../src/protocol/requirements.ts';
import type { RunKind } from '../../src/protocol/runs.ts';
import { createHeardWorkers } from '../../src/modules/runs/index.ts';
import { createWorkerDesk } from '../../src/modules/workers/index.ts';
import { isDatabaseFault } from '../../src/platform/database-fault.ts';
import { openDatabase, transactionsOf } from '../../src/platform/db.ts';
import { CALL_BYTES_MAX, PROTOCOL_VERSION, type Claim, type ClaimedRun } from '../../src/protocol/worker-calls.ts';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { createHttpArtifacts } from '../../workers/registry/artifacts.ts';
import { createRunRegistry, createWorkerRegistry } from '../../workers/registry/http.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { ADMIN } from '../support/registry.ts';
import { newKey } from '../support/keys.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { temporaryFolder } from '../support/shards.ts';
import { createTaskRunner, type TaskRunner } from '../support/task-runner.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { openWorkerDoor } from '../support/worker-door.ts';

const RUN_DEADLINE_MS = 240_000;
const run = promisify(execFile);

let database: TestDatabase;
let server: TestServer;
let runner: TaskRunner;
let datasetId = '';
let versionId = '';
let workKey = '';

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  runner = await createTaskRunner(database, server.folder);
  const images = path.join(server.folder, 'images');
  await drawTissue({ outDir: images, imagesPerLabel: 6, imageSizePx: 48, seed: 3, groups: 3 });
  datasetId = (
    await database.db.dataset.create({
      data: { slug: 'protocol-test', name: 'Protocol test', imageKind: 'PATCH', synthetic: true },
    })
  ).id;
  const imported = await launchImport();
  await (await runner.claim(importDatasetTask, imported)).execute();
  versionId = (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: imported } })).id;
  workKey = await newKey(server, { role: 'OPERATOR', actions: ['WORK'] });
});
after(async () => {
  await server.close();
  await database.close();
});

async function launchImport(changes: object = {}): Promise<string> {
  const input = { datasetId, path: path.join(server.folder, 'images'), layout: 'FOLDER_PER_LABEL', ...changes };
  return (await server.services.runs.launchImport(ADMIN, input)).id;
}

function launchPretraining(changes: object = {}) {
  return server.services.runs.launchPretraining(ADMIN, {
    modelSlug: 'protocol-test',
    datasets: [{ datasetVersionId: versionId }],
    encoder: 'RESNET18',
    imageSizePx: 32,
    batchSize: 4,
    steps: 30,
    temperature: 0.5,
    sampling: 'EVEN',
    precision: 'FLOAT32',
    checkpointEverySteps: 100,
    probe: { enabled: false },
    seed: 7,
    ...changes,
  });
}

const claimOf = (changes: Partial<Claim> = {}): Claim => ({
  protocolVersion: PROTOCOL_VERSION,
  programVersion: '0',
  workerName: 'tester',
  kinds: ['IMPORT'],
  deviceId: null,
  runId: null,
  waitSeconds: 0,
  capabilities: NO_CAPABILITIES,
  ...changes,
});

const claim = (token: string, changes: Partial<Claim> = {}): Promise<ClaimedRun | undefined> =>
  createWorkerRegistry({ url: server.url, token }).claim(claimOf(changes), AbortSignal.timeout(60_000));

/** A call whose body may be anything. */
function postText(runId: string, token: string, call: string, body: string): Promise<Response> {
  return fetch(`${server.url}/worker/runs/${runId}/${call}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body,
  });
}

async function claimed(runId: string, kinds: RunKind[] = ['IMPORT']): Promise<ClaimedRun> {
  const found = await claim(workKey, { runId, kinds });
  assert.ok(found !== undefined);
  return found;
}

const callsOf = ({ run: { id }, token }: ClaimedRun) => createRunRegistry({ url: server.url, token }, id);

async function kindsOf(runId: string): Promise<string[]> {
  return (await server.services.runs.eventsAfter(ADMIN, runId, 0)).map(({ kind }) => kind);
}

async function expireLease(runId: string): Promise<void> {
  await database.db.run.update({ where: { id: runId }, data: { leaseExpiresAt: new Date(0) } });
}

describe('a claim', () => {
  test('needs a key that may WORK, which is not revoked', async () => {
    await assert.rejects(claim('none'), { code: 'UNAUTHENTICATED' });
    await assert.rejects(claim(await newKey(server, { role: 'CONTRIBUTOR' })), { code: 'FORBIDDEN' });
    await assert.rejects(claim(await newKey(server, { role: 'ADMIN', actions: ['READ', 'LAUNCH'] })), {
      code: 'FORBIDDEN',
    });
    const key = await newKey(server, { role: 'OPERATOR', actions: ['WORK'] });
    assert.equal(await claim(key), undefined);
    const { id } = await database.db.accessKey.findFirstOrThrow({ orderBy: { createdAt: 'desc' } });
    await server.services.access.revokeKey(ADMIN, id);
    await assert.rejects(claim(key), { code: 'UNAUTHENTICATED', message: /was revoked/ });
  });

  test('of a worker of another version is refused by name and takes nothing', async () => {
    const runId = await launchImport({ dryRun: true });
    await assert.rejects(claim(workKey, { protocolVersion: 99, programVersion: '7.0', workerName: 'old-one' }), {
      code: 'WORKER_INCOMPATIBLE',
      message: /"old-one" \(Paraffin 7\.0\).*version 99.*version 1\./,
    });
    assert.equal((await server.services.runs.get(ADMIN, runId))?.status, 'QUEUED');
    await server.services.runs.cancel(ADMIN, runId);
  });

  test('is answered as soon as a run is launched', async () => {
    const waiting = claim(workKey, { waitSeconds: 30 });
    const runId = await launchImport({ dryRun: true });
    const found = await waiting;
    assert.equal(found?.run.id, runId);
    assert.ok(found !== undefined);
    await callsOf(found).release({ message: 'Not now.' });
    await server.services.runs.cancel(ADMIN, runId);
  });
});

test('a worker is seen with what it carries, and one that drains takes no more', async () => {
  const seen = async () => {
    const answer = await server.ask('{ workers { name version kinds devices isAlive isDraining runs { id } } }');
    const workers = at(answer, 'data.workers');
    assert.ok(Array.isArray(workers), JSON.stringify(answer));
    return workers.find((worker: unknown) => at(worker, 'name') === 'gpu-3');
  };
  const drain = (isDraining: boolean) =>
    server.ask(
      'mutation($on: Boolean!) { drainWorker(name: "gpu-3", isDraining: $on) { worker { isDraining } userErrors { code } } }',
      { on: isDraining },
    );
  const asks = (changes: Partial<Claim> = {}) =>
    claim(workKey, { workerName: 'gpu-3', programVersion: '1.2', deviceId: 'GPU-1', ...changes });
  assert.equal(at(await drain(true), 'data.drainWorker.userErrors.0.code'), 'NOT_FOUND');
  assert.equal(await asks({ kinds: ['EVALUATION'] }), undefined);
  const runId = await launchImport({ dryRun: true });
  const found = await asks({ deviceId: null });
  assert.equal(found?.run.id, runId);
  assert.ok(found !== undefined);
  assert.deepEqual(await seen(), {
    ...{ name: 'gpu-3', version: '1.2', kinds: ['IMPORT', 'EVALUATION'], devices: ['GPU-1'] },
    ...{ isAlive: true, isDraining: false, runs: [{ id: runId }] },
  });
  assert.equal(at(await drain(true), 'data.drainWorker.worker.isDraining'), true);
  const next = await launchImport({ dryRun: true });
  assert.equal(await asks(), undefined, 'it takes no more');
  await callsOf(found).succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: 'Done.' });
  assert.deepEqual(at(await seen(), 'runs'), []);
  await drain(false);
  const again = await asks({ deviceId: null });
  assert.equal(again?.run.id, next);
  assert.ok(again !== undefined);
  await callsOf(again).succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: 'Done.' });
});

test('a worker is forgotten a week after it was heard, but not while it carries a run', async () => {
  const runId = await launchImport({ dryRun: true });
  const found = await claim(workKey, { workerName: 'long-run', runId });
  assert.ok(found !== undefined);
  let newcomers = 0;
  const isKnown = async (): Promise<boolean> => {
    // The first claim of a worker deletes those that are forgotten.
    await claim(workKey, { workerName: `newcomer-${(newcomers += 1)}`, kinds: ['EXPORT'] });
    return (await database.db.worker.count({ where: { name: 'long-run' } })) === 1;
  };
  const lastSeenAt = new Date(Date.now() - 8 * 24 * 3_600_000);
  await database.db.worker.update({ where: { name: 'long-run' }, data: { lastSeenAt } });
  assert.equal(await isKnown(), true);
  await callsOf(found).succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: 'Done.' });
  assert.equal(await isKnown(), false);
});

test('a call that does not exist and a body that is not JSON are refused with what to do', async () => {
  const runId = await launchImport({ dryRun: true });
  const found = await claimed(runId);
  const post = async (call: string, body: string): Promise<unknown> => {
    const response = await postText(runId, found.token, call, body);
    const failure: unknown = await response.json();
    return [response.status, at(failure, 'code'), at(failure, 'message')];
  };
  assert.deepEqual(await post('finish', '{}'), [404, 'NOT_FOUND', 'The call finish does not exist.']);
  assert.deepEqual(await post('renew', '{"busySeconds":'), [400, 'BAD_INPUT', 'The body is not JSON in UTF-8.']);
  await callsOf(found).succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: 'Done.' });
});

test('the plan of a pretraining is its worker to change, and nothing that its launch decided', async () => {
  const { id } = await launchPretraining();
  const found = await claimed(id, ['PRETRAINING']);
  const calls = callsOf(found);
  const { config } = found.run;
  assert.ok(typeof config === 'object' && config !== null);
  for (const [field, value] of Object.entries({
    modelSlug: 'another-model',
    datasets: [],
    encoder: 'RESNET50',
    seed: 8,
  }))
    await assert.rejects(calls.freezeConfig({ config: { ...config, [field]: value } }), {
      code: 'BAD_INPUT',
      field: `input.config.${field}`,
    });
  await assert.rejects(calls.freezeConfig({ config: { steps: 3 } }), { code: 'BAD_INPUT' });
  await calls.freezeConfig({ config: { ...config, steps: 20, explanation: ['Slower than planned.'] } });
  const changed = (await server.services.runs.get(ADMIN, id))?.config;
  assert.deepEqual(
    [at(changed, 'steps'), at(changed, 'modelSlug'), at(changed, 'explanation')],
    [20, 'protocol-test', ['Slower than planned.']],
  );
  await calls.fail({ failure: { class: 'USER', code: 'BAD_INPUT', message: 'Enough.', hint: null } });

  const imported = await claimed(await launchImport({ dryRun: true }));
  await assert.rejects(callsOf(imported).freezeConfig({ config }), { code: 'BAD_INPUT', message: /IMPORT/ });
  await callsOf(imported).succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: 'Done.' });
});

describe('the token of a run', () => {
  test('opens no other run, and nothing after the end', async () => {
    const [first, second] = [await launchImport({ dryRun: true }), await launchImport({ dryRun: true })];
    const [one, two] = [await claimed(first), await claimed(second)];
    const astray = createRunRegistry({ url: server.url, token: one.token }, second);
    await assert.rejects(astray.renew({ busySeconds: 0 }), { code: 'FORBIDDEN' });
    const forged = one.token.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'));
    await assert.rejects(createRunRegistry({ url: server.url, token: forged }, first).renew({ busySeconds: 0 }), {
      code: 'UNAUTHENTICATED',
    });
    for (const each of [one, two])
      await callsOf(each).succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: '.' });
    await assert.rejects(callsOf(one).renew({ busySeconds: 0 }), { code: 'LEASE_LOST' });
    const response = await fetch(`${server.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${one.token}` },
      body: JSON.stringify({ query: '{ runs { totalCount } }' }),
    });
    assert.equal(response.status, 401, 'it is not a key');
  });

  test('is void once another worker has the run, and holds again if none has taken it', async () => {
    const runId = await launchImport({ dryRun: true });
    const lapsed = await claimed(runId);
    await expireLease(runId);
    assert.equal(await runner.ledger.requeueExpired(), 1);
    assert.equal((await server.services.runs.get(ADMIN, runId))?.status, 'QUEUED');
    await callsOf(lapsed).report({ sequence: 1, progress: 0.5, message: 'Still here.' });
    const again = await server.services.runs.get(ADMIN, runId);
    assert.deepEqual([again?.status, again?.attempt], ['RUNNING', 1]);

    await expireLease(runId);
    await runner.ledger.requeueExpired();
    const next = await claimed(runId);
    assert.equal(next.run.attempt, 2);
    const calls = callsOf(lapsed);
    const failure = { class: 'INTERNAL', code: 'INTERNAL', message: 'Late.', hint: null } as const;
    await assert.rejects(calls.renew({ busySeconds: 0 }), { code: 'LEASE_LOST' });
    await assert.rejects(calls.report({ sequence: 2, progress: 0.6 }), { code: 'LEASE_LOST' });
    await assert.rejects(calls.fail({ failure }), { code: 'LEASE_LOST' });
    await assert.rejects(calls.succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: 'Late.' }), {
      code: 'LEASE_LOST',
    });
    await callsOf(next).succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: 'Done.' });
    assert.equal((await kindsOf(runId)).filter((kind) => kind === 'SUCCEEDED').length, 1);
  });
});

test('a worker whose calls arrive keeps its run although the database does not answer them; a made-up token keeps none', async (context) => {
  const proxy = await startTcpProxy(() => Promise.resolve(Number(new URL(database.url).port)));
  const url = new URL(database.url);
  url.port = String(proxy.port);
  const db = openDatabase(url.href, { maxConnections: 2, silenceTimeoutMs: 3_000 });
  context.after(async () => {
    await db.$disconnect();
    await proxy.close();
  });
  let nowMs = 0;
  const heard = createHeardWorkers(() => nowMs);
  const desk = await createWorkerDesk({
    ...{ db, transact: transactionsOf(db), heard, store: server.store, programVersion: 'test' },
    queue: { listen: async () => undefined },
  });
  const launch = () => launchImport({ dryRun: true });
  const [renewing, silent, forged] = [
    await claimed(await launch()),
    await claimed(await launch()),
    await claimed(await launch()),
  ];
  for (const { token } of [renewing, silent, forged]) await desk.leaseOfToken(token);
  nowMs = 60_000;
  proxy.blackhole();
  const calls = [renewing.token, forged.token.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'))].map((token) =>
    assert.rejects(desk.leaseOfToken(token), (error) => isDatabaseFault(error)),
  );
  for (const { run } of [renewing, silent, forged]) await expireLease(run.id);
  const looking = { serverId: 'this one', heard };
  await runner.ledger.requeueExpired(looking);
  await Promise.all(calls);
  const statuses = await Promise.all(
    [renewing, silent, forged].map(async ({ run }) => (await server.services.runs.get(ADMIN, run.id))?.status),
  );
  assert.deepEqual(statuses, ['RUNNING', 'QUEUED', 'QUEUED']);

  nowMs = 90_000;
  await expireLease(renewing.run.id);
  await runner.ledger.requeueExpired(looking);
  assert.equal((await server.services.runs.get(ADMIN, renewing.run.id))?.status, 'QUEUED', 'it is silent by now');
  for (const each of [renewing, silent, forged])
    await callsOf(each).succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: '.' });
});

describe('a report', () => {
  test('is accepted once and in order; NaN and too many points are refused whole', async () => {
    const { id } = await launchPretraining();
    const found = await claimed(id, ['PRETRAINING']);
    const { token } = found;
    const calls = callsOf(found);
    const report = (sequence: number, step: number, loss: number) =>
      calls.report({ sequence, progress: 0.1, points: [{ step, metrics: { loss } }] });
    await report(1, 0, 5);
    await report(1, 0, 5);
    await assert.rejects(report(3, 2, 3), { code: 'REPORT_OUT_OF_ORDER', message: /Report 3 came before report 2/ });
    await assert.rejects(report(2, 1, Number.NaN), { code: 'BAD_INPUT' });
    const many = Array.from({ length: 1_001 }, (_, step) => ({ step, metrics: { loss: 1 } }));
    await assert.rejects(calls.report({ sequence: 2, progress: 0.1, points: many }), {
      code: 'BAD_INPUT',
      message: /at most 1000 steps/,
    });
    const million = Array.from({ length: 1_000_000 }, () => '{"step":1,"metrics":{"loss":1}}').join();
    const flood = await postText(id, token, 'report', `{"sequence":2,"progress":0.1,"points":[${million}]}`);
    assert.deepEqual([flood.status, at(await flood.json(), 'code')], [400, 'BAD_INPUT']);
    const flooded = await postText(id, token, 'report', `{"sequence":2,"progress":${'1'.repeat(CALL_BYTES_MAX)}}`);
    assert.deepEqual(at(await flooded.json(), 'message'), `The body is larger than ${CALL_BYTES_MAX} bytes.`);
    await report(2, 1, 4);
    const [series] = await server.services.runs.metrics(ADMIN, id, ['loss']);
    assert.deepEqual(
      series?.points.map(({ step, value }) => [step, value]),
      [
        [0, 5],
        [1, 4],
      ],
    );
    assert.equal((await kindsOf(id)).filter((kind) => kind === 'METRICS').length, 2);
    await calls.fail({ failure: { class: 'USER', code: 'BAD_INPUT', message: 'Enough.', hint: null } });
  });
});

describe('an outcome', () => {
  test('of another kind, with bytes that are not stored, or with another size registers nothing', async () => {
    const { id } = await launchPretraining({ steps: 1 });
    const found = await claimed(id, ['PRETRAINING']);
    const calls = callsOf(found);
    const artifacts = createHttpArtifacts({
      door: { url: server.url, token: found.token },
      runId: id,
      workDir: server.folder,
      patience: {},
    });
    const encoder = {
      step: 1,
      probe: null,
      tensorDigest: 'd'.repeat(64),
      golden: { images: 'AAAA', embeddings: [[1]] },
    };
    const succeedWith = (weights: { sha256: string; byteSize: number }) =>
      calls.succeed({ outcome: { kind: 'PRETRAINING', encoders: [{ ...encoder, weights }] }, message: '.' });
    await assert.rejects(calls.succeed({ outcome: { kind: 'IMPORT', sealed: null }, message: '.' }), {
      code: 'OUTCOME_INVALID',
    });
    await assert.rejects(succeedWith({ sha256: 'e'.repeat(64), byteSize: 10 }), { code: 'ARTIFACT_NOT_FOUND' });
    const stored = await artifacts.put(Buffer.from('weights'));
    await assert.rejects(succeedWith({ ...stored, byteSize: 8 }), {
      code: 'OUTCOME_INVALID',
      message: /7 bytes, not 8/,
    });
    assert.equal(await database.db.checkpoint.count({ where: { sourceRunId: id } }), 0);
    assert.equal((await server.services.runs.get(ADMIN, id))?.status, 'RUNNING');

    const wrong = await fetch(`${server.url}/worker/runs/${id}/artifacts/${'0'.repeat(64)}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${found.token}` },
      body: 'other bytes',
    });
    assert.deepEqual([wrong.status, at(await wrong.json(), 'code')], [400, 'DIGEST_MISMATCH']);
    assert.deepEqual(await artifacts.read(stored.sha256), Buffer.from('weights'));
    await calls.fail({ failure: { class: 'USER', code: 'BAD_INPUT', message: 'Enough.', hint: null } });
  });
});

test('a worker with nothing but HTTP carries a training across a server that is gone for longer than a lease, with a clock that is an hour ahead', async (context) => {
  const door = await openWorkerDoor({ databaseUrl: database.url, dataDir: server.folder });
  const worker = fork(path.resolve(import.meta.dirname, '../../workers/main.ts'), [], {
    env: childEnvironment({
      PARAFFIN_URL: door.url,
      PARAFFIN_API_KEY: door.key,
      PARAFFIN_DATA_DIR: await temporaryFolder(context),
      PARAFFIN_WORKER_NAME: 'far-away',
      NODE_OPTIONS: `--import ${pathToFileURL(path.resolve(import.meta.dirname, '../support/clock-ahead.ts')).href}`,
      PARAFFIN_LOG_LEVEL: 'fatal',
    }),
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const gone = new Promise((resolve) => worker.once('exit', resolve));
  const steps = 60;
  const { id } = await launchPretraining({ steps });
  const lastStep = async (): Promise<number> => {
    const [series] = await server.services.runs.metrics(ADMIN, id, ['loss']);
    return series?.points.at(-1)?.step ?? -1;
  };
  await eventually('the first steps', async () => ((await lastStep()) >= 2 ? true : undefined), RUN_DEADLINE_MS);
  await door.close();
  await expireLease(id);
  await runner.ledger.requeueExpired();
  assert.equal((await server.services.runs.get(ADMIN, id))?.status, 'QUEUED');
  const again = await openWorkerDoor(
    { databaseUrl: database.url, dataDir: server.folder },
    Number(new URL(door.url).port),
  );
  try {
    const ended = await eventually(
      'the end of the training',
      async () => {
        const found = await server.services.runs.get(ADMIN, id);
        return found?.status === 'SUCCEEDED' || found?.status === 'FAILED' ? found : undefined;
      },
      RUN_DEADLINE_MS,
    );
    const events = await server.services.runs.eventsAfter(ADMIN, id, 0);
    const history = events.map(({ kind, message }) => `${kind} ${message ?? ''}`).join('\n');
    assert.deepEqual([ended.status, ended.attempt, ended.failure], ['SUCCEEDED', 1, null], history);
    const [series] = await server.services.runs.metrics(ADMIN, id, ['loss']);
    assert.deepEqual(
      series?.points.map(({ step }) => step),
      Array.from({ length: steps }, (_, step) => step),
      'no step is missing, and none is there twice',
    );
    const { sha256 } = await database.db.checkpoint.findFirstOrThrow({ where: { sourceRunId: id } });
    assert.equal(
      createHash('sha256')
        .update(await server.store.read(sha256 ?? ''))
        .digest('hex'),
      sha256,
    );
  } finally {
    worker.kill('SIGTERM');
    await gone;
    await again.close();
  }
});

test('a worker in Python carries an evaluation', async () => {
  const untrained = await launchPretraining({ steps: 0, checkpointEverySteps: null });
  await (await runner.claim(pretrainTask, untrained.id)).execute();
  const checkpoint = await database.db.checkpoint.findFirstOrThrow({ where: { sourceRunId: untrained.id } });
  const { id } = await server.services.evaluations.launch(ADMIN, {
    checkpointId: checkpoint.id,
    datasetVersionId: versionId,
    protocol: 'KNN',
    folds: 2,
  });
  const { stderr } = await run(
    'python3',
    [path.resolve(import.meta.dirname, '../support/majority_worker.py'), server.url, id],
    {
      env: childEnvironment({ PARAFFIN_API_KEY: workKey }),
    },
  );
  assert.equal(stderr, '');
  const found = await server.services.runs.get(ADMIN, id);
  assert.equal(found?.status, 'SUCCEEDED', JSON.stringify(found?.failure));
  const { imageCount, labelCounts } = await server.services.datasets
    .getVersion(ADMIN, versionId)
    .then((version) => version ?? assert.fail('the version is gone'));
  const evaluation = await database.db.evaluation.findFirstOrThrow({
    where: { runId: id },
    include: { metrics: true },
  });
  assert.deepEqual(
    evaluation.metrics.map(({ name, value }) => [name, value]),
    [['accuracy', Math.max(...labelCounts.map(({ count }) => count)) / imageCount]],
  );
  const predictions = (await server.store.read(evaluation.predictionsSha256 ?? '')).toString('utf8').trim().split('\n');
  assert.equal(predictions.length, imageCount);
});
