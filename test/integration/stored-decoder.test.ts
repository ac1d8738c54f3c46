/** Sealed images are decoded in a process that can do nothing else, and a training continues if that process fails. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { SANDBOX_KINDS, supportsSandbox } from '../../src/platform/sandbox.ts';
import {
  openEvaluationImages,
  openTrainingBatches,
  type EvaluationImages,
  type TrainingBatches,
} from '../../workers/engine/data/batches.ts';
import { ImageDataError, type ImageDataErrorCode } from '../../workers/engine/data/errors.ts';
import type { DecodeQuality, ResizeRule } from '../../workers/engine/data/stored-decoder.ts';
import { decodeSquare } from '../../workers/imaging/decoder/decode-square.ts';
import type { DecoderFailure } from '../../workers/imaging/decoder/image-decoders.ts';
import { storedDecoders, type StoredDecoderSettings } from '../../workers/imaging/decoder/stored-decoder.ts';
import { picture, tissueJpeg, tissuePixels, tissuePng } from '../fixtures/hostile-images.ts';
import { eventually } from '../support/eventually.ts';
import type { HostileStoredOrder } from '../support/hostile-stored-decoder.ts';
import { childrenOf, familyOf, isAlive } from '../support/processes.ts';
import {
  imagesOf,
  plainImages,
  sourceOf,
  storedBytes,
  temporaryFolder,
  writeShard,
  type TarMember,
} from '../support/shards.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../support/hostile-stored-decoder.ts');

interface Box {
  readonly folder: string;
  readonly failures: readonly DecoderFailure[];
  readonly openDecoder: ReturnType<typeof storedDecoders>;
}

async function openBox(context: TestContext, settings: Partial<StoredDecoderSettings> = {}): Promise<Box> {
  const folder = await temporaryFolder(context);
  const failures: DecoderFailure[] = [];
  const onFailure = (failure: DecoderFailure): void => void failures.push(failure);
  return {
    ...{ folder, failures },
    openDecoder: storedDecoders({ hiddenFolder: folder, scratchFolder: folder, onFailure, ...settings }),
  };
}

const isFault =
  (code: ImageDataErrorCode, key: string, words: RegExp) =>
  (error: unknown): boolean =>
    error instanceof ImageDataError && error.code === code && error.place.key === key && words.test(error.message);

/** One batch of these members, in their order. */
async function readingOf(box: Box, members: readonly TarMember[]): Promise<EvaluationImages> {
  const shardPath = await writeShard(box.folder, 's.tar', members);
  return openEvaluationImages({
    shards: [await sourceOf(shardPath)],
    images: (await imagesOf(shardPath)).map(({ key }, indexInShard) => ({ key, shard: 0, indexInShard })),
    ...{ batchSize: members.length, imageSizePx: 8, openDecoder: box.openDecoder },
  });
}

const order = (what: HostileStoredOrder): TarMember => ({ name: 'bad.png', bytes: Buffer.from(JSON.stringify(what)) });
const grey = (level: number): TarMember => ({ name: `grey-${level}.png`, bytes: Buffer.of(level) });

