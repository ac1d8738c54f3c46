/** Images of a version in a bucket, read on a machine that has none of its shards yet. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, test, type TestContext } from 'node:test';
import { openArtifactStore, openLocalFiles, type LocalFiles } from '../../src/platform/artifact-store/index.ts';
import { openTrainingBatches, type TrainingBatches } from '../../workers/engine/data/batches.ts';
import { trainingPlan } from '../../workers/engine/data/reading-plan.ts';
import { openShardSources } from '../../workers/tasks/shard-sources.ts';
import { TaskStopped } from '../../workers/tasks/task.ts';
import type { VersionWithManifest } from '../../workers/tasks/version-manifest.ts';
import { nameOf, useS3 } from '../support/artifact-stage.ts';
import { manifestBytes, manifestRow } from '../support/manifests.ts';
import { imagesOf, openDecoder, plainImages, temporaryFolder, writeShard } from '../support/shards.ts';

const SHARDS = 6;
const IMAGES_PER_SHARD = 4;
const WINDOW_SHARDS = 2;
const CACHE_BYTES = 100_000_000;

const s3 = useS3();
afterEach(() => {
  s3().proxy.fault = () => undefined;
});

interface Cold {
  readonly version: VersionWithManifest;
  readonly cacheDir: string;
  readonly files: LocalFiles;
  /** Shards whose bytes have been asked for, in this order. */
  readonly asked: string[];
  /** Lets the store answer for this shard; until then it says nothing. */
  letArrive(sha256: string): void;
  /** Resolves when a shard is asked for that has not been let through. */
  readonly isWaiting: Promise<void>;
}

/** A version in a bucket, and a store that sends its manifest, and no shard until it is told to. */
async function openCold(context: TestContext): Promise<Cold> {
  const folder = await temporaryFolder(context);
  const { server, proxy } = s3();
  const place = server.newPlace(proxy.endpoint);
  const store = openArtifactStore(place);
  const shards: VersionWithManifest['shards'][number][] = [];
  const rows = [];
  for (let shard = 0; shard < SHARDS; shard += 1) {
    const file = await writeShard(
      folder,
      `${shard}.tar`,
      await plainImages(`s${shard}-`, IMAGES_PER_SHARD, shard * 20),
    );
    for (const [index, { byteOffset, byteLength }] of (await imagesOf(file)).entries())
      rows.push({ ...manifestRow(shard * IMAGES_PER_SHARD + index), shard, byteOffset, byteLength });
    shards.push({ ...(await store.put({ file })), imageCount: IMAGES_PER_SHARD });
  }
  const { sha256: manifestSha256 } = await store.put(await manifestBytes(rows));
  const gates = new Map(shards.map(({ sha256 }) => [sha256, Promise.withResolvers<void>()]));
  const passed = new Set<string>();
  const asked: string[] = [];
  const waiting = Promise.withResolvers<void>();
  proxy.fault = async ({ method, path: key }) => {
    const shard = shards.find(({ sha256 }) => method === 'GET' && key.endsWith(nameOf(sha256)));
    if (shard === undefined) return undefined;
    asked.push(shard.sha256);
    if (!passed.has(shard.sha256)) waiting.resolve();
    await gates.get(shard.sha256)?.promise;
    return undefined;
  };
  const cacheDir = path.join(folder, 'cache');
  const files = openLocalFiles({ store, folder: cacheDir, maxBytes: CACHE_BYTES });
  context.after(async () => {
    for (const gate of gates.values()) gate.resolve();
    await files.close();
  });
  return {
    version: { manifestSha256, imageHashesSha256: null, imageCount: rows.length, shards },
    cacheDir,
    files,
    asked,
    letArrive: (sha256) => {
      passed.add(sha256);
      gates.get(sha256)?.resolve();
    },
    isWaiting: waiting.promise,
  };
}

interface Opened {
  readonly batches: TrainingBatches;
  /** The shards of the first batches, by their sha256. */
  readonly shardsOf: (batchCount: number) => ReadonlySet<string>;
}

function openBatches(context: TestContext, { files, version }: Cold, throwIfStopped = (): void => undefined): Opened {
  const sources = openShardSources({ localFile: files.hold, throwIfStopped }, version);
  const order = {
    datasets: [{ shards: sources.shards, weight: undefined, maxImages: undefined }],
    ...({ sampling: 'EVEN', batchSize: 4, seed: 3, windowShards: WINDOW_SHARDS } as const),
  };
  const batches = openTrainingBatches({ ...order, sourceSizePx: 16, openDecoder });
  context.after(async () => {
    await batches.close();
    await sources[Symbol.asyncDispose]();
  });
  return {
    batches,
    shardsOf: (batchCount) => {
      const plan = trainingPlan({ ...order, startStep: 0 });
      const refs = Array.from({ length: batchCount }, () => plan.next().value?.refs ?? []).flat();
      return new Set(refs.map(({ shard }) => version.shards[shard]?.sha256 ?? ''));
    },
  };
}

describe('a training on a cold cache', () => {
  test('takes its first steps while later shards are still coming', async (context) => {
    const cold = await openCold(context);
    const { batches, shardsOf } = openBatches(context, cold);
    const next = [batches.next(), batches.next()];
    await cold.isWaiting;
    const needed = shardsOf(2);
    assert.equal(needed.size, WINDOW_SHARDS);
    for (const sha256 of needed) cold.letArrive(sha256);
    const ready = await Promise.all(next);
    assert.deepEqual(
      ready.map(({ imageCount }) => imageCount),
      [4, 4],
    );
    const arrived = (await readdir(path.join(cold.cacheDir, 'sha256'), { recursive: true })).filter((name) =>
      cold.version.shards.some(({ sha256 }) => name.endsWith(sha256)),
    );
    assert.deepEqual(new Set(arrived.map((name) => path.basename(name))), needed, 'no other shard is there yet');
    // The rest comes, and every image of the epoch with it.
    for (const { sha256 } of cold.version.shards) cold.letArrive(sha256);
    for (let step = 2; step < SHARDS; step += 1) assert.equal((await batches.next()).decodedCount, 4);
  });

  test('that is stopped while it waits for a shard ends at once, and what arrives later is not kept open', async (context) => {
    const cold = await openCold(context);
    let isStopped = false;
    const { batches } = openBatches(context, cold, () => {
      if (isStopped) throw new TaskStopped('CANCEL');
    });
    const next = batches.next();
    await cold.isWaiting;
    isStopped = true;
    await assert.rejects(next, TaskStopped);
    await batches.close();
    assert.ok(cold.asked.length > 0, 'the store has still not answered');
    for (const { sha256 } of cold.version.shards) cold.letArrive(sha256);
    await cold.files.close();
    assert.deepEqual(await readdir(path.join(cold.cacheDir, 'held')), [], 'nothing is held');
  });
});
