/** What goes with what: states with their run's progress, embedding sets with their version and checkpoint. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, beforeEach, describe, test } from 'node:test';
import {
  collectGarbage,
  sweepReplaced,
  TRAINING_STATE_MEDIA_TYPE,
  type GarbageReport,
} from '../../src/modules/artifacts/index.ts';
import { createEmbeddingCache, dropSetsWithoutOwner } from '../../src/modules/embeddings/index.ts';
import { dropSupersededStates } from '../../src/modules/runs/index.ts';
import { withStoredBytesLock } from '../../src/platform/advisory-lock.ts';
import { artifactPlaceOf } from '../support/artifact-place.ts';
import { openPlaceStage } from '../support/artifact-stage.ts';
import { ADMIN } from '../support/registry.ts';
import { FAULT, openRunStage } from '../support/run-stage.ts';

const OLD = new Date('2020-01-01T00:00:00Z');
const CUTOFF = new Date('2021-01-01T00:00:00Z');

const fixture = await openRunStage();
const { database, registry, claim } = fixture;
const { db, transact } = database;
const stage = await openPlaceStage(artifactPlaceOf(fixture.base));
const { store } = stage;

after(async () => {
  await stage.close();
  await fixture.close();
});
beforeEach(async () => {
  await fixture.emptyQueue();
  await db.trainingState.deleteMany();
  await db.embeddingSet.deleteMany();
});

/** Bytes that were stored and recorded long ago. */
async function recorded(text: string, mediaType = 'text/plain'): Promise<{ sha256: string; byteSize: number }> {
  const stored = await store.put(Buffer.from(text));
  await stage.setWrittenAt(stored.sha256, OLD);
  await db.artifact.upsert({
    where: { sha256: stored.sha256 },
    create: { ...stored, mediaType, recordedAt: OLD },
    update: { recordedAt: OLD, mediaType },
  });
  return stored;
}

const isStored = async (sha256: string): Promise<boolean> => (await store.stat(sha256)) !== undefined;

function collect(dryRun = false): Promise<GarbageReport> {
  const dropReferences = [
    (tx: Parameters<typeof dropSupersededStates>[0]) => dropSupersededStates(tx),
    dropSetsWithoutOwner,
  ];
  return collectGarbage({ db, transact, store, before: CUTOFF, dryRun, dropReferences });
}

const reportOn = ({ kinds }: GarbageReport, kind: string) => kinds.find((each) => each.kind === kind);