for (const settings of [{}, { addon: null }])
  test(`the pixels are those of sharp, byte by byte, ${settings.addon === null ? 'without' : 'with'} our own decoder`, async (context) => {
    const box = await openBox(context, settings);
    const members = [
      { name: 'jpeg.jpg', bytes: await tissueJpeg(200, 1) },
      { name: 'large.jpg', bytes: await tissueJpeg(600, 2) },
      { name: 'png.png', bytes: await tissuePng(97, 3) },
      { name: 'webp.webp', bytes: await picture(tissuePixels(96, 4), 96).webp().toBuffer() },
    ];
    const shardPath = await writeShard(box.folder, 's.tar', members);
    const images = await imagesOf(shardPath);
    // More than one request, of places in any order.
    const requests = Array.from({ length: 150 }, (_, place) => ({
      image: images[(place * 3) % 4],
      place: 149 - place,
    }));
    const rules: readonly (readonly [number, DecodeQuality, ResizeRule])[] = [
      [64, 'FAST', 'SHORT_SIDE_THEN_CENTRE_CROP'],
      [64, 'EXACT', 'STRETCH'],
    ];
    for (const [sizePx, quality, resizeRule] of rules) {
      const rule = { sizePx, quality, resizeRule };
      const decoder = await box.openDecoder({ ...rule, batchSize: 150, batchesAtOnce: 2 });
      const imageBytes = sizePx * sizePx * 3;
      const target = new Uint8Array(150 * imageBytes);
      const wanted = requests.flatMap(({ image, place }) => {
        if (image === undefined) return [];
        const read = async (bytes: Uint8Array): Promise<string> => {
          bytes.set(await storedBytes(shardPath, image));
          return image.key;
        };
        return [{ key: image.key, byteSize: image.byteLength, place, read }];
      });
      assert.equal(wanted.length, 150);
      await decoder.decode(wanted, target);
      await decoder.close();
      const pixels = await Promise.all(members.map(({ bytes }) => decodeSquare(bytes, rule)));
      for (const { key, place } of wanted) {
        const expected = pixels[members.findIndex(({ name }) => name.startsWith(`${key}.`))];
        assert.ok(
          expected !== undefined &&
            Buffer.compare(expected, target.subarray(place * imageBytes, (place + 1) * imageBytes)) === 0,
          key,
        );
      }
    }
    assert.deepEqual(box.failures, []);
    assert.deepEqual(await childrenOf(process.pid), []);
  });

for (const kind of SANDBOX_KINDS) {
  test(`what a hostile image could try in a training fails, in a sandbox of kind ${kind}`, async (context) => {
    if (!(await supportsSandbox(kind))) return context.diagnostic('This machine does not support it.');
    const box = await openBox(context, { program: PROGRAM, kind });
    const secretFile = path.join(box.folder, 'admin-key');
    await writeFile(secretFile, 'secret');
    const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    context.after(() => server.close());
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    process.env['PARAFFIN_DATABASE_URL'] = 'postgresql://paraffin:secret@127.0.0.1/paraffin';
    context.after(() => delete process.env['PARAFFIN_DATABASE_URL']);

    const reach = order({ do: 'REACH', port: address.port, pid: process.pid, secretFile });
    const shardPath = await writeShard(box.folder, 's.tar', [reach]);
    const training = openTrainingBatches({
      datasets: [{ shards: [await sourceOf(shardPath)] }],
      ...{ sampling: 'EVEN', windowShards: 64, batchSize: 1, sourceSizePx: 8, seed: 1, openDecoder: box.openDecoder },
    });
    context.after(() => training.close());
    await assert.rejects(training.next(), (error) => {
      assert.ok(error instanceof ImageDataError);
      assert.deepEqual(JSON.parse(error.message.slice(error.message.indexOf('{'))), {
        // Operations that Node alone cannot refuse.
        ...(kind === 'NONE' ? { network: 'done', signal: 'done' } : { network: 'ENETUNREACH', signal: 'ESRCH' }),
        ...{ read: 'ERR_ACCESS_DENIED', write: 'ERR_ACCESS_DENIED' },
        ...{ start: 'ERR_ACCESS_DENIED', thread: 'ERR_ACCESS_DENIED' },
        environment: 'PATH PWD UV_THREADPOOL_SIZE',
      });
      return true;
    });
  });
}

