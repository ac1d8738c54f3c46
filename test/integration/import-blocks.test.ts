/** Blocks of an import: how the next attempt uses what an interrupted one has kept, or does not. */
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { openArtifactStore, type LocalArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openFolder } from '../../src/platform/open-folder.ts';
import { openImageDecoders, type ImageDecoders } from '../../workers/imaging/decoder/image-decoders.ts';
import { importImages, type Continued, type ImportOptions } from '../../workers/imaging/import-images.ts';
import { tissuePng } from '../fixtures/hostile-images.ts';
import { drawImportFolder, SMALL_SHARDS } from '../support/interrupted-import.ts';
import type { ImportBlockRecord } from '../../src/protocol/import.ts';

let base = '';
let decoders: ImageDecoders;
/** Files that were decoded to be packed. */
let decodedCount = 0;
before(async () => {
  base = await mkdtemp(path.join(tmpdir(), 'paraffin-blocks-'));
  const all = openImageDecoders({ hiddenFolder: base, processCount: 2 });
  decoders = {
    ...all,
    prepare: (request) => {
      // Others are examined for masks at the beginning of every attempt.
      if (!request.measuresFlatness) decodedCount += 1;
      return all.prepare(request);
    },
  };
});
after(async () => {
  await decoders[Symbol.asyncDispose]();
  await rm(base, { recursive: true });
});

type Settings = Partial<Pick<ImportOptions, 'layout' | 'patchSizePx' | 'shardLimits'>>;

/** The attempts of one import, with a store of their own. */
interface Attempts {
  readonly store: LocalArtifactStore;
  /** What is kept; a test may change it. */
  kept: ImportBlockRecord[];
  /** @returns all of the version: digest, shards, manifest, issues, thumbnails. */
  finish(settings?: Settings): Promise<unknown>;
  /** Ends with an error after a number of blocks. */
  interrupt(afterBlocks: number, settings?: Settings): Promise<void>;
  /** How the last attempt continued. */
  continued(): Continued | undefined;
}

async function attemptsAt(folder: string): Promise<Attempts> {
  const own = await mkdtemp(path.join(base, 'attempts-'));
  const store = openArtifactStore(path.join(own, 'artifacts'));
  let continued: Continued | undefined;
  const run = async (settings: Settings, blocksMax: number) => {
    continued = undefined;
    const workDir = await mkdtemp(path.join(own, 'work-'));
    await using opened = await openFolder(folder);
    return await importImages({
      ...{ folder: opened, layout: 'FOLDER_PER_LABEL', labelsCsv: null, patchSizePx: null, accept: ['NOT_EVALUABLE'] },
      ...{ artifacts: store, decoders, workDir, shardLimits: SMALL_SHARDS },
      ...settings,
      blocks: {
        kept: [...attempts.kept],
        keep: async ({ position, facts, shard, progress }) => {
          const block = { position, sha256: facts.sha256, shardSha256: shard?.sha256 ?? null, progress };
          attempts.kept = [...attempts.kept.filter((each) => each.position < position), block];
          if (attempts.kept.length >= blocksMax) throw new Error('interrupted');
        },
      },
      onContinue: async (how) => {
        continued = how;
      },
    });
  };
  const attempts: Attempts = {
    store,
    kept: [],
    finish: (settings = {}) => run(settings, Infinity),
    interrupt: (afterBlocks, settings = {}) => assert.rejects(run(settings, afterBlocks), /interrupted/),
    continued: () => continued,
  };
  return attempts;
}

async function undisturbed(folder: string, settings?: Settings): Promise<unknown> {
  return (await attemptsAt(folder)).finish(settings);
}

test('an import continues behind each of its blocks, decodes nothing twice, and gives the same version', async () => {
  const folder = path.join(base, 'each');
  const fileCount = await drawImportFolder(folder);
  const expected = await undisturbed(folder);
  for (const [blocks, filesDone] of [
    [1, 6],
    [3, 19],
    [5, 29],
  ] as const) {
    const attempts = await attemptsAt(folder);
    await attempts.interrupt(blocks);
    decodedCount = 0;
    assert.deepEqual(await attempts.finish(), expected);
    assert.deepEqual(attempts.continued(), { filesDone, imageCount: 5 * blocks, fault: null });
    assert.ok(decodedCount <= fileCount - filesDone, `${decodedCount} of ${fileCount} files were decoded again`);
  }
});

