/** `paraffin embed`: drawn slides in, one file of features for each slide out; the command is a process of its own. */
import '../support/without-onednn.ts';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { parquetReadObjects } from 'hyparquet';
import sharp from 'sharp';
import { z } from 'zod';
import { childEnvironment } from '../../src/env.ts';
import { hdf5Head } from '../../src/formats/hdf5.ts';
import { npyHeader, readNpy } from '../../src/formats/npy.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { SLIDE_OPTION_DEFAULTS } from '../../src/protocol/slide-options.ts';
import { embedPixels } from '../../workers/engine/embed.ts';
import { encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import { embedTask } from '../../workers/tasks/embed.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { assertClose } from '../support/assert-close.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { someEncoder } from '../support/encoder-files.ts';
import { eventually } from '../support/eventually.ts';
import { readRows } from '../support/manifests.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { aperioDescription, drawSlide } from '../support/slide-files.ts';
import { createTaskRunner, type TaskRunner } from '../support/task-runner.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../../src/cli/main.ts');
const RUN_MS = 120_000;
const [WIDTH, HEIGHT] = [700, 600];
const PATCH_PX = 32;
const NORMALISATION = { channelMean: [0.7, 0.5, 0.65], channelStd: [0.2, 0.25, 0.15] } as const;
/** At 0.25 um/px of the slide, a patch at 0.5 um/px is twice as wide in level 0. */
const SLIDES = ['a/S1.svs', 'b/S1.svs', 'b/Schnitt ü.svs'];
const NAMES = ['a/S1', 'b/S1', 'Schnitt ü'];

let database: TestDatabase;
let server: TestServer;
let runner: TaskRunner;
let rows: Awaited<ReturnType<typeof readRows>> = [];
let shards: readonly string[] = [];
let datasetDigest = '';
const weights = someEncoder('RESNET18');

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  runner = await createTaskRunner(database, server.folder);
  const slides = path.join(server.folder, 'slides');
  for (const [index, slide] of SLIDES.entries()) {
    await mkdir(path.dirname(path.join(slides, slide)), { recursive: true });
    await drawSlide(path.join(slides, slide), {
      ...{ width: WIDTH, height: HEIGHT, downsamples: [1, 4], compression: 'DEFLATE' },
      paint: (x, y) =>
        x > 500
          ? [242, 242, 242]
          : (x % 23) ** 2 + (y % 29) ** 2 < 60 + x / 3
            ? [110 + 20 * index, 70, 140 + y / 30]
            : [225, 150, 190],
      description: aperioDescription(WIDTH, HEIGHT, 'AppMag = 40|MPP = 0.25'),
    });
  }
  const { id: datasetId } = await database.db.dataset.create({
    data: { slug: 'slides', name: 'Slides', imageKind: 'WSI', synthetic: true },
  });
  const imported = await runner.launch(importDatasetTask, {
    ...{ datasetId, path: slides, layout: 'SLIDES', labelsCsvPath: null, patchSizePx: PATCH_PX },
    importRoots: [server.folder],
    slides: { ...SLIDE_OPTION_DEFAULTS, patchesPerSlideMax: null, overlapPx: 8, sharpnessMin: 0 },
  });
  await imported.execute();
  const version = await database.db.datasetVersion.findFirstOrThrow({
    include: { shards: { orderBy: { position: 'asc' } } },
  });
  datasetDigest = version.digest ?? '';
  shards = version.shards.map(({ sha256 }) => sha256);
  rows = await readRows(await runner.store.read(version.manifestSha256 ?? ''), {
    imageCount: version.imageCount,
    shards: version.shards.map(({ byteSize }) => ({ byteSize: Number(byteSize) })),
  });
  await importModel('mine', weights);
});
after(async () => {
  await runner.close();
  await server.close();
  await database.close();
});

async function importModel(modelSlug: string, tensors: typeof weights): Promise<void> {
  const file = path.join(server.folder, `${modelSlug}.safetensors`);
  await writeFile(file, writeSafetensors(tensors));
  const answer = await server.ask(
    'mutation ($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { userErrors { code message } } }',
    { input: { modelSlug, path: file, inputContract: { imageSizePx: PATCH_PX, ...NORMALISATION } } },
  );
  assert.deepEqual(at(answer, 'data.importCheckpoint.userErrors'), [], JSON.stringify(answer));
}

const inFolder = (name: string): string => path.join(server.folder, name);

async function paraffin(...args: readonly string[]) {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', PROGRAM, ...args], {
    cwd: server.folder,
    env: childEnvironment({ PARAFFIN_URL: server.url, PARAFFIN_API_KEY: server.adminKey }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await ended, stdout, stderr };
}

/** The bytes that the manifest and the stored set ask for. */
async function expectedOf(slide: string) {
  const [set] = await database.db.embeddingSet.findMany({ where: { source: 'CHECKPOINT' } });
  assert.ok(set !== undefined);
  const embeddings = readNpy(await runner.store.read(set.sha256));
  const own = rows.flatMap((row, index) => (row.slide === slide ? [{ ...row, index }] : []));
  const coords = BigInt64Array.from(own.flatMap(({ x, y }) => [BigInt(x ?? -1), BigInt(y ?? -1)]));
  const values = own.flatMap(({ index }) => [...embeddings.data.subarray(index * 512, (index + 1) * 512)]);
  return { own, coords: Buffer.from(coords.buffer), features: Buffer.from(Float32Array.from(values).buffer) };
}