describe('a decoder that', () => {
  const orders: readonly (readonly [string, HostileStoredOrder, RegExp])[] = [
    ['crashes', { do: 'CRASH' }, /twice: The decoder ended with SIG(ABRT|ILL|TRAP)/],
    [
      'sends what is not a frame',
      { do: 'TALK', text: '\xff'.repeat(64) },
      /twice: The decoder sent an invalid message/,
    ],
    ['leaves no pixels', { do: 'LEAVE_NO_PIXELS' }, /twice: The decoder left fewer pixels/],
    ['refuses', { do: 'REFUSE' }, /cannot be decoded: refused/],
  ];
  for (const [what, hostile, words] of orders) {
    test(`${what} fails the image that it decoded, by name, after a second attempt on that image alone`, async (context) => {
      const box = await openBox(context, { program: PROGRAM });
      // The pixels of another image would make the file long again.
      const others = hostile.do === 'LEAVE_NO_PIXELS' ? [] : [grey(1), grey(2), grey(3)];
      const reading = await readingOf(box, [...others, order(hostile)]);
      context.after(() => reading.close());
      await assert.rejects(reading.next(), isFault('IMAGE_UNREADABLE', 'bad', words));
      await assert.rejects(reading.next(), isFault('IMAGE_UNREADABLE', 'bad', words));
      await reading.close();
      assert.equal(box.failures.length, hostile.do === 'REFUSE' ? 0 : 2);
      assert.deepEqual(await childrenOf(process.pid), []);
    });
  }

  test('hangs is ended after its time limit', async (context) => {
    const box = await openBox(context, { program: PROGRAM, timeoutMs: 1_000 });
    const reading = await readingOf(box, [grey(1), order({ do: 'HANG' })]);
    context.after(() => reading.close());
    await assert.rejects(reading.next(), isFault('IMAGE_UNREADABLE', 'bad', /more than 1 s/));
    await reading.close();
    assert.deepEqual(await childrenOf(process.pid), []);
  });

  test('does not start ends the reading without blaming an image', async (context) => {
    const box = await openBox(context, { program: path.resolve(PROGRAM, '../no-such-program.ts') });
    const reading = await readingOf(box, [grey(1)]);
    context.after(() => reading.close());
    await assert.rejects(
      reading.next(),
      (error) =>
        error instanceof ImageDataError && error.code === 'READER_DIED' && /does not start/.test(error.message),
    );
    await reading.close();
    assert.deepEqual(await childrenOf(process.pid), []);
  });
});

test('an image is not blamed for a decoder that was killed just before it came', async (context) => {
  const box = await openBox(context);
  const rule = { sizePx: 8, quality: 'FAST', resizeRule: 'STRETCH' } as const;
  const decoder = await box.openDecoder({ ...rule, batchSize: 1, batchesAtOnce: 2 });
  context.after(() => decoder.close());
  const bytes = await tissuePng(8, 1);
  const expected = await decodeSquare(bytes, rule);
  const known = new Set<number>();
  const killDecoder = async (): Promise<void> => {
    const pid = await decoderProcess(known);
    known.add(pid);
    process.kill(pid, 'SIGKILL');
  };
  /** @param beforeReading gets the number of the reading, from 1. */
  const decodeWith = async (beforeReading: (reading: number) => Promise<void> | void): Promise<void> => {
    let reading = 0;
    const target = new Uint8Array(expected.length);
    const read = async (into: Uint8Array): Promise<string> => {
      await beforeReading((reading += 1));
      into.set(bytes);
      return 'image';
    };
    await decoder.decode([{ byteSize: bytes.length, place: 0, read }], target);
    assert.ok(Buffer.compare(expected, target) === 0);
  };
  const secondStarted = Promise.withResolvers<void>();
  await Promise.all([
    decodeWith(async (reading) => (reading === 1 ? killDecoder() : secondStarted.resolve())),
    // It was sent to the first decoder too. The second one, which started for the other image, dies when it comes.
    decodeWith(async (reading) => (reading === 1 ? secondStarted.promise : reading === 2 ? killDecoder() : undefined)),
  ]);
  assert.equal(known.size, 2);
});