test('an import that is interrupted again and again continues each time where the last attempt ended', async () => {
  const folder = path.join(base, 'again');
  await drawImportFolder(folder);
  const attempts = await attemptsAt(folder);
  const progress: number[] = [];
  for (const blocks of [1, 2, 4]) {
    await attempts.interrupt(blocks);
    assert.equal(attempts.kept.length, blocks);
    progress.push(attempts.kept.at(-1)?.progress ?? 0);
  }
  assert.deepEqual(progress, [...new Set(progress)].sort());
  assert.deepEqual(await attempts.finish(), await undisturbed(folder));
  assert.equal(attempts.continued()?.imageCount, 20);
});

test('patches of one image in several shards: the image is read again for those that no shard holds', async () => {
  const folder = path.join(base, 'patches');
  await mkdir(folder);
  for (const seed of [1, 2, 3]) await writeFile(path.join(folder, `${seed}.png`), await tissuePng(160, seed));
  const settings = { layout: 'FLAT', patchSizePx: 32 } as const;
  const expected = await undisturbed(folder, settings);
  for (const blocks of [1, 2, 7]) {
    const attempts = await attemptsAt(folder);
    await attempts.interrupt(blocks, settings);
    assert.deepEqual(await attempts.finish(settings), expected);
    assert.equal(attempts.continued()?.fault, null);
  }
});

test('an import that reads its files a second time because of contradictory labels continues in that pass', async () => {
  const folder = path.join(base, 'conflict');
  const fileCount = 1 + (await drawImportFolder(folder));
  await cp(path.join(folder, 'lymphoid', 'zz-twin.png'), path.join(folder, 'tumour', 'zz-other-label.png'));
  const expected = await undisturbed(folder);
  const whole = await attemptsAt(folder);
  await whole.finish();
  const firstPass = whole.kept.findIndex(({ shardSha256 }) => shardSha256 === null) + 1;
  assert.ok(firstPass > 1 && whole.kept.length > firstPass + 2, 'the first pass ends with a block without a shard');
  for (const blocks of [2, firstPass, firstPass + 2]) {
    const attempts = await attemptsAt(folder);
    await attempts.interrupt(blocks);
    decodedCount = 0;
    assert.deepEqual(await attempts.finish(), expected);
    assert.equal(attempts.continued()?.fault, null);
    if (blocks >= firstPass) assert.ok(decodedCount <= fileCount, 'the first pass was not read again');
  }
});

describe('a folder that has changed since an import was interrupted', () => {
  const changes: readonly (readonly [string, (folder: string) => Promise<void>, number, RegExp])[] = [
    [
      'in a file of a later shard: the import continues before it',
      async (folder) => writeFile(path.join(folder, 'stroma', 'patient01-0002.jpg'), await tissuePng(64, 77)),
      10,
      /^the file "stroma\/patient01-0002\.jpg" has changed since then$/,
    ],
    [
      'in a file of the first shard: the import starts over',
      async (folder) => writeFile(path.join(folder, 'gland', 'aa-broken.png'), 'longer'),
      0,
      /^the file "gland\/aa-broken.png" has changed since then$/,
    ],
    [
      'in the time of a file alone: the file is read again',
      (folder) => utimes(path.join(folder, 'gland', 'patient01-0000.jpg'), 1, 1),
      0,
      /^the file "gland\/patient01-0000.jpg" has changed since then$/,
    ],
    [
      'by a file before all others: the import starts over',
      async (folder) => writeFile(path.join(folder, 'gland', '00.png'), await tissuePng(64, 78)),
      0,
      /^the folder has other files/,
    ],
    [
      'by a file that is gone: the import continues before it',
      (folder) => rm(path.join(folder, 'lymphoid', 'patient02-0005.jpg')),
      10,
      /^the folder has other files/,
    ],
  ];
  for (const [index, [what, change, imageCount, fault]] of changes.entries()) {
    test(what, async () => {
      const folder = path.join(base, `changed-${index}`);
      await drawImportFolder(folder);
      const attempts = await attemptsAt(folder);
      await attempts.interrupt(4);
      await change(folder);
      assert.deepEqual(await attempts.finish(), await undisturbed(folder));
      assert.equal(attempts.continued()?.imageCount, imageCount);
      assert.match(attempts.continued()?.fault ?? '', fault);
    });
  }
});

