/** Local files of artifacts: verified once, and again when the file has changed. */
import assert from 'node:assert/strict';
import { copyFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import {
  openArtifactStore,
  openLocalFiles,
  type LocalArtifactStore,
  type LocalFiles,
} from '../../src/platform/artifact-store/index.ts';
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
    open: (...parameters) => {
      readCount += 1;
      return store.open(...parameters);
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
