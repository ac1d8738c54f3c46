/** The life of a run in a real database: what launches it, who may write to it, how it ends. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createRunEvents } from '../../src/api/run-events.ts';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import { CANCELING_LEASE_SECONDS, CancelRequestedError, LEASE_SECONDS, MAX_ATTEMPTS_WITHOUT_PROGRESS, MAX_FRUITLESS_ATTEMPTS, RUN_EVENTS_CHANNEL, type ClaimedRun, type RunFailureRecord, type RunRecord, type RunStatus } from '../../src/modules/runs/index.ts';
import { listenForAnnouncements, type Announcements } from '../../src/platform/announcements.ts';
import { UNLIMITED } from '../../src/modules/access/index.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { ADMIN, openTestRegistry, type TestRegistry } from '../support/registry.ts';
import { keyHolder } from '../support/viewers.ts';

const UNKNOWN_ID = '00000000-0000-7000-8000-000000000000';
const FAULT: RunFailureRecord = { class: 'INTERNAL', code: 'INTERNAL', message: 'Something went wrong inside Paraffin.', hint: null };
const DIED: RunFailureRecord = { class: 'INFRASTRUCTURE', code: 'CHILD_DIED', message: 'The process ended without a word.', hint: null };

let base = '';
let database: TestDatabase;
let registry: TestRegistry;
let announcements: Announcements;
let datasetId = '';
/** 40 images, 4 labels, 40 groups. */
let versionId = '';
let draftId = '';
let checkpointId = '';

before(async () => {
  base = await realpath(await mkdtemp(path.join(tmpdir(), 'paraffin-runs-')));
  await mkdir(path.join(base, 'images'));
  await writeFile(path.join(base, 'labels.csv'), 'path\n');
  await symlink('/etc', path.join(base, 'leads-out'));
  database = await openTestDatabase();
  registry = await openTestRegistry(database, [base]);
  announcements = await listenForAnnouncements(database.url, RUN_EVENTS_CHANNEL, () => undefined);
  datasetId = (await database.db.dataset.create({ data: { slug: 'runs-test', name: 'Runs test', imageKind: 'PATCH', synthetic: true } })).id;
  versionId = await sealVersion({});
  draftId = (await database.transact((tx) => registry.datasets.createDraftVersion(tx, { datasetId }))).id;
  checkpointId = await makeCheckpoint('RESNET18');
});
after(async () => {
  await announcements.close();
  await registry.close();
  await database.close();
  await rm(base, { recursive: true, force: true });
});
// Each test finds an empty queue.
beforeEach(async () => {
  await database.db.run.updateMany({ where: { status: { in: ['QUEUED', 'RUNNING', 'CANCELING'] } }, data: { status: 'CANCELED' } });
});

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

async function sealVersion(changes: { labelNames?: string[]; imageCount?: number; groupCount?: number }): Promise<string> {
  const { labelNames = ['gland', 'lymphoid', 'stroma', 'tumour'], imageCount = 40, groupCount = 40 } = changes;
  const content = { digest: sha256('digest'), manifestSha256: sha256('manifest'), imageCount, byteSize: 1000, labelNames, labelCounts: [], groupCount, hasSplit: false, issues: [], thumbnails: [] };
  const shard = { sha256: sha256('shard'), byteSize: 1000, imageCount };
  const artifacts = [{ sha256: content.manifestSha256, byteSize: 10, mediaType: 'application/jsonl' }, { sha256: shard.sha256, byteSize: 1000, mediaType: 'application/x-tar' }];
  return database.transact(async (tx) => {
    const draft = await registry.datasets.createDraftVersion(tx, { datasetId });
    return (await registry.datasets.sealVersion(tx, { versionId: draft.id, ...content, shards: [shard], artifacts })).id;
  });
}

/** @param weights null for one of which only the source is known. */
async function makeCheckpoint(encoder: 'RESNET18' | 'RESNET50', weights: string | null = 'weights'): Promise<string> {
  const model = await database.db.model.upsert({ where: { slug: 'runs-test' }, create: { slug: 'runs-test', name: 'Runs test' }, update: {} });
  const version = (await database.db.checkpoint.count()) + 1;
  const stored = weights === null ? {} : { sha256: sha256(weights), byteSize: 10 };
  if (weights !== null) await database.db.artifact.upsert({ where: { sha256: sha256(weights) }, create: { sha256: sha256(weights), byteSize: 10, mediaType: 'application/octet-stream' }, update: {} });
  const inputContract = {
    imageSizePx: 224, resizeRule: 'STRETCH', channelOrder: 'RGB', valueRange: [0, 1], channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5],
    embeddingLayer: 'avgpool', micronsPerPixelMin: null, micronsPerPixelMax: null,
  };
  return (await database.db.checkpoint.create({ data: { modelId: model.id, version, encoder, embeddingDim: 512, inputContract, ...stored } })).id;
}

const pretrainingInput = (changes: object = {}): object => ({
  modelSlug: 'runs-test', datasets: [{ datasetVersionId: versionId }], encoder: 'RESNET18', imageSizePx: 64, batchSize: 8, steps: 10, temperature: 0.5, sampling: 'EVEN', precision: 'FLOAT32', ...changes,
});
const importInput = (changes: object = {}): object => ({ datasetId, path: path.join(base, 'images'), layout: 'FLAT', ...changes });
const evaluationInput = (changes: object = {}): object => ({ checkpointId, datasetVersionId: versionId, protocol: 'LINEAR_PROBE', folds: 5, ...changes });

const launchPretraining = (changes: object = {}): Promise<RunRecord> => registry.runs.launchPretraining(ADMIN, pretrainingInput(changes));
const launchImport = (changes: object = {}): Promise<RunRecord> => registry.runs.launchImport(ADMIN, importInput(changes));
const launchEvaluation = (changes: object = {}): Promise<RunRecord> => registry.evaluations.launch(ADMIN, evaluationInput(changes));

async function statusOf(id: string): Promise<RunStatus | undefined> {
  return (await registry.runs.get(ADMIN, id))?.status;
}

async function lapse(runId: string): Promise<void> {
  await database.db.run.update({ where: { id: runId }, data: { leaseExpiresAt: new Date(0) } });
}

async function claim(kind: 'IMPORT' | 'PRETRAINING' | 'EVALUATION' = 'PRETRAINING'): Promise<ClaimedRun> {
  const claimed = await registry.ledger.claim([kind], 'tester');
  assert.ok(claimed !== undefined);
  return claimed;
}

async function eventKinds(runId: string): Promise<string[]> {
  return (await registry.runs.eventsAfter(ADMIN, runId, 0)).map((event) => event.kind);
}

