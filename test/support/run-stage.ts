/** Runs in a real database, with a dataset to train on and the steps that every test of runs begins with. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ClaimedRun, RunRecord } from '../../src/modules/runs/index.ts';
import { openTestDatabase } from './database.ts';
import { ADMIN, openTestRegistry } from './registry.ts';
import type { RunFailureRecord, RunStatus } from '../../src/protocol/runs.ts';

export const FAULT: RunFailureRecord = {
  class: 'INTERNAL',
  code: 'INTERNAL',
  message: 'Something went wrong inside Paraffin.',
  hint: null,
};

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** The caller closes it. */
export async function openRunStage() {
  const base = await realpath(await mkdtemp(path.join(tmpdir(), 'paraffin-runs-')));
  await mkdir(path.join(base, 'images'));
  await writeFile(path.join(base, 'labels.csv'), 'path\n');
  await symlink('/etc', path.join(base, 'leads-out'));
  const database = await openTestDatabase();
  const registry = await openTestRegistry(database, [base]);
  const datasetId = (
    await database.db.dataset.create({
      data: { slug: 'runs-test', name: 'Runs test', imageKind: 'PATCH', synthetic: true },
    })
  ).id;

  async function sealVersion(changes: {
    labelNames?: string[];
    imageCount?: number;
    groupCount?: number;
  }): Promise<string> {
    const { labelNames = ['gland', 'lymphoid', 'stroma', 'tumour'], imageCount = 40, groupCount = 40 } = changes;
    const content = {
      digest: sha256('digest'),
      manifestSha256: sha256('manifest'),
      imageCount,
      byteSize: 1000,
      labelNames,
      labelCounts: [],
      groupCount,
      ungroupedImageCount: 0,
      hasSplit: false,
      issues: [],
      thumbnails: [],
    };
    const shard = { sha256: sha256('shard'), byteSize: 1000, imageCount };
    const artifacts = [
      { sha256: content.manifestSha256, byteSize: 10, mediaType: 'application/jsonl' },
      { sha256: shard.sha256, byteSize: 1000, mediaType: 'application/x-tar' },
    ];
    return database.transact(async (tx) => {
      const draft = await registry.datasets.createDraftVersion(tx, { datasetId });
      return (await registry.datasets.sealVersion(tx, { versionId: draft.id, ...content, shards: [shard], artifacts }))
        .id;
    });
  }

  /** @param weights null for a checkpoint of which only the source is known. */
  async function makeCheckpoint(encoder: 'RESNET18' | 'RESNET50', weights: string | null = 'weights'): Promise<string> {
    const model = await database.db.model.upsert({
      where: { slug: 'runs-test' },
      create: { slug: 'runs-test', name: 'Runs test' },
      update: {},
    });
    const version = (await database.db.checkpoint.count()) + 1;
    const stored = weights === null ? {} : { sha256: sha256(weights), byteSize: 10 };
    if (weights !== null)
      await database.db.artifact.upsert({
        where: { sha256: sha256(weights) },
        create: { sha256: sha256(weights), byteSize: 10, mediaType: 'application/octet-stream' },
        update: {},
      });
    const inputContract = {
      imageSizePx: 224,
      resizeRule: 'STRETCH',
      channelOrder: 'RGB',
      valueRange: [0, 1],
      channelMean: [0.5, 0.5, 0.5],
      channelStd: [0.5, 0.5, 0.5],
      embeddingLayer: 'avgpool',
      micronsPerPixelMin: null,
      micronsPerPixelMax: null,
    };
    return (
      await database.db.checkpoint.create({
        data: { modelId: model.id, version, encoder, embeddingDim: 512, inputContract, ...stored },
      })
    ).id;
  }

  /** 40 images, 4 labels, 40 groups. */
  const versionId = await sealVersion({});
  const draftId = (await database.transact((tx) => registry.datasets.createDraftVersion(tx, { datasetId }))).id;
  const checkpointId = await makeCheckpoint('RESNET18');

  const pretrainingInput = (changes: object = {}): object => ({
    modelSlug: 'runs-test',
    datasets: [{ datasetVersionId: versionId }],
    encoder: 'RESNET18',
    imageSizePx: 64,
    batchSize: 8,
    steps: 10,
    temperature: 0.5,
    sampling: 'EVEN',
    precision: 'FLOAT32',
    ...changes,
  });
  const importInput = (changes: object = {}): object => ({
    datasetId,
    path: path.join(base, 'images'),
    layout: 'FLAT',
    ...changes,
  });
  const evaluationInput = (changes: object = {}): object => ({
    checkpointId,
    datasetVersionId: versionId,
    protocol: 'LINEAR_PROBE',
    folds: 5,
    ...changes,
  });

  const launchPretraining = (changes: object = {}): Promise<RunRecord> =>
    registry.runs.launchPretraining(ADMIN, pretrainingInput(changes));
  const launchImport = (changes: object = {}): Promise<RunRecord> =>
    registry.runs.launchImport(ADMIN, importInput(changes));
  const launchEvaluation = (changes: object = {}): Promise<RunRecord> =>
    registry.evaluations.launch(ADMIN, evaluationInput(changes));
  const launchEmbedding = (changes: object = {}): Promise<RunRecord> =>
    registry.embeddings.launch(ADMIN, { checkpointId, datasetVersionId: versionId, ...changes });

  async function statusOf(id: string): Promise<RunStatus | undefined> {
    return (await registry.runs.get(ADMIN, id))?.status;
  }

  async function expireLease(runId: string): Promise<void> {
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

  /** A run in any state, brought there by the usual transitions. */
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

  return {
    base,
    database,
    registry,
    datasetId,
    versionId,
    draftId,
    checkpointId,
    sealVersion,
    makeCheckpoint,
    pretrainingInput,
    importInput,
    evaluationInput,
    launchPretraining,
    launchImport,
    launchEvaluation,
    launchEmbedding,
    statusOf,
    expireLease,
    claim,
    eventKinds,
    runThatIs,
    emptyQueue: async (): Promise<void> => {
      await database.db.run.updateMany({
        where: { status: { in: ['QUEUED', 'RUNNING', 'CANCELING'] } },
        data: { status: 'CANCELED' },
      });
    },
    close: async (): Promise<void> => {
      await registry.close();
      await database.close();
      await rm(base, { recursive: true, force: true });
    },
  };
}
