/**
 * The database restarts during every phase of a run: a real PostgreSQL is stopped and started again, while the worker
 * and the server connect to it through a TCP proxy that disconnects them or drops their traffic. No run loses a step or
 * an attempt.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { RunRecord } from '../../src/modules/runs/index.ts';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { isDatabaseFault } from '../../src/platform/database-fault.ts';
import { openDatabase, transactionsOf } from '../../src/platform/db.ts';
import { applyMigrations, MIGRATIONS_DIR, readMigrations } from '../../src/platform/migrate.ts';
import { startPostgres, type PostgresServer } from '../../src/platform/postgres.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { artifactPlaceOf } from '../support/artifact-place.ts';
import { at } from '../support/catalogue.ts';
import { makeRun } from '../support/checkpoints.ts';
import type { TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startTestWorker, type TestWorker } from '../support/processes.ts';
import { ADMIN, openTestRegistry, type TestRegistry } from '../support/registry.ts';
import { startTestServer } from '../support/server.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

const STEPS = 12;
const KEEP_EVERY = 4;
/** Allows for two busy cores, for loading TensorFlow, and for the 30 s until a statement without an answer fails. */
const RUN_DEADLINE_MS = 240_000;
/** A lease lasts 20 s. */
const EXPIRY_DEADLINE_MS = 60_000;

let base = '';
let postgres: PostgresServer;
/** The connection of the worker's server, and of its reaper, to the database: the tests interrupt it. */
let proxy: TcpProxy;
/** The test's own connection, never interrupted. A proxy too, because PostgreSQL restarts on another port. */
let ownProxy: TcpProxy;
let database: TestDatabase;
let registry: TestRegistry;
let worker: TestWorker;
let datasetId = '';
let versionId = '';

function urlThrough({ port }: TcpProxy): string {
  const url = new URL(postgres.url);
  url.port = String(port);
  return url.href;
}

function databaseThrough(its: TcpProxy, maxConnections: number): TestDatabase {
  const url = urlThrough(its);
  const db = openDatabase(url, { maxConnections });
  return { url, db, transact: transactionsOf(db), close: () => db.$disconnect() };
}

before(async () => {
  base = await realpath(await mkdtemp(path.join(tmpdir(), 'paraffin-failover-')));
  const dataDir = path.join(base, 'data');
  await mkdir(dataDir);
  await drawTissue({ outDir: path.join(base, 'images'), imagesPerLabel: 8, imageSizePx: 48, seed: 3, groups: 4 });
  postgres = await startPostgres(path.join(base, 'postgres'));
  await applyMigrations(postgres.url, await readMigrations(MIGRATIONS_DIR));
  const upstreamPort = (): Promise<number> => Promise.resolve(Number(new URL(postgres.url).port));
  proxy = await startTcpProxy(upstreamPort);
  ownProxy = await startTcpProxy(upstreamPort);
  database = databaseThrough(ownProxy, 4);
  registry = await openTestRegistry(database, [base]);
  worker = await startTestWorker({ databaseUrl: urlThrough(proxy), dataDir, name: 'failover' });
  datasetId = (
    await database.db.dataset.create({
      data: { slug: 'failover-test', name: 'Failover test', imageKind: 'PATCH', synthetic: true },
    })
  ).id;
});
after(async () => {
  worker.signal('SIGKILL');
  await worker.gone;
  await registry.close();
  await database.close();
  await proxy.close();
  await ownProxy.close();
  await postgres.stop();
  await rm(base, { recursive: true, force: true });
});

/** Restarts PostgreSQL with the same data on another port: no connection, transaction or lock survives. */
async function startPostgresAgain(): Promise<void> {
  await postgres.stop();
  postgres = await startPostgres(path.join(base, 'postgres'));
  await eventually('PostgreSQL to answer', () =>
    database.db.$queryRaw`SELECT 1`.then(
      () => true,
      () => undefined,
    ),
  );
}

/** Locks a table until PostgreSQL stops, and resolves when a transaction of the worker waits for the lock. */
async function untilWriteBlocks(table: string): Promise<void> {
  const holder = databaseThrough(ownProxy, 1);
  void holder.db
    .$transaction(
      async (tx) => {
        await tx.$executeRawUnsafe(`LOCK TABLE "${table}" IN EXCLUSIVE MODE`);
        await tx.$executeRaw`SELECT pg_sleep(3600)`;
      },
      { timeout: RUN_DEADLINE_MS },
    )
    .catch(() => holder.close());
  await eventually(
    `a write to ${table}`,
    async () => {
      const rows = await database.db.$queryRaw<unknown[]>`
        SELECT 1 FROM pg_locks WHERE NOT granted AND relation = ${`"${table}"`}::regclass`;
      return rows.length > 0 ? true : undefined;
    },
    RUN_DEADLINE_MS,
  );
}

async function untilLeaseExpired(runId: string): Promise<void> {
  await eventually(
    'the lease to expire',
    async () => {
      const rows = await database.db.$queryRaw<unknown[]>`
        SELECT 1 FROM "Run" WHERE id = ${runId}::uuid AND "leaseExpiresAt" < now()`;
      return rows.length > 0 ? true : undefined;
    },
    EXPIRY_DEADLINE_MS,
  );
}