/** A run in any state, reached the way runs reach it. */
async function runThatIs(status: RunStatus): Promise<string> {
  const { id } = await launchPretraining();
  if (status === 'QUEUED') return id;
  const { lease } = await claim();
  switch (status) {
    case 'RUNNING':
      break;
    case 'CANCELING':
      await registry.runs.cancel(ADMIN, id);
      break;
    case 'CANCELED':
      await registry.runs.cancel(ADMIN, id);
      await registry.ledger.cancelNow(lease);
      break;
    case 'FAILED':
      await registry.ledger.fail(lease, FAULT);
      break;
    case 'SUCCEEDED':
      await registry.ledger.withLease(lease, (tx) => registry.ledger.succeed(tx, lease, 'Done.'));
      break;
  }
  assert.equal(await statusOf(id), status);
  return id;
}

describe('launching', () => {
  test('freezes every default, and sends the message with the row', async () => {
    const run = await launchPretraining();
    assert.deepEqual([run.kind, run.status, run.attempt, run.progress], ['PRETRAINING', 'QUEUED', 0, 0]);
    const config = JSON.parse(JSON.stringify(run.config));
    assert.deepEqual([config.weightDecay, config.projectionDim, config.datasets[0].digest, config.datasets[0].weight], [1e-6, 128, sha256('digest'), 1]);
    assert.ok(Number.isInteger(config.seed));
    assert.deepEqual(await eventKinds(run.id), ['QUEUED']);
    const [message] = await database.db.$queryRaw<{ name: string }[]>`SELECT name FROM queue.job WHERE data->>'runId' = ${run.id}`;
    assert.equal(message?.name, 'pretrain');
    const { id: importId } = await launchImport();
    const { id: evaluationId } = await launchEvaluation();
    const names = await database.db.$queryRaw<{ name: string }[]>`SELECT name FROM queue.job WHERE data->>'runId' IN (${importId}, ${evaluationId}) ORDER BY name`;
    assert.deepEqual(names.map(({ name }) => name), ['evaluate', 'import-dataset']);
  });

  test('an id in capitals is the same id', async () => {
    const run = await launchPretraining({ datasets: [{ datasetVersionId: versionId.toUpperCase() }] });
    assert.equal(JSON.parse(JSON.stringify(run.config)).datasets[0].datasetVersionId, versionId);
  });

  type Case = readonly [what: string, launch: () => Promise<unknown>, code: ErrorCode, field: string];
  const cases: readonly Case[] = [
    ['a dataset that is unknown', () => launchImport({ datasetId: UNKNOWN_ID }), 'DATASET_NOT_FOUND', 'input.datasetId'],
    ['a dataset id that is none', () => launchImport({ datasetId: 'breakhis' }), 'DATASET_NOT_FOUND', 'input.datasetId'],
    ['a layout that is unknown', () => launchImport({ layout: 'ZIP' }), 'BAD_INPUT', 'input.layout'],
    ['a path outside the roots', () => launchImport({ path: '/etc' }), 'IMPORT_PATH_NOT_ALLOWED', 'input.path'],
    ['a path that climbs out', () => launchImport({ path: `${base}/../../etc` }), 'IMPORT_PATH_NOT_ALLOWED', 'input.path'],
    ['a link that leads out', () => launchImport({ path: path.join(base, 'leads-out') }), 'IMPORT_PATH_NOT_ALLOWED', 'input.path'],
    ['a relative path', () => launchImport({ path: 'images' }), 'IMPORT_PATH_NOT_ALLOWED', 'input.path'],
    ['an empty path', () => launchImport({ path: '' }), 'BAD_INPUT', 'input.path'],
    ['a path with a zero byte', () => launchImport({ path: `${base}/a\0b` }), 'IMPORT_PATH_NOT_FOUND', 'input.path'],
    ['a folder that is missing', () => launchImport({ path: path.join(base, 'gone') }), 'IMPORT_PATH_NOT_FOUND', 'input.path'],
    ['a file in place of a folder', () => launchImport({ path: path.join(base, 'labels.csv') }), 'IMPORT_PATH_NOT_FOLDER', 'input.path'],
    ['a labels CSV that is missing', () => launchImport({ layout: 'CSV', labelsCsvPath: path.join(base, 'no.csv') }), 'IMPORT_PATH_NOT_FOUND', 'input.labelsCsvPath'],
    ['a labels CSV outside the roots', () => launchImport({ layout: 'CSV', labelsCsvPath: '/etc/passwd' }), 'IMPORT_PATH_NOT_ALLOWED', 'input.labelsCsvPath'],
    ['layout CSV without its file', () => launchImport({ layout: 'CSV' }), 'BAD_INPUT', 'input.labelsCsvPath'],
    ['patches of one pixel', () => launchImport({ patchSizePx: 1 }), 'BAD_INPUT', 'input.patchSizePx'],
    ['a key with a zero byte', () => launchImport({ idempotencyKey: 'a\0' }), 'BAD_INPUT', 'input.idempotencyKey'],

    ['a version that is unknown', () => launchPretraining({ datasets: [{ datasetVersionId: versionId }, { datasetVersionId: UNKNOWN_ID }] }), 'DATASET_VERSION_NOT_FOUND', 'input.datasets.1.datasetVersionId'],
    ['a version that is not sealed', () => launchPretraining({ datasets: [{ datasetVersionId: draftId }] }), 'DATASET_VERSION_NOT_SEALED', 'input.datasets.0.datasetVersionId'],
    ['a version named twice, once in capitals', () => launchPretraining({ datasets: [{ datasetVersionId: versionId }, { datasetVersionId: versionId.toUpperCase() }] }), 'BAD_INPUT', 'input.datasets.1.datasetVersionId'],
    ['fewer images than a batch', () => launchPretraining({ batchSize: 41 }), 'DATASET_TOO_SMALL', 'input.batchSize'],
    ['a batch of one', () => launchPretraining({ batchSize: 1 }), 'BAD_INPUT', 'input.batchSize'],
    ['a negative temperature', () => launchPretraining({ temperature: -1 }), 'BAD_INPUT', 'input.temperature'],
    ['more steps than sense', () => launchPretraining({ steps: 2_000_000_000 }), 'BAD_INPUT', 'input.steps'],
    ['neither epochs nor steps', () => launchPretraining({ steps: null }), 'BAD_INPUT', 'input.steps'],
    ['an image size that no encoder takes', () => launchPretraining({ imageSizePx: 16 }), 'BAD_INPUT', 'input.imageSizePx'],
    ['an encoder that is unknown', () => launchPretraining({ encoder: 'VGG16' }), 'BAD_INPUT', 'input.encoder'],
    ['an initial checkpoint that is unknown', () => launchPretraining({ initialCheckpointId: UNKNOWN_ID }), 'CHECKPOINT_NOT_FOUND', 'input.initialCheckpointId'],
    ['an initial checkpoint id that is none', () => launchPretraining({ initialCheckpointId: 'champion' }), 'CHECKPOINT_NOT_FOUND', 'input.initialCheckpointId'],
    ['an initial checkpoint of another encoder', async () => launchPretraining({ initialCheckpointId: await makeCheckpoint('RESNET50') }), 'CHECKPOINT_INCOMPATIBLE', 'input.initialCheckpointId'],
    ['an initial checkpoint without weights', async () => launchPretraining({ initialCheckpointId: await makeCheckpoint('RESNET18', null) }), 'CHECKPOINT_NOT_DOWNLOADABLE', 'input.initialCheckpointId'],

    ['a checkpoint that is unknown', () => launchEvaluation({ checkpointId: UNKNOWN_ID }), 'CHECKPOINT_NOT_FOUND', 'input.checkpointId'],
    ['an evaluation on a version that is unknown', () => launchEvaluation({ datasetVersionId: UNKNOWN_ID }), 'DATASET_VERSION_NOT_FOUND', 'input.datasetVersionId'],
    ['an evaluation on a version id that is none', () => launchEvaluation({ datasetVersionId: 'latest' }), 'DATASET_VERSION_NOT_FOUND', 'input.datasetVersionId'],
    ['an evaluation on a version that is not sealed', () => launchEvaluation({ datasetVersionId: draftId }), 'DATASET_VERSION_NOT_SEALED', 'input.datasetVersionId'],
    ['an evaluation on one label', async () => launchEvaluation({ datasetVersionId: await sealVersion({ labelNames: ['tumour'] }) }), 'TOO_FEW_LABELS', 'input.datasetVersionId'],
    ['fewer images than folds', async () => launchEvaluation({ datasetVersionId: await sealVersion({ imageCount: 4, groupCount: 4 }) }), 'TOO_FEW_IMAGES', 'input.folds'],
    ['fewer groups than folds', async () => launchEvaluation({ datasetVersionId: await sealVersion({ groupCount: 3 }) }), 'TOO_FEW_GROUPS', 'input.folds'],
    ['one fold', () => launchEvaluation({ folds: 1 }), 'BAD_INPUT', 'input.folds'],
    ['an option that is unknown', () => launchEvaluation({ options: { c: 1 } }), 'BAD_INPUT', 'input.options'],
    ['an option of another protocol', () => launchEvaluation({ protocol: 'KNN', options: { maxEpochs: 3 } }), 'BAD_INPUT', 'input.options'],
    ['an option out of its range', () => launchEvaluation({ protocol: 'FINE_TUNE', options: { maxEpochs: 0 } }), 'BAD_INPUT', 'input.options.maxEpochs'],
    ['a label fraction above 1', () => launchEvaluation({ options: { labelFractions: [0.5, 2] } }), 'BAD_INPUT', 'input.options.labelFractions.1'],
    ['a regression on words', () => launchEvaluation({ protocol: 'REGRESSION' }), 'LABELS_NOT_NUMERIC', 'input.datasetVersionId'],
    ['a protocol that is unknown', () => launchEvaluation({ protocol: 'GUESS' }), 'BAD_INPUT', 'input.protocol'],
  ];
  for (const [what, launch, code, field] of cases) {
    test(`refuses ${what}, and writes nothing`, async () => {
      const before = await written();
      await assert.rejects(launch(), (error: unknown) => {
        assert.ok(error instanceof DomainError, String(error));
        assert.deepEqual([error.code, error.field], [code, field]);
        assert.match(error.message, /^[A-Za-z].*\.$/);
        return true;
      });
      assert.deepEqual(await written(), before);
    });
  }

  async function written(): Promise<readonly number[]> {
    const [row] = await database.db.$queryRaw<{ count: bigint }[]>`SELECT count(*) AS count FROM queue.job`;
    return [await database.db.run.count(), await database.db.runEvent.count(), Number(row?.count ?? 0)];
  }

  test('needs the role: READER watches, CONTRIBUTOR imports and evaluates, OPERATOR trains', async () => {
    await assert.rejects(async () => registry.runs.launchImport(keyHolder('READER'), importInput()), { code: 'FORBIDDEN' });
    await assert.rejects(async () => registry.evaluations.launch(keyHolder('READER'), evaluationInput()), { code: 'FORBIDDEN' });
    await assert.rejects(async () => registry.runs.launchPretraining(keyHolder('CONTRIBUTOR'), pretrainingInput()), { code: 'FORBIDDEN' });
    await assert.rejects(async () => registry.runs.cancel(keyHolder('READER'), UNKNOWN_ID), { code: 'FORBIDDEN' });
    await assert.rejects(async () => registry.runs.resume({ kind: 'ANONYMOUS', mayRead: true }, UNKNOWN_ID), { code: 'UNAUTHENTICATED' });
    await assert.rejects(async () => registry.runs.get({ kind: 'ANONYMOUS', mayRead: false }, UNKNOWN_ID), { code: 'UNAUTHENTICATED' });
    assert.equal((await registry.runs.launchPretraining(keyHolder('OPERATOR'), pretrainingInput())).status, 'QUEUED');
  });
});