describe('the training states of a run', () => {
  /** A probe result with this macro F1. */
  const probe = (step: number, ridgeMacroF1: number) => {
    const scores = { ridgeMacroF1, knnMacroF1: 0.5 };
    const difference = { value: 0.1, ci95Low: 0, ci95High: 0.2 };
    return {
      ...scores,
      datasetVersionId: fixture.versionId,
      datasetVersionName: 'runs-test@1',
      imageCount: 40,
      groupCount: 40,
      ungroupedImageCount: 0,
      split: 'GROUPS' as const,
      step,
      randomEncoder: scores,
      colourStatistics: scores,
      overRandomEncoder: difference,
      overColourStatistics: difference,
      sharedImageCount: 0,
      sharedGroupCount: 0,
    };
  };
  /** Keeps a state after each step of a run, as its worker does. @returns the states by step. */
  async function train(
    changes: object,
    steps: readonly number[],
    macroF1: Readonly<Record<number, number>> = {},
  ): Promise<{ runId: string; lease: Awaited<ReturnType<typeof claim>>['lease']; states: Map<number, string> }> {
    const { id } = await fixture.launchPretraining({ probe: { enabled: false }, ...changes });
    const { lease } = await claim();
    const states = new Map<number, string>();
    for (const step of steps) {
      const { sha256 } = await recorded(`state ${step} of ${id}`, TRAINING_STATE_MEDIA_TYPE);
      states.set(step, sha256);
      const score = macroF1[step];
      await registry.ledger.withLease(lease, (tx) =>
        registry.ledger.keepTrainingState(tx, lease, {
          step,
          sha256,
          probe: score === undefined ? null : probe(step, score),
        }),
      );
    }
    return { runId: id, lease, states };
  }
  const stepsOf = async (runId: string): Promise<number[]> =>
    (await db.trainingState.findMany({ where: { runId }, orderBy: { step: 'asc' } })).map(({ step }) => step);

  test('are pruned as it goes: the last two stay by default, or as many as it was launched with', async () => {
    const byDefault = await train({}, [1, 2, 3, 4, 5]);
    assert.deepEqual(await stepsOf(byDefault.runId), [4, 5]);
    await registry.ledger.fail(byDefault.lease, FAULT);
    const four = await train({ keepStates: 4 }, [1, 2, 3, 4, 5, 6]);
    assert.deepEqual(await stepsOf(four.runId), [3, 4, 5, 6]);
    await registry.ledger.fail(four.lease, FAULT);
    assert.deepEqual((await registry.ledger.latestTrainingState(four.runId))?.step, 6, 'the one to continue from');
    assert.equal((await collect()).kinds[0]?.deleted.count, 0, 'garbage collection keeps as many');
  });

  test('of registerSteps stay, and so does the best, even while its step is a checkpoint', async () => {
    const { runId, lease } = await train({ registerSteps: [2, 9], keepStates: 1 }, [1, 2, 3, 4, 5], {
      3: 0.9,
      4: 0.4,
      5: 0.6,
    });
    assert.deepEqual(await stepsOf(runId), [2, 3, 5]);
    assert.equal((await registry.ledger.bestTrainingState(runId))?.step, 3);
    const model = await db.model.findUniqueOrThrow({ where: { slug: 'runs-test' } });
    await registry.ledger.withLease(lease, async (tx) => {
      await tx.checkpoint.create({
        data: {
          modelId: model.id,
          version: 100,
          encoder: 'RESNET18',
          embeddingDim: 512,
          inputContract: {},
          sourceRunId: runId,
          step: 3,
        },
      });
    });
    await collect();
    assert.deepEqual(await stepsOf(runId), [2, 3, 5], 'later probes are compared with it');
    await registry.ledger.withLease(lease, (tx) => registry.ledger.succeed(tx, lease, 'Done.'));
    await collect();
    assert.deepEqual(await stepsOf(runId), [], 'nothing continues from a run that has succeeded');
    await db.checkpoint.deleteMany({ where: { sourceRunId: runId } });
  });

  test('are refused in a number that is not sensible', async () => {
    for (const keepStates of [0, -1, 1001, 1.5])
      await assert.rejects(fixture.launchPretraining({ keepStates }), { code: 'BAD_INPUT', field: 'input.keepStates' });
  });

  test('free their bytes while the run goes on, but not while a backup reads them', async () => {
    const { lease, states } = await train({}, [1, 2, 3]);
    const shas = [1, 2, 3].map((step) => states.get(step) ?? '');
    const options = { db, transact, databaseUrl: database.url, store };
    await withStoredBytesLock(database.url, 'SHARED', () =>
      assert.rejects(sweepReplaced(options, CUTOFF), { code: 'CONFLICT' }),
    );
    assert.deepEqual(await sweepReplaced(options, OLD), { count: 0, byteSize: 0 }, 'recent bytes stay');
    const other = await recorded('nobody cites me');
    const swept = await sweepReplaced(options, CUTOFF);
    assert.deepEqual(swept, { count: 1, byteSize: Buffer.byteLength(`state 1 of ${lease.runId}`) });
    assert.deepEqual(await Promise.all(shas.map(isStored)), [false, true, true]);
    assert.equal(await isStored(other.sha256), true, 'everything else is left to garbage collection');
    assert.deepEqual(await sweepReplaced(options, CUTOFF), { count: 0, byteSize: 0 });
  });

  test('show in the report of a garbage collection, with the bytes of both that go and that stay', async () => {
    const { runId, lease } = await train({ keepStates: 5 }, [1, 2, 3]);
    await registry.ledger.fail(lease, FAULT);
    const byteSize = Buffer.byteLength(`state 1 of ${runId}`);
    const dropReferences = [
      (tx: Parameters<typeof dropSupersededStates>[0]) => dropSupersededStates(tx, { keepLast: 1 }),
    ];
    const options = { db, transact, store, before: CUTOFF, dropReferences };
    const expected = {
      kind: 'training states',
      deleted: { count: 2, byteSize: 2 * byteSize },
      kept: { count: 1, byteSize },
    };
    assert.deepEqual((await collectGarbage({ ...options, dryRun: true })).kinds, [expected]);
    assert.deepEqual(await stepsOf(runId), [1, 2, 3], 'a dry run changes nothing');
    assert.deepEqual((await collectGarbage({ ...options, dryRun: false })).kinds, [expected]);
    assert.deepEqual(await stepsOf(runId), [3]);
  });
});