/** Resolves when the proxy has refused a connection of the server. */
async function untilConnectionRefused(): Promise<void> {
  const before = proxy.refusedCount();
  await eventually('a refused connection', () => (proxy.refusedCount() > before ? true : undefined));
}

async function runOf(id: string): Promise<RunRecord> {
  const run = await registry.runs.get(ADMIN, id);
  assert.ok(run !== undefined);
  return run;
}

async function untilEnded(id: string): Promise<RunRecord> {
  return eventually(
    `run ${id} to end`,
    async () => {
      const run = await runOf(id);
      return ['SUCCEEDED', 'FAILED', 'CANCELED'].includes(run.status) ? run : undefined;
    },
    RUN_DEADLINE_MS,
  );
}

/** The run was never requeued. */
async function assertFirstAttemptSucceeds(id: string): Promise<void> {
  const run = await untilEnded(id);
  assert.deepEqual([run.status, run.attempt, run.failure], ['SUCCEEDED', 1, null]);
}

function launchPretraining(changes: object = {}): Promise<RunRecord> {
  return registry.runs.launchPretraining(ADMIN, {
    modelSlug: 'failover-test',
    datasets: [{ datasetVersionId: versionId }],
    encoder: 'RESNET18',
    imageSizePx: 32,
    batchSize: 4,
    steps: STEPS,
    temperature: 0.5,
    sampling: 'EVEN',
    precision: 'FLOAT32',
    checkpointEverySteps: KEEP_EVERY,
    probe: { enabled: false },
    seed: 7,
    ...changes,
  });
}

/** The result of a training and the kinds of its events, without those of progress, whose number depends on timing. */
async function outcomeOf(runId: string): Promise<object> {
  const [series] = await registry.runs.metrics(ADMIN, runId, ['loss']);
  const checkpoints = await database.db.checkpoint.findMany({ where: { sourceRunId: runId } });
  assert.equal(checkpoints.length, 1, 'exactly one checkpoint');
  const bytes = await openArtifactStore(artifactPlaceOf(path.join(base, 'data'))).read(checkpoints[0]?.sha256 ?? '');
  const hash = createHash('sha256');
  for (const { name, data } of readSafetensors(bytes).tensors)
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  const events = await registry.runs.eventsAfter(ADMIN, runId, 0);
  return {
    losses: series?.points.map(({ step, value }) => [step, value]),
    weightsSha256: hash.digest('hex'),
    kinds: events.map(({ kind }) => kind).filter((kind) => kind !== 'METRICS' && kind !== 'PROGRESS'),
  };
}