describe('an idempotency key', () => {
  test('gives the same run for the same input', async () => {
    const first = await launchPretraining({ idempotencyKey: 'same' });
    const second = await launchPretraining({ idempotencyKey: 'same' });
    assert.equal(second.id, first.id);
    assert.deepEqual(second.config, first.config, 'the drawn seed too');
  });

  test('is refused with another input, and with another kind of run', async () => {
    await launchPretraining({ idempotencyKey: 'taken' });
    const refusal = { code: 'IDEMPOTENCY_KEY_REUSED', field: 'input.idempotencyKey' };
    await assert.rejects(launchPretraining({ idempotencyKey: 'taken', steps: 11 }), refusal);
    await assert.rejects(launchImport({ idempotencyKey: 'taken' }), refusal);
  });

  test('makes one run of several requests at once', async () => {
    const runs = await Promise.all(Array.from({ length: 4 }, () => launchImport({ idempotencyKey: 'at once' })));
    assert.equal(new Set(runs.map((run) => run.id)).size, 1);
    const [row] = await database.db.$queryRaw<{ count: bigint }[]>`SELECT count(*) AS count FROM queue.job WHERE data->>'runId' = ${runs[0]?.id}`;
    assert.equal(Number(row?.count), 1);
  });
});

describe('cancelling', () => {
  const expected: readonly (readonly [RunStatus, RunStatus | 'RUN_NOT_CANCELABLE'])[] = [
    ['QUEUED', 'CANCELED'], ['RUNNING', 'CANCELING'], ['CANCELING', 'CANCELING'], ['CANCELED', 'CANCELED'], ['SUCCEEDED', 'RUN_NOT_CANCELABLE'], ['FAILED', 'RUN_NOT_CANCELABLE'],
  ];
  for (const [from, to] of expected) {
    test(`${from} becomes ${to}, and once more changes nothing`, async () => {
      const id = await runThatIs(from);
      for (const _time of ['first', 'second']) {
        if (to === 'RUN_NOT_CANCELABLE') {
          await assert.rejects(registry.runs.cancel(ADMIN, id), { code: to, field: 'id' });
          assert.equal(await statusOf(id), from);
        } else {
          assert.equal((await registry.runs.cancel(ADMIN, id)).status, to);
        }
      }
      const kinds = await eventKinds(id);
      assert.equal(new Set(kinds).size, kinds.length, `nothing is told twice: ${kinds.join(' ')}`);
    });
  }

  test('unknown ids', async () => {
    for (const id of [UNKNOWN_ID, 'nonsense', '']) {
      await assert.rejects(registry.runs.cancel(ADMIN, id), { code: 'RUN_NOT_FOUND', field: 'id' });
      await assert.rejects(registry.runs.resume(ADMIN, id), { code: 'RUN_NOT_FOUND', field: 'id' });
      assert.equal(await registry.runs.get(ADMIN, id), undefined);
    }
  });

  test('a run that ends well while it is being cancelled is CANCELED, and registers nothing', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    await registry.runs.cancel(ADMIN, run.id);
    const finishing = registry.ledger.withLease(lease, async (tx) => {
      await tx.model.create({ data: { slug: 'too-late', name: 'Too late' } });
      await registry.ledger.succeed(tx, lease, 'Done.');
    });
    await assert.rejects(finishing, CancelRequestedError);
    assert.equal(await database.db.model.count({ where: { slug: 'too-late' } }), 0);
    await registry.ledger.fail(lease, DIED);
    assert.equal(await statusOf(run.id), 'CANCELED', 'and so is one that fails');
  });
});

