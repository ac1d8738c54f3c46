/** Local files of artifacts: verified once, and again when the file has changed; copies of those in a bucket. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { access, copyFile, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import {
  openArtifactStore,
  openLocalFiles,
  openS3Store,
  type ArtifactStore,
  type LocalArtifactStore,
  type LocalFiles,
  type S3Place,
} from '../../src/platform/artifact-store/index.ts';
import { nameOf, useS3 } from '../support/artifact-stage.ts';
import { deleteRaw, putRaw } from '../support/s3-server.ts';
import { temporaryFolder } from '../support/shards.ts';

const SHARD = Buffer.from('a tar of images');

interface Stage {
  readonly store: LocalArtifactStore;
  readonly sha256: string;
  /** How often the whole file was read. */
  readCount(): number;
  /** As another process of the same machine. */
  anotherProcess(): LocalFiles;
}

async function newStage(context: TestContext): Promise<Stage> {
  const folder = await temporaryFolder(context);
  const store = openArtifactStore(path.join(folder, 'artifacts'));
  const { sha256 } = await store.put(SHARD);
  let readCount = 0;
  const counted: LocalArtifactStore = {
    ...store,
    scan: (...parameters) => {
      readCount += 1;
      return store.scan(...parameters);
    },
  };
  return {
    store,
    sha256,
    readCount: () => readCount,
    anotherProcess: () => openLocalFiles({ store: counted, folder: path.join(folder, 'cache'), maxBytes: 1_000_000 }),
  };
}

describe('on a local store', () => {
  test('a file is the stored file itself, and is read in full once per machine', async (context) => {
    const stage = await newStage(context);
    const files = stage.anotherProcess();
    await using held = await files.hold(stage.sha256);
    assert.equal(held.path, stage.store.pathOf(stage.sha256));
    await files.hold(stage.sha256);
    await stage.anotherProcess().hold(stage.sha256);
    assert.equal(stage.readCount(), 1);
  });

  test('simultaneous calls share one reading', async (context) => {
    const stage = await newStage(context);
    const files = stage.anotherProcess();
    const held = await Promise.all(Array.from({ length: 5 }, () => files.hold(stage.sha256)));
    assert.equal(new Set(held.map((file) => file.path)).size, 1);
    assert.equal(stage.readCount(), 1);
  });

  const changes: readonly (readonly [string, (file: string) => Promise<void>])[] = [
    ['written in place with other bytes of the same size', (file) => writeFile(file, 'A TAR OF IMAGES')],
    ['cut short', (file) => writeFile(file, SHARD.subarray(0, 4))],
    [
      'replaced by another file of the same size and time',
      async (file) => {
        await writeFile(`${file}.new`, 'A TAR OF IMAGES');
        await utimes(`${file}.new`, 1, 1);
        await utimes(file, 1, 1);
        await rename(`${file}.new`, file);
      },
    ],
  ];
  for (const [how, change] of changes) {
    test(`a verified file that was ${how} is refused`, async (context) => {
      const stage = await newStage(context);
      await stage.anotherProcess().hold(stage.sha256);
      await change(stage.store.pathOf(stage.sha256));
      await assert.rejects(stage.anotherProcess().hold(stage.sha256), { code: 'ARTIFACT_CORRUPT' });
      await assert.rejects(stage.anotherProcess().hold(stage.sha256), { code: 'ARTIFACT_CORRUPT' }, 'also later');
    });
  }

  test('a file that was replaced by an intact copy is verified again, and then remembered', async (context) => {
    const stage = await newStage(context);
    const file = stage.store.pathOf(stage.sha256);
    await stage.anotherProcess().hold(stage.sha256);
    await copyFile(file, `${file}.copy`);
    await rename(`${file}.copy`, file);
    await stage.anotherProcess().hold(stage.sha256);
    await stage.anotherProcess().hold(stage.sha256);
    assert.equal(stage.readCount(), 2);
  });

  test('a missing file, a file in quarantine and a name that is not a sha256 are told apart', async (context) => {
    const stage = await newStage(context);
    const files = stage.anotherProcess();
    await files.hold(stage.sha256);
    await rm(stage.store.pathOf(stage.sha256));
    await assert.rejects(files.hold(stage.sha256), { code: 'ARTIFACT_NOT_FOUND' });
    await stage.store.put(SHARD);
    await writeFile(stage.store.pathOf(stage.sha256), 'changed');
    assert.equal(await stage.store.upkeep.quarantine(stage.sha256), true);
    await assert.rejects(files.hold(stage.sha256), { code: 'ARTIFACT_CORRUPT' });
    await assert.rejects(files.hold('../../etc/passwd'), { code: 'ARTIFACT_NOT_FOUND', field: 'sha256' });
  });
});