describe('a training', () => {
  const STEPS = 18;
  async function openTraining(context: TestContext): Promise<{ box: Box; training: TrainingBatches }> {
    const box = await openBox(context);
    const shardPath = await writeShard(box.folder, 's.tar', await plainImages('a', 24));
    const training = openTrainingBatches({
      datasets: [{ shards: [await sourceOf(shardPath)] }],
      ...{
        sampling: 'EVEN',
        windowShards: 64,
        batchSize: 4,
        sourceSizePx: 16,
        seed: 1,
        cacheByteLimit: 0,
        openDecoder: box.openDecoder,
      },
    });
    context.after(() => training.close());
    return { box, training };
  }
  const digestOf = async (training: TrainingBatches, beforeStep: (step: number) => Promise<void>): Promise<string> => {
    const hash = createHash('sha256');
    for (let step = 0; step < STEPS; step += 1) {
      await beforeStep(step);
      const { images } = await training.next();
      hash.update(images);
    }
    await training.close();
    return hash.digest('hex');
  };

  test('whose decoder is killed again and again sees the same images, and no signal of its death', async (context) => {
    const undisturbed = await openTraining(context);
    const expected = await digestOf(undisturbed.training, async () => undefined);
    const { box, training } = await openTraining(context);
    let deaths = 0;
    process.on('SIGCHLD', () => (deaths += 1));
    context.after(() => process.removeAllListeners('SIGCHLD'));
    const known = new Set<number>();
    const digest = await digestOf(training, async (step) => {
      // The batches that were prepared when the last decoder died have all been taken by then.
      if (step % 6 !== 1) return;
      const pid = await decoderProcess(known);
      known.add(pid);
      process.kill(pid, 'SIGKILL');
      await eventually('its end', async () => ((await isAlive(pid)) ? undefined : true));
      assert.equal(deaths, 0, 'a signal that is handled in the middle of a matrix product destroys memory');
    });
    assert.equal(digest, expected);
    assert.equal(known.size, 3);
    assert.ok(box.failures.length >= 3 && box.failures.every(({ ending }) => /SIGKILL/.test(ending)));
    assert.deepEqual(await childrenOf(process.pid), []);
  });

  test('that is killed leaves no decoder', async (context) => {
    const folder = await temporaryFolder(context);
    const shardPath = await writeShard(folder, 's.tar', await plainImages('a', 24));
    const program = path.resolve(import.meta.dirname, '../support/reads-images.ts');
    const child = spawn(process.execPath, [program, shardPath, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
    assert.ok(child.pid !== undefined);
    const [output]: unknown[] = await once(child.stdout, 'data');
    assert.match(String(output), /reading/);
    const family = await familyOf(child.pid);
    assert.ok(family.length > 2, `${family.length} processes`);
    child.kill('SIGKILL');
    await eventually('the end of all that was started', async () =>
      (await Promise.all(family.map(isAlive))).includes(true) ? undefined : true,
    );
  });
});

test('the process of a run loads no decoder', async () => {
  const tasks = ['pretrain', 'evaluate', 'export', 'import-dataset'].map((name) =>
    JSON.stringify(path.resolve(import.meta.dirname, `../../workers/tasks/${name}.ts`)),
  );
  const loads = (modules: readonly string[]): Promise<boolean> =>
    promisify(execFile)(process.execPath, [
      ...['--disable-warning=ExperimentalWarning', '--input-type=module', '-e'],
      `for (const each of [${modules.join()}]) await import(each);
       console.log(/libvips/.test((await import('node:fs')).readFileSync('/proc/self/maps', 'utf8')));`,
    ]).then(({ stdout }) => stdout.endsWith('true\n'));
  assert.equal(await loads(tasks), false);
  assert.equal(await loads([JSON.stringify(import.meta.resolve('sharp'))]), true, 'or this test would prove nothing');
});

/** The process that runs the decoder's program, within its sandbox, and is not one of the known. */
async function decoderProcess(known: ReadonlySet<number>): Promise<number> {
  return eventually('a decoder', async () => {
    for (const pid of await familyOf(process.pid)) {
      const [program = ''] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
      if (pid !== process.pid && !known.has(pid) && program === process.execPath) return pid;
    }
    return undefined;
  });
}