describe('resuming', () => {
  const expected: readonly (readonly [RunStatus, RunStatus | 'RUN_NOT_RESUMABLE'])[] = [
    ['QUEUED', 'QUEUED'], ['RUNNING', 'RUNNING'], ['CANCELING', 'RUN_NOT_RESUMABLE'], ['CANCELED', 'QUEUED'], ['FAILED', 'QUEUED'], ['SUCCEEDED', 'RUN_NOT_RESUMABLE'],
  ];
  for (const [from, to] of expected) {
    test(`${from} becomes ${to}`, async () => {
      const id = await runThatIs(from);
      if (to === 'RUN_NOT_RESUMABLE') {
        await assert.rejects(registry.runs.resume(ADMIN, id), { code: to, field: 'id' });
        assert.equal(await statusOf(id), from);
        return;
      }
      const resumed = await registry.runs.resume(ADMIN, id);
      assert.deepEqual([resumed.status, resumed.failure, resumed.finishedAt], [to, null, null]);
    });
  }

  test('an import or an evaluation is launched again instead', async () => {
    const { id } = await launchImport();
    await registry.runs.cancel(ADMIN, id);
    await assert.rejects(registry.runs.resume(ADMIN, id), { code: 'RUN_NOT_RESUMABLE' });
  });

  test('a resumed run is claimed anew, under a higher epoch and attempt', async () => {
    const id = await runThatIs('FAILED');
    await registry.runs.resume(ADMIN, id);
    const again = await claim();
    assert.deepEqual([again.run.id, again.run.attempt, again.lease.epoch], [id, 2, 2]);
  });
});

describe('claiming', () => {
  test('takes the oldest of the wanted kinds', async () => {
    const first = await launchPretraining();
    const second = await launchImport();
    const third = await launchPretraining();
    // An import waits in a line of its own.
    const positions = await Promise.all([first, second, third].map((run) => registry.runs.queuePosition(run)));
    assert.deepEqual(positions, [1, 1, 2]);
    assert.equal((await claim('IMPORT')).run.id, second.id);
    assert.equal((await claim()).run.id, first.id);
    assert.equal((await claim()).run.id, third.id);
    assert.equal(await registry.ledger.claim(['PRETRAINING', 'IMPORT', 'EVALUATION'], 'tester'), undefined);
    assert.equal(await registry.runs.queuePosition({ ...first, status: 'RUNNING' }), null);
  });

  test('never gives one run to two', async () => {
    for (let count = 0; count < 5; count += 1) await launchPretraining();
    const claimed = await Promise.all(Array.from({ length: 8 }, (_, index) => registry.ledger.claim(['PRETRAINING'], `claimer ${index}`)));
    const ids = claimed.flatMap((each) => (each === undefined ? [] : [each.run.id]));
    assert.equal(new Set(ids).size, ids.length);
    assert.ok(ids.length >= 1);
    for (let more = await registry.ledger.claim(['PRETRAINING'], 'last'); more !== undefined; more = await registry.ledger.claim(['PRETRAINING'], 'last')) ids.push(more.run.id);
    assert.equal(new Set(ids).size, 5);
    assert.equal(ids.length, 5);
  });
});