describe('what an import has kept, if it', () => {
  let folder = '';
  let expected: unknown;
  before(async () => {
    folder = path.join(base, 'lies');
    await drawImportFolder(folder);
    expected = await undisturbed(folder);
  });

  const pathOf = ({ store, kept }: Attempts, position: number, column: 'sha256' | 'shardSha256'): string =>
    store.pathOf(kept[position]?.[column] ?? '');
  const changeRow = (attempts: Attempts, position: number, change: Partial<ImportBlockRecord>): void => {
    attempts.kept = attempts.kept.map((block) => (block.position === position ? { ...block, ...change } : block));
  };
  /** Stores other bytes for a block, under their own digest. */
  const rewrite = async (
    attempts: Attempts,
    position: number,
    change: (text: string) => string | Buffer,
  ): Promise<void> => {
    const bytes = await attempts.store.read(attempts.kept[position]?.sha256 ?? '');
    const changed = change(gunzipSync(bytes).toString('utf8'));
    const { sha256 } = await attempts.store.put(typeof changed === 'string' ? gzipSync(changed) : changed);
    changeRow(attempts, position, { sha256 });
  };

  const DAMAGED = /^what the earlier attempt kept is damaged$/;
  const DISAGREES = /^the files give other images than before$/;
  const longer = (text: string): string => text.replace(/"byteLength":(\d)/, '"byteLength":9$1');
  const lies: readonly (readonly [string, number, (attempts: Attempts) => Promise<void> | void, number, RegExp])[] = [
    ['is cut short', 4, (attempts) => truncate(pathOf(attempts, 2, 'sha256'), 40), 10, DAMAGED],
    ['is gone', 4, (attempts) => rm(pathOf(attempts, 1, 'sha256')), 5, DAMAGED],
    ['is not gzip', 4, (attempts) => rewrite(attempts, 0, () => Buffer.from('not gzip')), 0, DAMAGED],
    ['is not JSON', 4, (attempts) => rewrite(attempts, 0, (text) => text.replace('{', '[')), 0, DAMAGED],
    [
      'lacks a file',
      2,
      (attempts) => rewrite(attempts, 1, (text) => text.slice(0, text.lastIndexOf('\n'))),
      5,
      DAMAGED,
    ],
    ['has lost its first block', 3, (attempts) => void attempts.kept.shift(), 0, DAMAGED],
    ['has a block that followed another', 4, (attempts) => rewrite(attempts, 0, longer), 0, DISAGREES],
    ['names a wrong shard', 3, (attempts) => changeRow(attempts, 1, { shardSha256: null }), 5, DAMAGED],
    [
      'has a shard that is cut short',
      4,
      (attempts) => truncate(pathOf(attempts, 1, 'shardSha256'), 1024),
      5,
      /^a shard that was sealed before is missing or damaged$/,
    ],
    [
      'is of a program that packs in another way',
      2,
      (attempts) =>
        rewrite(attempts, 0, (text) => text.replace(/(?<="options":")./, (digit) => (digit === '0' ? '1' : '0'))),
      0,
      /^the program packs images in another way than before$/,
    ],
    ['says that an image of the last shard is longer', 1, (attempts) => rewrite(attempts, 0, longer), 0, DISAGREES],
  ];
  for (const [what, blocks, lie, imageCount, fault] of lies) {
    test(`${what}, is not used from there on, and the version is the same`, async () => {
      const attempts = await attemptsAt(folder);
      await attempts.interrupt(blocks);
      await lie(attempts);
      assert.deepEqual(await attempts.finish(), expected);
      assert.match(attempts.continued()?.fault ?? '', fault);
      assert.equal(attempts.continued()?.imageCount, imageCount);
    });
  }

  test('was made with shards of another size, is not used', async () => {
    const attempts = await attemptsAt(folder);
    await attempts.interrupt(2, { shardLimits: { ...SMALL_SHARDS, imageLimit: 4 } });
    assert.deepEqual(await attempts.finish(), expected);
    assert.match(attempts.continued()?.fault ?? '', /^the program packs images in another way than before$/);
  });
});