describe('features of slides', () => {
  test('are computed by a run, and are one HDF5 file for each slide', async () => {
    const command = paraffin('embed', 'mine', '--data', 'slides', '--out', 'features');
    const run = await eventually(
      'the run',
      async () => (await database.db.run.findFirst({ where: { kind: 'EMBEDDING', status: 'QUEUED' } })) ?? undefined,
      RUN_MS,
    );
    assert.equal(run.title, 'embedding of slides@1 by mine@1');
    await (await runner.claim(embedTask, run.id)).execute();
    const { code, stdout, stderr } = await command;
    assert.equal(code, 0, stderr);
    assert.match(stdout, new RegExp(`^3 slides, ${rows.length} patches of 512 numbers, in features`));
    assert.deepEqual((await readdir(inFolder('features'), { recursive: true })).sort(), [
      ...['Schnitt ü.h5', 'a', 'a/S1.h5', 'b', 'b/S1.h5', 'features.json'],
    ]);
    const { sha256: encoderSha256 } = await database.db.checkpoint.findFirstOrThrow({
      where: { model: { slug: 'mine' } },
    });
    for (const [index, slide] of SLIDES.entries()) {
      const name = NAMES[index] ?? '';
      const { own, coords, features } = await expectedOf(slide);
      assert.ok(own.length > 20);
      const head = hdf5Head([
        {
          ...{ name: 'coords', type: 'INT64', shape: [own.length, 2] },
          attributes: {
            ...{ patch_size: 32n, patch_size_level0: 64n, level0_magnification: 40n, target_magnification: 20n },
            ...{
              overlap: 8n,
              name,
              level0_width: BigInt(WIDTH),
              level0_height: BigInt(HEIGHT),
              microns_per_pixel: 0.5,
            },
          },
        },
        {
          ...{ name: 'features', type: 'FLOAT32', shape: [own.length, 512] },
          attributes: {
            ...{ name, encoder: 'mine@1', encoder_sha256: encoderSha256 ?? '' },
            ...{ dataset: 'slides@1', dataset_digest: datasetDigest },
          },
        },
      ]);
      const file = await readFile(inFolder(`features/${name}.h5`));
      assert.equal(file.toString('latin1', 0, head.length), head.toString('latin1'));
      assert.ok(file.subarray(head.length).equals(Buffer.concat([coords, features])), slide);
    }
  });

  test('are the embeddings of the patches at these coordinates', async () => {
    const { own, features } = await expectedOf('b/S1.svs');
    const row = own[7];
    assert.ok(row !== undefined);
    const shard = await runner.store.read(shards[row.shard] ?? '');
    const png = shard.subarray(row.byteOffset, row.byteOffset + row.byteLength);
    const encoder = encoderFromWeights('RESNET18', weights);
    const embedding = embedPixels(encoder, await sharp(png).raw().toBuffer(), 1, PATCH_PX, NORMALISATION);
    encoder.dispose();
    const stored = Array.from({ length: 512 }, (_, column) => features.readFloatLE((7 * 512 + column) * 4));
    assertClose(embedding, stored, 1e-4 * Math.max(...stored.map(Math.abs)));
  });

  test('say how alike the patches of a slide are to one of them', async () => {
    const SIMILARITY =
      'query ($patch: Int!, $set: ID!) { dataset(slug: "slides") { latestVersion { slideSimilarity(position: 1, patch: $patch, embeddingSetId: $set) slidePatches(position: 1) { x y labels labelNames } embeddings { id source checkpoint { version model { slug } } } } } }';
    const answerOf = async (patch: number, set: string) => server.ask(SIMILARITY, { patch, set });
    const [{ id: set } = { id: '' }] = await database.db.embeddingSet.findMany({ where: { source: 'CHECKPOINT' } });
    const { own, features } = await expectedOf('b/S1.svs');
    const vectors = own.map((_, row) =>
      Array.from({ length: 512 }, (__, column) => features.readFloatLE((row * 512 + column) * 4)),
    );
    const lengthOf = (vector: readonly number[] = []): number => Math.hypot(...vector);
    const answer = at(await answerOf(3, set), 'data.dataset.latestVersion');
    const found = z.array(z.number()).parse(at(answer, 'slideSimilarity'));
    const expected = vectors.map(
      (vector) =>
        vector.reduce((sum, value, index) => sum + value * (vectors[3]?.[index] ?? 0), 0) /
        (lengthOf(vector) * lengthOf(vectors[3])),
    );
    assertClose(found, expected, 1e-4);
    assert.equal(found[3], 1);
    const patches = at(answer, 'slidePatches');
    assert.deepEqual([at(patches, 'x'), at(patches, 'y')], [own.map(({ x }) => x), own.map(({ y }) => y)]);
    assert.deepEqual([at(patches, 'labelNames'), at(patches, 'labels')], [[], own.map(() => null)]);
    assert.deepEqual(at(answer, 'embeddings'), [
      { id: set, source: 'CHECKPOINT', checkpoint: { version: 1, model: { slug: 'mine' } } },
    ]);

    const refusalOf = async (patch: number, ofSet: string): Promise<unknown> =>
      at(await answerOf(patch, ofSet), 'errors.0.extensions.code');
    assert.equal(await refusalOf(own.length, set), 'BAD_INPUT');
    assert.equal(await refusalOf(-1, set), 'BAD_INPUT');
    assert.equal(await refusalOf(0, '00000000-0000-0000-0000-000000000000'), 'EMBEDDINGS_NOT_FOUND');
    const other = await database.db.embeddingSet.create({
      data: {
        ...(await database.db.embeddingSet.findUniqueOrThrow({
          where: { id: set },
          omit: { id: true, engine: true, createdAt: true },
        })),
        ...{ datasetDigest: 'of another version', engine: {} },
      },
    });
    assert.equal(await refusalOf(0, other.id), 'BAD_INPUT');
    await database.db.embeddingSet.delete({ where: { id: other.id } });
  });

  test('that are there are left as they are, and a repeated command makes those that are missing', async () => {
    const [kept, lost] = [inFolder('features/a/S1.h5'), inFolder('features/Schnitt ü.h5')];
    const before = await readFile(lost);
    await rm(lost);
    const { mtimeMs } = await stat(kept);
    const { code, stderr } = await paraffin('embed', 'mine', '--data', 'slides', '--out', 'features');
    assert.equal(code, 0, stderr);
    assert.match(stderr, /2 of 3 slides are in features already/);
    assert.ok(before.equals(await readFile(lost)));
    assert.equal((await stat(kept)).mtimeMs, mtimeMs);
    assert.equal(await database.db.run.count({ where: { kind: 'EMBEDDING' } }), 1);
  });

  test('are written as NumPy arrays and as Parquet, of chosen slides', async () => {
    const name = 'Schnitt ü';
    const { own, coords, features } = await expectedOf('b/Schnitt ü.svs');
    for (const format of ['npy', 'parquet']) {
      const out = ['embed', 'mine', '--data', 'slides', '--format', format, '--slides', `${name}.svs`, '--out', format];
      const { code, stdout, stderr } = await paraffin(...out, '--quiet');
      assert.equal(code, 0, stderr);
      assert.equal(stdout.trim().split('\n').at(-1), inFolder(`${format}/${name}.${format}`));
    }
    assert.ok(
      (await readFile(inFolder(`npy/${name}.npy`))).equals(
        Buffer.concat([npyHeader([own.length, 512], '<f4'), features]),
      ),
    );
    assert.ok(
      (await readFile(inFolder(`npy/${name}.coords.npy`))).equals(
        Buffer.concat([npyHeader([own.length, 2], '<i8'), coords]),
      ),
    );
    const bytes = await readFile(inFolder(`parquet/${name}.parquet`));
    const read = await parquetReadObjects({ file: new Uint8Array(bytes).buffer });
    assert.deepEqual(
      read.map(({ key, label, x, y, level0Width }) => [key, label, x, y, level0Width]),
      own.map(({ key, label, x, y, level0Width }) => [key, label, x, y, level0Width]),
    );
    const embeddings = read.flatMap(({ embedding }) => (Array.isArray(embedding) ? embedding.map(Number) : []));
    assert.ok(Buffer.from(Float32Array.from(embeddings).buffer).equals(features));
  });

  const REFUSED: readonly (readonly [string, readonly string[], RegExp])[] = [
    [
      'of a slide that is not there',
      ['mine', '--data', 'slides', '--slides', 'S9', '--out', 'x'],
      /no patches of a slide S9[^]*a\/S1\.svs/,
    ],
    [
      'of a name of two slides',
      ['mine', '--data', 'slides', '--slides', 'S1.svs', '--out', 'x'],
      /S1\.svs names 2 slides/,
    ],
    ['of a dataset without a version', ['mine', '--data', 'nothing', '--out', 'x'], /nothing.*does not exist/],
    ['in an unknown format', ['mine', '--data', 'slides', '--format', 'pt', '--out', 'x'], /h5, npy, parquet/i],
  ];
  for (const [what, args, message] of REFUSED)
    test(`${what} are refused`, async () => {
      const { code, stderr } = await paraffin('embed', ...args);
      assert.ok(code === 1 || code === 2, String(code));
      assert.match(stderr, message);
    });

  test('of another encoder are not mixed into the folder', async () => {
    await writeFile(
      inFolder('features/features.json'),
      JSON.stringify({ ...{ embeddingsSha256: 'other' }, encoder: 'theirs@4', dataset: 'slides@1' }),
    );
    const { code, stderr } = await paraffin('embed', 'mine', '--data', 'slides', '--out', 'features');
    assert.equal(code, 1);
    assert.match(stderr, /features holds features of slides@1 by theirs@4/);
  });
});