describe('a lease', () => {
  test('that was lost allows nothing, and changes nothing', async () => {
    const run = await launchPretraining();
    const stale = (await claim()).lease;
    await registry.ledger.release(stale, 'Given back.');
    const { lease } = await claim();
    const { ledger } = registry;
    const before = await snapshot(run.id);
    const lost = { code: 'LEASE_LOST' };
    await assert.rejects(ledger.report(stale, { progress: 0.9, points: [{ step: 1, metrics: { loss: 1 } }] }), lost);
    await assert.rejects(ledger.setEnvironment(stale, { engine: 'other' }), lost);
    await assert.rejects(ledger.withLease(stale, (tx) => ledger.keepTrainingState(tx, stale, { step: 5, sha256: sha256('shard') })), lost);
    await assert.rejects(ledger.withLease(stale, (tx) => ledger.succeed(tx, stale, 'Done.')), lost);
    await assert.rejects(ledger.fail(stale, DIED), lost);
    await assert.rejects(ledger.cancelNow(stale), lost);
    await assert.rejects(ledger.release(stale, 'Again.'), lost);
    assert.equal(await ledger.renew(stale), undefined);
    assert.deepEqual(await snapshot(run.id), before);
    assert.equal((await ledger.renew(lease))?.status, 'RUNNING');
  });

  for (const status of ['SUCCEEDED', 'FAILED', 'CANCELED'] as const) {
    test(`ends with the run: ${status} never changes`, async () => {
      const id = await runThatIs(status);
      const before = await snapshot(id);
      const { leaseEpoch } = await database.db.run.findUniqueOrThrow({ where: { id } });
      const lease = { runId: id, epoch: leaseEpoch };
      await assert.rejects(registry.ledger.report(lease, { progress: 0 }), { code: 'LEASE_LOST' });
      await assert.rejects(registry.ledger.fail(lease, DIED), { code: 'LEASE_LOST' });
      await assert.rejects(registry.ledger.release(lease, 'Again.'), { code: 'LEASE_LOST' });
      await assert.rejects(registry.ledger.withLease(lease, (tx) => registry.ledger.succeed(tx, lease, 'Done.')), { code: 'LEASE_LOST' });
      assert.equal(await registry.ledger.renew(lease), undefined);
      await registry.ledger.reapLapsed();
      assert.deepEqual(await snapshot(id), before);
    });
  }

  async function snapshot(id: string): Promise<object> {
    const { leaseExpiresAt: _, ...row } = await database.db.run.findUniqueOrThrow({ where: { id }, include: { events: true, metricChunks: true, trainingStates: true } });
    return row;
  }

  test('that lapsed puts the run back into the queue; one that was renewed does not', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    await lapse(run.id);
    assert.equal((await registry.ledger.renew(lease))?.status, 'RUNNING');
    assert.equal(await registry.ledger.reapLapsed(), 0);
    await lapse(run.id);
    assert.equal(await registry.ledger.reapLapsed(), 1);
    assert.equal(await statusOf(run.id), 'QUEUED');
    assert.equal(await registry.ledger.renew(lease), undefined);
    assert.equal((await claim()).lease.epoch, lease.epoch + 1);
  });

  test('that lapses while the run is CANCELING makes it CANCELED', async () => {
    const id = await runThatIs('CANCELING');
    await lapse(id);
    await registry.ledger.reapLapsed();
    assert.equal(await statusOf(id), 'CANCELED');
  });

  test('that lapses again and again ends the run as FAILED, but not as soon as a run that fails by its own doing', async () => {
    const run = await launchPretraining();
    for (let attempt = 1; attempt <= MAX_ATTEMPTS_WITHOUT_PROGRESS; attempt += 1) {
      assert.equal(await statusOf(run.id), 'QUEUED', `before attempt ${attempt}`);
      await claim();
      await lapse(run.id);
      await registry.ledger.reapLapsed();
    }
    const failed = await registry.runs.get(ADMIN, run.id);
    assert.deepEqual([failed?.status, failed?.attempt, failed?.failure?.class, failed?.failure?.code], ['FAILED', MAX_ATTEMPTS_WITHOUT_PROGRESS, 'INFRASTRUCTURE', 'WORKER_SILENT']);
  });

  test('tells of the folders that somebody works in: those of the run\'s last lease, while it is under way', async () => {
    await launchPretraining();
    const first = await claim();
    await lapse(first.lease.runId);
    assert.deepEqual(await registry.ledger.held([first.lease]), [first.lease], 'nobody took it back yet');
    await registry.ledger.reapLapsed();
    const second = await claim();
    assert.deepEqual(await registry.ledger.held([first.lease, second.lease]), [second.lease]);
    await registry.ledger.fail(second.lease, FAULT);
    assert.deepEqual(await registry.ledger.held([first.lease, second.lease]), []);
  });

  test('that ends later than a lease can tells of a clock that was set back: a dead worker is noticed one lease later', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    // To the database it is the same: its clock goes back an hour, or the instant it wrote moves an hour ahead.
    await database.db.$executeRaw`UPDATE "Run" SET "leaseExpiresAt" = "leaseExpiresAt" + interval '1 hour' WHERE id = ${run.id}::uuid`;
    assert.equal(await registry.ledger.reapLapsed(), 0);
    const [row] = await database.db.$queryRaw<{ seconds: number }[]>`SELECT extract(epoch FROM "leaseExpiresAt" - now())::float8 AS seconds FROM "Run" WHERE id = ${run.id}::uuid`;
    assert.ok(row !== undefined && row.seconds <= LEASE_SECONDS, `${row?.seconds} s`);
    assert.equal((await registry.ledger.renew(lease))?.status, 'RUNNING', 'a living worker loses nothing');
  });

  test('is short while a cancel waits, renewed or not', async () => {
    const id = await runThatIs('CANCELING');
    const secondsLeft = async (): Promise<number> => {
      const [row] = await database.db.$queryRaw<{ seconds: number }[]>`SELECT extract(epoch FROM "leaseExpiresAt" - now())::float8 AS seconds FROM "Run" WHERE id = ${id}::uuid`;
      return row?.seconds ?? Infinity;
    };
    assert.ok((await secondsLeft()) <= CANCELING_LEASE_SECONDS);
    const { leaseEpoch } = await database.db.run.findUniqueOrThrow({ where: { id } });
    assert.equal((await registry.ledger.renew({ runId: id, epoch: leaseEpoch }))?.status, 'CANCELING');
    assert.ok((await secondsLeft()) <= CANCELING_LEASE_SECONDS);
  });

  test('counts the time under way over all attempts, and afresh for a resumed run', async () => {
    const run = await launchPretraining();
    const first = await claim();
    await registry.ledger.renew(first.lease, 1.5);
    await registry.ledger.fail(first.lease, DIED);
    const second = await claim();
    assert.equal((await registry.ledger.renew(second.lease, 2))?.busySeconds, 3.5);
    await registry.ledger.fail(second.lease, FAULT);
    await registry.runs.resume(ADMIN, run.id);
    assert.equal((await registry.ledger.renew((await claim()).lease, 1))?.busySeconds, 1);
  });

  test('that two look at is reaped once', async () => {
    const run = await launchPretraining();
    await claim();
    await lapse(run.id);
    const counts = await Promise.all([registry.ledger.reapLapsed(), registry.ledger.reapLapsed(), registry.ledger.reapLapsed()]);
    assert.equal(counts.reduce((sum, count) => sum + count, 0), 1);
    assert.deepEqual(await eventKinds(run.id), ['QUEUED', 'STARTED', 'REQUEUED']);
  });
});