const s3 = useS3();

/** Room for three shards of the size below. */
const CACHE_BYTES = 3_500;
const SHARD_BYTES = 1_000;
const shardOf = (index: number): Buffer => Buffer.alloc(SHARD_BYTES, index + 1);

interface BucketStage {
  readonly place: S3Place;
  readonly store: ArtifactStore;
  readonly cacheDir: string;
  /** As another process of the same machine. */
  anotherProcess(): LocalFiles;
  /** Stores shards 0 to `count - 1`. */
  shards(count: number): Promise<string[]>;
  /** The digests of the copies that the cache holds. */
  copies(): Promise<string[]>;
  /** How often an artifact was fetched since the start of the test. */
  fetchCount(sha256: string): number;
}

async function newBucketStage(context: TestContext): Promise<BucketStage> {
  const { server, proxy } = s3();
  const place = server.newPlace(proxy.endpoint);
  const store = openS3Store(place);
  const cacheDir = path.join(await temporaryFolder(context), 'cache');
  const opened: LocalFiles[] = [];
  context.after(async () => {
    proxy.fault = () => undefined;
    for (const files of opened) await files.close();
  });
  let seenBefore = 0;
  return {
    ...{ place, store, cacheDir },
    anotherProcess: () => {
      const files = openLocalFiles({ store: openS3Store(place), folder: cacheDir, maxBytes: CACHE_BYTES });
      opened.push(files);
      return files;
    },
    shards: async (count) => {
      const stored = await Promise.all(Array.from({ length: count }, (_, index) => store.put(shardOf(index))));
      seenBefore = proxy.seen.length;
      return stored.map(({ sha256 }) => sha256);
    },
    copies: async () =>
      (await readdir(path.join(cacheDir, 'sha256'), { recursive: true })).filter((name) => name.length > 60),
    fetchCount: (sha256) =>
      proxy.seen.slice(seenBefore).filter(({ method, path: key }) => method === 'GET' && key.endsWith(sha256)).length,
  };
}

function shard(sha256s: readonly string[], index: number): string {
  const sha256 = sha256s[index];
  assert.ok(sha256 !== undefined);
  return sha256;
}