describe('embedding sets', () => {
  const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
  async function makeSet(
    source: 'CHECKPOINT' | 'RANDOM_ENCODER' | 'COLOUR_STATISTICS',
    encoderDigest: string,
    datasetDigest: string,
  ): Promise<{ byteSize: number }> {
    const rows = await recorded(`rows of ${source} ${encoderDigest} ${datasetDigest}`);
    const ids = await recorded(`ids of ${datasetDigest}`);
    await transact((tx) =>
      createEmbeddingCache(database.db).register(tx, {
        source,
        encoderDigest,
        datasetDigest,
        preparationDigest: digest('preparation'),
        imageCount: 1,
        embeddingDim: 1,
        rows,
        ids,
        engine: {},
      }),
    );
    // Registering renews the rows.
    await recorded(`rows of ${source} ${encoderDigest} ${datasetDigest}`);
    await recorded(`ids of ${datasetDigest}`);
    return { byteSize: rows.byteSize };
  }
  /** `source dataset` of each set that is left. */
  const left = async (): Promise<string[]> =>
    (await db.embeddingSet.findMany({ orderBy: { id: 'asc' } })).map(
      ({ source, datasetDigest }) => `${source} ${datasetDigest.slice(0, 4)}`,
    );
  const version = async (datasetDigest: string): Promise<string> => {
    const { id } = await transact((tx) => registry.datasets.createDraftVersion(tx, { datasetId: fixture.datasetId }));
    await db.datasetVersion.update({ where: { id }, data: { status: 'SEALED', digest: datasetDigest } });
    return id;
  };
  const reason = 'A test deletes it.';

  test('go with the last checkpoint of their weights; the baselines of the version stay', async () => {
    const ours = digest('ours');
    await version(ours);
    const [first, second] = [
      await fixture.makeCheckpoint('RESNET18', 'shared'),
      await fixture.makeCheckpoint('RESNET18', 'shared'),
    ];
    for (const source of ['CHECKPOINT', 'RANDOM_ENCODER', 'COLOUR_STATISTICS'] as const)
      await makeSet(source, source === 'CHECKPOINT' ? digest('shared') : digest(source), ours);
    await registry.deletions.delete(ADMIN, 'CHECKPOINT', { id: first, reason });
    assert.equal((await left()).length, 3, 'another checkpoint has the same weights');
    await registry.deletions.delete(ADMIN, 'CHECKPOINT', { id: second, reason });
    const name = ours.slice(0, 4);
    assert.deepEqual(await left(), [`RANDOM_ENCODER ${name}`, `COLOUR_STATISTICS ${name}`]);
  });

  test('go with the last version of their images, of every source, and leave those of other versions', async () => {
    const [shared, other] = [digest('two versions'), digest('another')];
    const [first, second] = [await version(shared), await version(shared)];
    await version(other);
    await fixture.makeCheckpoint('RESNET18', 'kept');
    for (const datasetDigest of [shared, other]) {
      await makeSet('CHECKPOINT', digest('kept'), datasetDigest);
      await makeSet('RANDOM_ENCODER', digest('random'), datasetDigest);
    }
    await registry.deletions.delete(ADMIN, 'DATASET_VERSION', { id: first, reason });
    assert.equal((await left()).length, 4);
    await registry.deletions.delete(ADMIN, 'DATASET_VERSION', { id: second, reason });
    const name = other.slice(0, 4);
    assert.deepEqual(await left(), [`CHECKPOINT ${name}`, `RANDOM_ENCODER ${name}`]);
  });

  test('that lost their owner before are collected, and a dry run reports the same bytes', async () => {
    const [ours, gone] = [digest('of a version'), digest('of no version')];
    await version(ours);
    const kept = await makeSet('COLOUR_STATISTICS', digest('colour'), ours);
    const lost = await makeSet('COLOUR_STATISTICS', digest('colour'), gone);
    const noCheckpoint = await makeSet('CHECKPOINT', digest('weights of no checkpoint'), ours);
    const idsBytes = Buffer.byteLength(`ids of ${ours}`);
    const expected = {
      kind: 'embedding sets',
      // The ids of the version are still those of the set that stays.
      deleted: { count: 2, byteSize: lost.byteSize + noCheckpoint.byteSize + idsBytes },
      kept: { count: 1, byteSize: kept.byteSize + idsBytes },
    };
    assert.deepEqual(reportOn(await collect(true), 'embedding sets'), expected);
    assert.equal((await left()).length, 3);
    const report = await collect();
    assert.deepEqual(reportOn(report, 'embedding sets'), expected);
    assert.ok(report.files.byteSize >= expected.deleted.byteSize);
    assert.deepEqual(await left(), [`COLOUR_STATISTICS ${ours.slice(0, 4)}`]);
  });
});