describe('the database itself', () => {
  const REFUSED = /is written to under its lease alone|does not hold run/;

  /** SQL as some program would send it that knows nothing of our code. */
  async function underLease(lease: string | undefined, sql: string, ...values: readonly unknown[]): Promise<void> {
    await database.transact(async (tx) => {
      if (lease !== undefined) await tx.$queryRaw`SELECT set_config('paraffin.lease', ${lease}, true)`;
      await tx.$executeRawUnsafe(sql, ...values);
    });
  }

  /** A run that was taken twice: what the first worker held is stale. */
  async function takenTwice(): Promise<{ readonly runId: string; readonly stale: string; readonly current: string }> {
    const { id } = await launchPretraining();
    const first = await claim();
    await registry.ledger.release(first.lease, 'Given back.');
    const second = await claim();
    return { runId: id, stale: `${id}:${first.lease.epoch}`, current: `${id}:${second.lease.epoch}` };
  }

  const modelId = async (): Promise<string> => (await database.db.model.findUniqueOrThrow({ where: { slug: 'runs-test' } })).id;
  const WRITES: readonly (readonly [what: string, sql: string, rest: () => Promise<readonly unknown[]>])[] = [
    ['a metric', 'SELECT append_run_metrics($1::uuid, $2, ARRAY[coalesce((SELECT max("lastStep") + 1 FROM "RunMetricChunk" WHERE "runId" = $1::uuid), 0)], ARRAY[0.5::float8])::text', () => Promise.resolve(['loss'])],
    ['an event of progress', `INSERT INTO "RunEvent" ("runId", sequence, kind) VALUES ($1::uuid, 1000, $2)`, () => Promise.resolve(['PROGRESS'])],
    ['a training state', `INSERT INTO "TrainingState" ("runId", step, sha256) VALUES ($1::uuid, 1, $2)`, () => Promise.resolve([sha256('shard')])],
    [
      'a checkpoint',
      `INSERT INTO "Checkpoint" (id, "modelId", version, encoder, "embeddingDim", "inputContract", "sourceRunId") VALUES (gen_random_uuid(), $2::uuid, 9000 + (random() * 1e6)::int, 'RESNET18', 512, '{}', $1::uuid)`,
      async () => [await modelId()],
    ],
    [
      'an evaluation',
      `INSERT INTO "Evaluation" (id, "checkpointId", "datasetVersionId", protocol, "runId", seed, options, split, baselines) VALUES (gen_random_uuid(), $2::uuid, $3::uuid, 'LINEAR_PROBE', $1::uuid, 1, '{}', '{}', '[]')`,
      () => Promise.resolve([checkpointId, versionId]),
    ],
    ['a sealed version', `INSERT INTO "DatasetVersion" (id, "datasetId", version, status, "importRunId") VALUES (gen_random_uuid(), $2::uuid, 9000 + (random() * 1e6)::int, 'DRAFT', $1::uuid)`, () => Promise.resolve([datasetId])],
    ['progress', `UPDATE "Run" SET progress = 0.5 WHERE id = $1::uuid AND $2 = $2`, () => Promise.resolve([''])],
  ];
  for (const [what, sql, rest] of WRITES) {
    test(`refuses ${what} under a stale lease, takes it under the current one, and refuses it again when the run has ended`, async () => {
      const { runId, stale, current } = await takenTwice();
      const write = async (lease: string | undefined): Promise<void> => underLease(lease, sql, runId, ...(await rest()));
      await assert.rejects(write(stale), REFUSED);
      if (what !== 'progress') await assert.rejects(write(undefined), REFUSED, 'and under none');
      await write(current);
      await registry.ledger.cancelNow({ runId, epoch: 2 });
      await assert.rejects(write(current), REFUSED);
    });
  }

  test('lets no epoch fall and no ended run rise but to be resumed', async () => {
    const { runId } = await takenTwice();
    await assert.rejects(database.db.run.update({ where: { id: runId }, data: { leaseEpoch: 1 } }), /never falls/);
    const succeeded = await runThatIs('SUCCEEDED');
    for (const status of ['QUEUED', 'RUNNING', 'FAILED'] as const) await assert.rejects(database.db.run.update({ where: { id: succeeded }, data: { status } }), /has ended/);
    const failed = await runThatIs('FAILED');
    await assert.rejects(database.db.run.update({ where: { id: failed }, data: { status: 'RUNNING' } }), /has ended/);
  });

  test('puts no second run on a device', async () => {
    await launchPretraining();
    const other = await launchPretraining();
    const first = await registry.ledger.claim(['PRETRAINING'], 'one', 'GPU-1');
    assert.equal(first?.run.deviceId, 'GPU-1');
    assert.equal(await registry.ledger.claim(['PRETRAINING'], 'two', 'GPU-1'), undefined);
    await assert.rejects(database.db.run.update({ where: { id: other.id }, data: { status: 'RUNNING', deviceId: 'GPU-1' } }), /Unique constraint/);
    assert.equal((await registry.ledger.claim(['PRETRAINING'], 'two', 'GPU-2'))?.run.id, other.id);
    await registry.ledger.cancelNow(first.lease);
    const third = await launchPretraining();
    assert.equal((await registry.ledger.claim(['PRETRAINING'], 'two', 'GPU-1'))?.run.id, third.id);
  });
});

describe('the order of the queue', () => {
  /** Each launch by a key of its own: people count, not keys. */
  const launchBy = (owner: string): Promise<RunRecord> => registry.runs.launchPretraining({ kind: 'KEY', keyId: randomUUID(), name: randomUUID(), owner, role: 'ADMIN', scopes: UNLIMITED }, pretrainingInput());

  async function order(runs: readonly RunRecord[]): Promise<(number | null)[]> {
    return Promise.all(runs.map(async (run) => registry.runs.queuePosition((await registry.runs.get(ADMIN, run.id)) ?? run)));
  }

  test('goes round between those who launch, and the position tells it', async () => {
    const ann = [await launchBy('ann'), await launchBy('ann'), await launchBy('ann')];
    assert.equal((await claim()).run.id, ann[0]?.id);
    const bob = [await launchBy('bob'), await launchBy('bob')];
    const cat = [await launchBy('cat')];
    const expected = [bob[0], cat[0], ann[1], bob[1], ann[2]].flatMap((run) => (run === undefined ? [] : [run]));
    assert.deepEqual(await order(expected), [1, 2, 3, 4, 5]);
    const started: (string | undefined)[] = [];
    for (let index = 0; index < expected.length; index += 1) {
      assert.deepEqual(await order(expected.slice(index)), Array.from({ length: expected.length - index }, (_, place) => place + 1), 'true all along');
      started.push((await claim()).run.id);
    }
    assert.deepEqual(started, expected.map(({ id }) => id));
  });

  test('charges nobody for runs that never began', async () => {
    const many = await Promise.all(Array.from({ length: 5 }, () => launchBy('dan')));
    for (const { id } of many) await registry.runs.cancel(ADMIN, id);
    const eve = [await launchBy('eve'), await launchBy('eve')];
    const dan = await launchBy('dan');
    const ids = [(await claim()).run.id, (await claim()).run.id, (await claim()).run.id];
    assert.deepEqual([ids[2], new Set(ids.slice(0, 2))], [eve[1]?.id, new Set([eve[0]?.id, dan.id])]);
  });

  test('gives a run that was taken back its old place, and a resumed one a new one', async () => {
    const first = await launchBy('fay');
    const { lease } = await claim();
    const second = await launchBy('fay');
    await registry.ledger.release(lease, 'Given back.');
    assert.deepEqual(await order([first, second]), [1, 2]);
    await registry.runs.cancel(ADMIN, first.id);
    await registry.runs.resume(ADMIN, first.id);
    assert.deepEqual(await order([second, first]), [1, 2]);
  });
});