describe('of a bucket', () => {
  test('an artifact arrives once for all processes of a machine, and stays when the bucket is out of reach', async (context) => {
    const stage = await newBucketStage(context);
    const sha256 = shard(await stage.shards(1), 0);
    const processes = [stage.anotherProcess(), stage.anotherProcess()];
    const held = await Promise.all([...processes, ...processes].map((files) => files.hold(sha256)));
    for (const { path: file } of held) assert.deepEqual(await readFile(file), shardOf(0));
    assert.equal(stage.fetchCount(sha256), 1);
    await deleteRaw(s3().server, `${stage.place.prefix}/${nameOf(sha256)}`);
    await using again = await stage.anotherProcess().hold(sha256);
    assert.deepEqual(await readFile(again.path), shardOf(0));
  });

  test('the least recently used copies make room, and those that are held stay', async (context) => {
    const stage = await newBucketStage(context);
    const all = await stage.shards(5);
    const files = stage.anotherProcess();
    await using kept = await files.hold(shard(all, 0));
    for (const index of [1, 2]) await (await files.hold(shard(all, index))).release();
    // Used again, so the other one is the older.
    await (await stage.anotherProcess().hold(shard(all, 1))).release();
    await (await files.hold(shard(all, 3))).release();
    const copies = (await stage.copies()).map((name) => path.basename(name)).sort();
    assert.deepEqual(copies, [shard(all, 0), shard(all, 1), shard(all, 3)].sort());
    assert.deepEqual(await readFile(kept.path), shardOf(0));
  });

  test('files that are held and exceed the cache together are refused, until one is released', async (context) => {
    const stage = await newBucketStage(context);
    const all = await stage.shards(4);
    const [first, second] = [stage.anotherProcess(), stage.anotherProcess()];
    const held = await Promise.all([first.hold(shard(all, 0)), second.hold(shard(all, 1)), first.hold(shard(all, 2))]);
    await assert.rejects(second.hold(shard(all, 3)), {
      code: 'STORAGE_FULL',
      field: 'PARAFFIN_CACHE_BYTES',
      message: /read 4000 bytes at the same time, and its cache holds 3500/,
    });
    await held[1]?.release();
    await held[1]?.release();
    await (await second.hold(shard(all, 3))).release();
    for (const index of [0, 2]) assert.deepEqual(await readFile(held[index]?.path ?? ''), shardOf(index));
  });

  test('what a killed process held is noticed by the next one', async (context) => {
    const stage = await newBucketStage(context);
    const all = await stage.shards(6);
    const child = fork(path.resolve(import.meta.dirname, '../support/holds-files.ts'), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    child.send({ place: stage.place, folder: stage.cacheDir, maxBytes: CACHE_BYTES, sha256s: all.slice(0, 3) });
    const [paths] = await once(child, 'message');
    assert.ok(Array.isArray(paths) && paths.length === 3);
    await assert.rejects(stage.anotherProcess().hold(shard(all, 3)), { code: 'STORAGE_FULL' });
    child.kill('SIGKILL');
    await once(child, 'exit');
    const files = stage.anotherProcess();
    for (const index of [3, 4, 5]) await (await files.hold(shard(all, index))).release();
    for (const file of paths) await assert.rejects(access(String(file)), { code: 'ENOENT' });
  });

  test('later files arrive while the first one is read', async (context) => {
    const stage = await newBucketStage(context);
    const all = await stage.shards(2);
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    s3().proxy.fault = async ({ method, path: key }) => {
      if (method === 'GET' && key.endsWith(shard(all, 1))) await gate;
      return undefined;
    };
    const files = stage.anotherProcess();
    let isSecondHere = false;
    const second = files.hold(shard(all, 1)).finally(() => {
      isSecondHere = true;
    });
    await using first = await files.hold(shard(all, 0));
    assert.deepEqual(await readFile(first.path), shardOf(0));
    assert.equal(isSecondHere, false);
    open();
    await (await second).release();
  });

  test('a copy that changed on this disk is fetched again', async (context) => {
    const stage = await newBucketStage(context);
    const sha256 = shard(await stage.shards(1), 0);
    await (await stage.anotherProcess().hold(sha256)).release();
    await writeFile(path.join(stage.cacheDir, nameOf(sha256)), Buffer.alloc(SHARD_BYTES, 99));
    await using held = await stage.anotherProcess().hold(sha256);
    assert.deepEqual(await readFile(held.path), shardOf(0));
    assert.equal(stage.fetchCount(sha256), 2);
  });

  test('bytes that change on the way are fetched again; damage in the bucket is refused and not kept', async (context) => {
    const stage = await newBucketStage(context);
    const all = await stage.shards(2);
    let wrongCount = 1;
    s3().proxy.fault = ({ method }) => {
      if (method !== 'GET' || wrongCount === 0) return undefined;
      wrongCount -= 1;
      return { kind: 'WRONG_ANSWER_BYTES' };
    };
    const files = stage.anotherProcess();
    await using held = await files.hold(shard(all, 0));
    assert.deepEqual(await readFile(held.path), shardOf(0));
    for (const damaged of [Buffer.alloc(SHARD_BYTES, 99), Buffer.alloc(SHARD_BYTES - 1, 2), Buffer.alloc(0)]) {
      await putRaw(s3().server, `${stage.place.prefix}/${nameOf(shard(all, 1))}`, damaged);
      await assert.rejects(files.hold(shard(all, 1)), { code: 'ARTIFACT_CORRUPT' });
    }
    assert.deepEqual(
      (await stage.copies()).map((name) => path.basename(name)),
      [shard(all, 0)],
    );
  });

  test('a missing artifact, one in quarantine and a store out of reach are told apart', async (context) => {
    const stage = await newBucketStage(context);
    const all = await stage.shards(2);
    const files = stage.anotherProcess();
    await assert.rejects(files.hold('a'.repeat(64)), { code: 'ARTIFACT_NOT_FOUND' });
    await assert.rejects(files.hold('../../etc/passwd'), { code: 'ARTIFACT_NOT_FOUND', field: 'sha256' });
    await putRaw(s3().server, `${stage.place.prefix}/${nameOf(shard(all, 0))}`, Buffer.from('changed'));
    assert.equal(await stage.store.upkeep.quarantine(shard(all, 0)), true);
    await assert.rejects(files.hold(shard(all, 0)), { code: 'ARTIFACT_CORRUPT' });
    s3().proxy.fault = () => ({ kind: 'ERROR', status: 503, code: 'SlowDown' });
    await assert.rejects(files.hold(shard(all, 1)), { code: 'STORE_UNREACHABLE' });
    s3().proxy.fault = () => undefined;
    await (await files.hold(shard(all, 1))).release();
  });
});