test('a transaction whose connection breaks between two statements is recognised as a database fault, a wrong statement is not', async () => {
  const broken = database.transact(async (tx) => {
    const [backend] = await tx.$queryRaw<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`;
    await database.db.$queryRaw`SELECT pg_terminate_backend(${backend?.pid ?? 0}::int)`;
    await eventually('the connection to have ended', async () => {
      const rows = await database.db.$queryRaw<unknown[]>`
        SELECT 1 FROM pg_stat_activity WHERE pid = ${backend?.pid ?? 0}::int`;
      return rows.length === 0 ? true : undefined;
    });
    await tx.$queryRaw`SELECT 1`;
  });
  await assert.rejects(broken, (error) => {
    assert.ok(isDatabaseFault(error), String(error));
    return true;
  });
  await assert.rejects(
    database.transact((tx) => tx.$queryRaw`SELECT 1 / 0`),
    (error) => !isDatabaseFault(error),
  );
});

test('an import seals its version although the database restarted while the import registered it', async () => {
  const registering = untilWriteBlocks('DatasetVersion');
  const run = await registry.runs.launchImport(ADMIN, {
    datasetId,
    path: path.join(base, 'images'),
    layout: 'FOLDER_PER_LABEL',
  });
  await registering;
  proxy.disconnect();
  await startPostgresAgain();
  await untilConnectionRefused();
  proxy.restore();
  await assertFirstAttemptSucceeds(run.id);
  const versions = await database.db.datasetVersion.findMany({ where: { datasetId } });
  assert.deepEqual(
    versions.map(({ status, imageCount }) => [status, imageCount]),
    [['SEALED', 32]],
  );
  versionId = versions[0]?.id ?? '';
});

test('a training takes every step once, although the database goes away at its start, for longer than its lease, and at its end', async () => {
  const undisturbed = await launchPretraining();
  await assertFirstAttemptSucceeds(undisturbed.id);

  const run = await launchPretraining();
  await eventually('a start', async () => ((await runOf(run.id)).status === 'RUNNING' ? true : undefined));
  proxy.disconnect();
  assert.equal((await runOf(run.id)).environment, null, 'the process of the run has written nothing yet');
  await startPostgresAgain();
  await untilConnectionRefused();
  const savingState = untilWriteBlocks('TrainingState');
  proxy.restore();

  await savingState;
  // The database's machine disappears without closing its connections, and another one takes over its address.
  proxy.blackhole();
  await startPostgresAgain();
  await untilLeaseExpired(run.id);
  const registering = untilWriteBlocks('Checkpoint');
  proxy.restore();

  await registering;
  proxy.disconnect();
  await startPostgresAgain();
  await untilConnectionRefused();
  proxy.restore();

  await assertFirstAttemptSucceeds(run.id);
  assert.deepEqual(await outcomeOf(run.id), await outcomeOf(undisturbed.id));
});

test('an evaluation gives the same numbers although the database restarted during its registration', async () => {
  const checkpoint = await database.db.checkpoint.findFirstOrThrow({ where: { step: STEPS } });
  const launch = (): Promise<RunRecord> =>
    registry.evaluations.launch(ADMIN, {
      checkpointId: checkpoint.id,
      datasetVersionId: versionId,
      protocol: 'LINEAR_PROBE',
      folds: 4,
      seed: 1,
      options: { bootstrapResamples: 100 },
    });
  const disturbed = await launch();
  await untilWriteBlocks('Evaluation');
  proxy.disconnect();
  await startPostgresAgain();
  await untilConnectionRefused();
  proxy.restore();
  await assertFirstAttemptSucceeds(disturbed.id);
  await assertFirstAttemptSucceeds((await launch()).id);
  const evaluations = await registry.evaluations.ofCheckpoint(ADMIN, checkpoint.id, 3);
  assert.equal(evaluations.length, 2, 'each run registered one');
  assert.deepEqual(evaluations[0]?.metrics, evaluations[1]?.metrics);
});

test('a cancellation that the worker could not receive is delivered afterwards, and the training state is saved', async () => {
  const run = await launchPretraining({ steps: 100_000, checkpointEverySteps: 100_000 });
  const lastStep = async (): Promise<number> =>
    (await registry.runs.metrics(ADMIN, run.id, ['loss'])).at(0)?.points.at(-1)?.step ?? 0;
  await eventually('a loss', async () => ((await lastStep()) > 0 ? true : undefined), RUN_DEADLINE_MS);
  // With less work than this, a cancel may free the device without keeping a state (docs/reliability.md).
  const busySeconds = async (): Promise<number> =>
    (await database.db.run.findUniqueOrThrow({ where: { id: run.id } })).busySeconds;
  const before = await busySeconds();
  await eventually(
    'more than ten seconds of work',
    async () => ((await busySeconds()) > before + 10 ? true : undefined),
    RUN_DEADLINE_MS,
  );
  proxy.disconnect();
  await startPostgresAgain();
  await registry.runs.cancel(ADMIN, run.id);
  await untilLeaseExpired(run.id);
  proxy.restore();
  const ended = await untilEnded(run.id);
  assert.deepEqual([ended.status, ended.attempt], ['CANCELED', 1]);
  const states = await database.db.trainingState.findMany({ where: { runId: run.id } });
  // Steps are numbered from 0, and the step of a state is the number of completed steps.
  assert.deepEqual(
    states.map(({ step }) => step),
    [(await lastStep()) + 1],
  );
});

describe('a server', () => {
  test('answers with an error code and Retry-After, keeps its subscribers, and recovers by itself', async (context) => {
    // A worker would claim the run, and then only its lease allows events.
    worker.signal('SIGKILL');
    await worker.gone;
    const proxied = databaseThrough(proxy, 4);
    const server = await startTestServer(proxied);
    context.after(async () => {
      await server.close();
      await proxied.close();
    });
    const runId = await makeRun(database);
    const appendEvent = (sequence: number): Promise<unknown> =>
      database.transact(async (tx) => {
        await tx.runEvent.create({ data: { runId, sequence, kind: 'PROGRESS' } });
        await tx.$queryRaw`SELECT pg_notify('run_events', ${runId})::text`;
      });
    await appendEvent(1);
    const client = createClient({
      url: `${server.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
    });
    context.after(() => client.dispose());
    const events = client.iterate({ query: `subscription { runEvents(runId: "${runId}") { sequence } }` });
    assert.equal(at((await events.next()).value, 'data.runEvents.sequence'), 1);

    const read = (): Promise<unknown> => server.ask('{ runs(first: 1) { totalCount } }');
    const ask = (route: string): Promise<Response> =>
      fetch(`${server.url}${route}`, { headers: { authorization: `Bearer ${server.adminKey}` } });
    assert.equal(at(await read(), 'errors'), undefined);
    proxy.disconnect();
    await startPostgresAgain();
    const answer = await read();
    assert.deepEqual(
      [at(answer, 'errors.0.extensions.code'), at(answer, 'errors.0.extensions.retryable')],
      ['DATABASE_UNREACHABLE', true],
    );
    const download = await ask(`/artifacts/${'0'.repeat(64)}`);
    assert.deepEqual([download.status, at(await download.json(), 'code')], [503, 'DATABASE_UNREACHABLE']);
    assert.ok(Number(download.headers.get('retry-after')) > 0);
    await appendEvent(2);
    proxy.restore();
    await eventually('an answer', async () => (at(await read(), 'errors') === undefined ? true : undefined));
    assert.equal(at((await events.next()).value, 'data.runEvents.sequence'), 2);
  });
});