describe('a run that dies', () => {
  test('is tried again as long as it keeps something in between', async () => {
    const run = await launchPretraining();
    for (let attempt = 1; attempt <= MAX_FRUITLESS_ATTEMPTS + 2; attempt += 1) {
      const { lease } = await claim();
      await registry.ledger.withLease(lease, (tx) => registry.ledger.keepTrainingState(tx, lease, { step: attempt, sha256: sha256('shard') }));
      await registry.ledger.fail(lease, DIED);
      assert.equal(await statusOf(run.id), 'QUEUED');
    }
    assert.deepEqual(await registry.ledger.latestTrainingState(run.id), { step: MAX_FRUITLESS_ATTEMPTS + 2, sha256: sha256('shard') });
  });

  const failure = (failureClass: RunFailureRecord['class'], code: string): RunFailureRecord => ({ class: failureClass, code, message: 'It failed.', hint: null });
  for (const facts of [failure('USER', 'TRAINING_DIVERGED'), failure('DATA', 'IMPORT_NOTHING_READABLE'), failure('INTERNAL', 'INTERNAL'), failure('INFRASTRUCTURE', 'ARTIFACT_CORRUPT'), failure('TIMEOUT', 'TIMED_OUT')]) {
    test(`of ${facts.class} ${facts.code} is not tried again: it would come to the same end`, async () => {
      const run = await launchPretraining();
      await registry.ledger.fail((await claim()).lease, facts);
      assert.equal(await statusOf(run.id), 'FAILED');
    });
  }
  for (const facts of [failure('INFRASTRUCTURE', 'ENOSPC'), failure('TIMEOUT', 'NO_PROGRESS')]) {
    test(`of ${facts.class} ${facts.code} is tried again, and given up after ${MAX_FRUITLESS_ATTEMPTS} attempts that kept nothing`, async () => {
      const run = await launchPretraining();
      for (let attempt = 1; attempt < MAX_FRUITLESS_ATTEMPTS; attempt += 1) {
        await registry.ledger.fail((await claim()).lease, facts);
        assert.equal(await statusOf(run.id), 'QUEUED');
      }
      await registry.ledger.fail((await claim()).lease, facts);
      const failed = await registry.runs.get(ADMIN, run.id);
      assert.deepEqual([failed?.status, failed?.failure?.code], ['FAILED', facts.code]);
    });
  }

  test('for want of memory goes on with half the micro-batch, the batch as it was, until there is nothing to halve', async () => {
    const run = await launchPretraining({ batchSize: 8 });
    const noMemory = failure('OUT_OF_MEMORY', 'OUT_OF_MEMORY');
    const taken: (number | null)[] = [];
    for (;;) {
      const claimed = await registry.ledger.claim(['PRETRAINING'], 'tester');
      if (claimed === undefined) break;
      taken.push(claimed.run.microBatchSize);
      assert.deepEqual(claimed.run.config, run.config);
      await registry.ledger.fail(claimed.lease, noMemory);
    }
    assert.deepEqual(taken, [null, 4, 2]);
    assert.equal(await statusOf(run.id), 'FAILED');
    const { id } = await launchEvaluation();
    await registry.ledger.fail((await claim('EVALUATION')).lease, noMemory);
    assert.equal(await statusOf(id), 'FAILED', 'an evaluation has no batch to split');
  });

  test('is not charged for a worker that went silent or a database that did not answer, however often between its own faults', async () => {
    const run = await launchPretraining();
    const unreachable = failure('INFRASTRUCTURE', 'DATABASE_UNREACHABLE');
    for (let round = 1; round < MAX_FRUITLESS_ATTEMPTS; round += 1) {
      await registry.ledger.fail((await claim()).lease, DIED);
      for (let count = 0; count < MAX_FRUITLESS_ATTEMPTS; count += 1) {
        await registry.ledger.fail((await claim()).lease, unreachable);
        await claim();
        await lapse(run.id);
        await registry.ledger.reapLapsed();
        assert.equal(await statusOf(run.id), 'QUEUED');
      }
    }
    await registry.ledger.fail((await claim()).lease, DIED);
    assert.equal(await statusOf(run.id), 'FAILED');
  });

  test('has as many attempts again when it is resumed', async () => {
    const run = await launchPretraining();
    for (let attempt = 1; attempt <= MAX_FRUITLESS_ATTEMPTS; attempt += 1) await registry.ledger.fail((await claim()).lease, DIED);
    assert.equal(await statusOf(run.id), 'FAILED');
    await registry.runs.resume(ADMIN, run.id);
    await registry.ledger.fail((await claim()).lease, DIED);
    assert.equal(await statusOf(run.id), 'QUEUED');
  });
});

describe('what a run tells', () => {
  test('events are numbered 1, 2, 3 whoever writes at the same time', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    await Promise.all([
      ...Array.from({ length: 12 }, (_, step) => registry.ledger.report(lease, { progress: step / 20, points: [{ step, metrics: { loss: 1 } }] })),
      registry.runs.cancel(ADMIN, run.id),
      registry.runs.cancel(ADMIN, run.id),
    ]);
    const events = await registry.runs.eventsAfter(ADMIN, run.id, 0);
    assert.deepEqual(events.map((event) => event.sequence), Array.from({ length: 15 }, (_, index) => index + 1));
    assert.deepEqual((await registry.runs.eventsAfter(ADMIN, run.id, 13)).map((event) => event.sequence), [14, 15]);
  });

  test('metrics become series; a step told twice keeps its first value, and what is no number is left out', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    await registry.ledger.report(lease, { progress: 0.1, points: [{ step: 0, metrics: { loss: 3, imagesPerSecond: 50 } }, { step: 1, metrics: { loss: 2 } }] });
    await registry.ledger.report(lease, { progress: 0.2, points: [{ step: 1, metrics: { loss: 9 } }, { step: 2, metrics: { loss: Number.NaN } }, { step: 3, metrics: { loss: 1 } }] });
    const series = await registry.runs.metrics(ADMIN, run.id, null);
    assert.deepEqual(series.map(({ name, unit, points }) => [name, unit, points.map(({ step, value }) => [step, value])]), [
      ['imagesPerSecond', 'images/s', [[0, 50]]],
      ['loss', null, [[0, 3], [1, 2], [3, 1]]],
    ]);
    assert.ok(series.every(({ points }) => points.every(({ recordedAt }) => Math.abs(recordedAt.getTime() - Date.now()) < 60_000)));
    assert.deepEqual((await registry.runs.metrics(ADMIN, run.id, ['loss', 'unknown'])).map(({ name }) => name), ['loss']);
    assert.deepEqual(await registry.runs.metrics(ADMIN, run.id, []), []);
    assert.deepEqual(await registry.runs.metrics(ADMIN, run.id, ['a\0b']), []);
  });

  /** A fall with a needle in it: 5,000 points of which one stands out. */
  const NEEDLE_STEP = 3_217;
  const valueAt = (step: number): number => (step === NEEDLE_STEP ? 100 : 5 - step / 1000);

  test('a long series is thinned to what was asked for, keeps its ends and every spike, and shows every point through a window', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    for (let start = 0; start < 5_000; start += 50) {
      await registry.ledger.report(lease, { progress: 0.5, points: Array.from({ length: 50 }, (_, index) => ({ step: start + index, metrics: { loss: valueAt(start + index) } })) });
    }
    const chunks = await database.db.runMetricChunk.findMany({ where: { runId: run.id }, orderBy: { firstStep: 'asc' } });
    assert.deepEqual(chunks.flatMap((chunk) => chunk.steps), Array.from({ length: 5_000 }, (_, step) => step));
    assert.ok(chunks.length <= 40, `${chunks.length} rows for 5,000 points`);
    // 10 and 40 make parts of several chunks' extremes, 100 takes them as they are, 1000 makes parts of a few points.
    for (const maxPoints of [10, 40, 100, 1000]) {
      const [series] = await registry.runs.metrics(ADMIN, run.id, ['loss'], { maxPoints });
      const points = series?.points ?? [];
      assert.ok(points.length <= maxPoints && points.length >= maxPoints / 3, `${points.length} of ${maxPoints}`);
      assert.deepEqual([points[0]?.step, points.at(-1)?.step], [0, 4_999]);
      assert.ok(points.some(({ step, value }) => step === NEEDLE_STEP && value === 100), 'the needle');
      assert.deepEqual(points.map(({ step }) => step), points.map(({ step }) => step).toSorted((a, b) => a - b));
      for (const { step, value } of points) assert.equal(value, valueAt(step), 'a point that was recorded, none made up');
    }
    const [whole] = await registry.runs.metrics(ADMIN, run.id, null);
    assert.ok(whole !== undefined && whole.points.length > 900 && whole.points.length <= 1000, 'what a plot needs, unasked');
    const [window] = await registry.runs.metrics(ADMIN, run.id, null, { fromStep: 3_000, toStep: 3_299 });
    assert.deepEqual(window?.points.map(({ step, value }) => [step, value]), Array.from({ length: 300 }, (_, index) => [3_000 + index, valueAt(3_000 + index)]));
    const [all] = await registry.runs.metrics(ADMIN, run.id, null, { maxPoints: 5_000 });
    assert.equal(all?.points.length, 5_000);
  });

  test('a window that makes no sense is refused', async () => {
    const { id } = await launchPretraining();
    for (const [field, window] of [['maxPoints', { maxPoints: 1 }], ['maxPoints', { maxPoints: 1_000_000 }], ['fromStep', { fromStep: -1 }], ['toStep', { toStep: -1 }]] as const) {
      await assert.rejects(async () => registry.runs.metrics(ADMIN, id, null, window), { code: 'BAD_INPUT', field });
    }
  });

  test('lists go newest first by pages, and refuse a cursor that is not theirs', async () => {
    const launched = [await launchPretraining(), await launchPretraining(), await launchImport()].map((run) => run.id).reverse();
    const filter = { statuses: ['QUEUED'] } as const;
    const first = await registry.runs.list(ADMIN, { first: 2 }, filter);
    const rest = await registry.runs.list(ADMIN, { first: 2, after: first.pageInfo.endCursor }, filter);
    assert.deepEqual([...first.edges, ...rest.edges].map((edge) => edge.node.id), launched);
    assert.deepEqual([first.pageInfo.hasNextPage, rest.pageInfo.hasNextPage, await first.totalCount()], [true, false, 3]);
    assert.equal((await registry.runs.list(ADMIN, {}, { ...filter, kinds: ['IMPORT'] })).edges.length, 1);
    for (const after of ['nonsense', Buffer.from('["x"]').toString('base64url'), Buffer.from('[null]').toString('base64url')]) {
      await assert.rejects(async () => registry.runs.list(ADMIN, { after }, {}), { code: 'CURSOR_INVALID' });
      await assert.rejects(async () => registry.evaluations.list(ADMIN, { after }, {}), { code: 'CURSOR_INVALID' });
    }
  });
});

describe('following a run', () => {
  async function collect(runId: string, after: number, sequences: number[]): Promise<number[]> {
    for await (const event of createRunEvents(registry.runs, announcements).follow(ADMIN, runId, after)) sequences.push(event.sequence);
    return sequences;
  }

  test('replays, goes on live, and ends with the run', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    const fromStart: number[] = [];
    const fromThird: number[] = [];
    const all = [collect(run.id, 0, fromStart), collect(run.id, 2, fromThird)];
    await eventually('the replay', () => (fromStart.length === 2 ? true : undefined));
    for (const progress of [0.1, 0.2, 0.3]) {
      const seen = fromStart.length;
      await registry.ledger.report(lease, { progress });
      await eventually('a live event, long before the next look', () => (fromStart.length > seen ? true : undefined), 2_000);
    }
    await registry.ledger.withLease(lease, (tx) => registry.ledger.succeed(tx, lease, 'Done.'));
    await Promise.all(all);
    assert.deepEqual([fromStart, fromThird], [[1, 2, 3, 4, 5, 6], [3, 4, 5, 6]]);
    assert.deepEqual(await collect(run.id, 4, []), [5, 6], 'afterwards too');
    assert.deepEqual(await collect(run.id, 99, []), []);
  });

  test('loses nothing of a hundred events that come while it reads', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    const following = collect(run.id, 0, []);
    for (let step = 0; step < 100; step += 1) await registry.ledger.report(lease, { progress: step / 100 });
    await registry.ledger.cancelNow(lease);
    assert.deepEqual(await following, Array.from({ length: 103 }, (_, index) => index + 1));
  });

  test('hears again after its connection to the database was cut', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    const sequences: number[] = [];
    const following = collect(run.id, 0, sequences);
    await eventually('the replay', () => (sequences.length === 2 ? true : undefined));
    await database.db.$queryRaw`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%run_events%' AND pid <> pg_backend_pid()`;
    await registry.ledger.cancelNow(lease);
    assert.deepEqual(await following, [1, 2, 3]);
  });

  test('an unknown run is told at once', async () => {
    for (const id of [UNKNOWN_ID, 'nonsense']) await assert.rejects(collect(id, 0, []), { code: 'RUN_NOT_FOUND', field: 'runId' });
  });

  test('a reader who leaves while nothing happens is let go at once', async () => {
    const run = await launchPretraining();
    const events = createRunEvents(registry.runs, announcements).follow(ADMIN, run.id, 0);
    assert.equal((await events.next()).value?.sequence, 1);
    const waiting = events.next();
    const leftMs = performance.now();
    await events.return();
    assert.deepEqual(await waiting, { value: undefined, done: true });
    assert.ok(performance.now() - leftMs < 2_500, 'not at the next look');
    assert.deepEqual(await events.next(), { value: undefined, done: true });
  });
});
