/** Images are decoded in processes that can do nothing else, and an import continues if one of them fails. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openFolder } from '../../src/platform/open-folder.ts';
import { sandboxKind } from '../../src/platform/sandbox.ts';
import {
  openImageDecoders,
  type DecoderFailure,
  type ImageDecoders,
  type ImageDecodersOptions,
  type PreparedFile,
} from '../../workers/imaging/decoder/image-decoders.ts';
import { importImages, type ImportOptions, type ImportResult } from '../../workers/imaging/import-images.ts';
import { picture, tissueJpeg, tissuePixels, tissuePng } from '../fixtures/hostile-images.ts';
import { eventually } from '../support/eventually.ts';
import type { HostileOrder } from '../support/hostile-decoder.ts';
import { prepare } from '../support/prepared-image.ts';
import { childrenOf, familyOf } from '../support/processes.ts';
import { temporaryFolder } from '../support/shards.ts';

const HOSTILE = path.resolve(import.meta.dirname, '../support/hostile-decoder.ts');
const DECODING_BYTES_MAX = 64 * 1024 * 1024;

interface Box {
  readonly folder: string;
  readonly decoders: ImageDecoders;
  readonly failures: readonly DecoderFailure[];
  close(): Promise<void>;
  prepare(bytes: Buffer, patchSizePx?: number | null): Promise<PreparedFile>;
}

async function openDecoders(options: Partial<ImageDecodersOptions> = {}): Promise<Box> {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-decoders-'));
  const failures: DecoderFailure[] = [];
  const decoders = openImageDecoders({
    ...{ hiddenFolder: folder, processCount: 1, onFailure: (failure) => failures.push(failure) },
    ...options,
  });
  return {
    ...{ folder, decoders, failures },
    close: async () => {
      await decoders[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
    prepare: (bytes, patchSizePx = null) =>
      decoders.prepare({
        file: {
          ...{ byteSize: bytes.length, bytes, facts: { byteSize: bytes.length, modifiedAtMs: 0 } },
          ...{ chunks: () => [bytes], [Symbol.asyncDispose]: async () => undefined },
        },
        ...{ patchSizePx, sampleBits: null, measuresFlatness: false, decodingBytesMax: DECODING_BYTES_MAX },
        reserve: async () => undefined,
      }),
  };
}

const order = (what: HostileOrder): Buffer => Buffer.from(JSON.stringify(what));

test('the process returns the same bytes as the decoder in-process', async (context) => {
  const box = await openDecoders();
  context.after(box.close);
  const files: readonly (readonly [Buffer, number | null])[] = [
    [await tissueJpeg(96, 1), null],
    [await picture(tissuePixels(96, 2), 96).tiff().toBuffer(), null],
    [await tissuePng(200, 3), 64],
    [(await tissueJpeg(96, 4)).subarray(0, 500), null],
    [Buffer.from('not an image'), null],
  ];
  for (const [bytes, patchSizePx] of files)
    assert.deepEqual(await box.prepare(bytes, patchSizePx), await prepare(bytes, patchSizePx));
  assert.equal((await childrenOf(process.pid)).length, 1);
  assert.deepEqual(box.failures, []);
});

test('everything that a hostile image could try in the process fails', async (context) => {
  const box = await openDecoders({ program: HOSTILE });
  context.after(box.close);
  const secretFile = path.join(box.folder, 'admin-key');
  await writeFile(secretFile, 'secret');
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  process.env['PARAFFIN_DATABASE_URL'] = 'postgresql://paraffin:secret@127.0.0.1/paraffin';
  context.after(() => delete process.env['PARAFFIN_DATABASE_URL']);

  const reached = await box.prepare(order({ do: 'REACH', port: address.port, pid: process.pid, secretFile }));
  assert.ok(reached.outcome === 'REFUSED');
  const kind = await sandboxKind();
  context.diagnostic(`The sandbox of this machine: ${kind}.`);
  assert.deepEqual(JSON.parse(reached.finding.reason ?? ''), {
    // Operations that Node alone cannot refuse.
    ...(kind === 'NONE' ? { network: 'done', signal: 'done' } : { network: 'ENETUNREACH', signal: 'ESRCH' }),
    ...{ read: 'ERR_ACCESS_DENIED', write: 'ERR_ACCESS_DENIED' },
    ...{ start: 'ERR_ACCESS_DENIED', thread: 'ERR_ACCESS_DENIED' },
    environment: kind === 'NONE' ? DECODER_NAMES.replace('OLDPWD ', '') : DECODER_NAMES,
  });
});
const DECODER_NAMES = 'MALLOC_ARENA_MAX MALLOC_MMAP_THRESHOLD_ PATH PWD';

describe('a decoder that', () => {
  const frame = (head: object): string => {
    const text = Buffer.from(JSON.stringify(head));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length, 0);
    return Buffer.concat([length, text]).toString('base64');
  };
  const image = {
    ...{ kind: 'IMAGE', bodyByteSize: 0, isFile: false, extension: 'png', width: 1, height: 1 },
    pixelDigest: '0'.repeat(64),
    ...{ perceptualHash: '0'.repeat(16), cutFrom: null, profile: null, nearlyBlank: false, flatness: null },
  };
  const orders: readonly (readonly [string, HostileOrder, RegExp])[] = [
    ['crashes', { do: 'CRASH' }, /SIG(ABRT|ILL|TRAP)/],
    [
      'sends bytes that are not a frame',
      { do: 'TALK', base64: Buffer.alloc(64, 255).toString('base64') },
      /an invalid message/,
    ],
    [
      'sends a header that is not JSON',
      { do: 'TALK', base64: Buffer.from('\x02\0\0\0ab').toString('base64') },
      /an invalid message/,
    ],
    ['answers out of turn', { do: 'TALK', base64: frame({ kind: 'READY', bodyByteSize: 0 }) }, /READY/],
    [
      'names an issue that is not one',
      {
        do: 'TALK',
        base64: frame({ kind: 'REFUSED', bodyByteSize: 0, finding: { issue: 'toString' } }),
      },
      /an invalid message/,
    ],
    [
      'announces an endless image',
      { do: 'TALK', base64: frame({ ...image, bodyByteSize: 2 ** 52 }) },
      /an invalid message/,
    ],
    [
      'names a digest that is not one',
      { do: 'TALK', base64: frame({ ...image, pixelDigest: '../..' }) },
      /an invalid message/,
    ],
    ['sends more bytes than it reserved', { do: 'SEND_TOO_MUCH' }, /an invalid message/],
    ['reserves more memory than allowed', { do: 'ASK_TOO_MUCH' }, /RESERVE/],
  ];
  let box: Box;
  before(async () => {
    box = await openDecoders({ program: HOSTILE });
  });
  after(() => box.close());
  for (const [what, hostile, reason] of orders) {
    test(`${what} loses only that image, after a new decoder has failed on it too`, async () => {
      const failuresBefore = box.failures.length;
      const failed = await box.prepare(order(hostile));
      assert.ok(failed.outcome === 'REFUSED');
      assert.equal(failed.finding.issue, 'DECODER_FAILED');
      assert.match(failed.finding.reason ?? '', reason);
      assert.equal(box.failures.length - failuresBefore, 2);
      const next = await box.prepare(order({ do: 'REFUSE' }));
      assert.ok(next.outcome === 'REFUSED' && next.finding.issue === 'UNREADABLE');
      assert.equal((await childrenOf(process.pid)).length, 1);
    });
  }

  test('hangs is killed, and not retried', async (context) => {
    const box = await openDecoders({ program: HOSTILE, timeoutMs: 2_000 });
    context.after(box.close);
    const failed = await box.prepare(order({ do: 'HANG' }));
    assert.ok(failed.outcome === 'REFUSED' && failed.finding.issue === 'DECODER_FAILED');
    assert.match(failed.finding.reason ?? '', /more than 2 s/);
    assert.equal(box.failures.length, 1);
  });

  test('does not start ends the import: no image is to blame', async (context) => {
    const box = await openDecoders({ program: path.resolve(HOSTILE, '../no-such-program.ts') });
    context.after(box.close);
    await assert.rejects(box.prepare(order({ do: 'REFUSE' })), /The image decoder does not start/);
  });
});

describe('of two requests that a decoder has at once', () => {
  const outcomes = async (box: Box, files: readonly Buffer[]): Promise<(string | undefined)[]> => {
    const prepared = await Promise.all(files.map(async (bytes) => box.prepare(bytes)));
    return prepared.map((each) => (each.outcome === 'REFUSED' ? each.finding.issue : each.outcome));
  };

  test('only the one that crashes it is refused, whichever was first', async (context) => {
    const box = await openDecoders({ program: HOSTILE });
    context.after(box.close);
    const [crash, harmless] = [order({ do: 'CRASH' }), order({ do: 'REFUSE' })];
    assert.deepEqual(await outcomes(box, [crash, harmless]), ['DECODER_FAILED', 'UNREADABLE']);
    assert.deepEqual(await outcomes(box, [harmless, crash]), ['UNREADABLE', 'DECODER_FAILED']);
    assert.deepEqual(await outcomes(box, [crash, crash]), ['DECODER_FAILED', 'DECODER_FAILED']);
    assert.deepEqual(await outcomes(box, [harmless, harmless]), ['UNREADABLE', 'UNREADABLE']);
    assert.equal((await childrenOf(process.pid)).length, 1);
  });

  test('the second waits while the first waits for memory', async (context) => {
    const box = await openDecoders();
    context.after(box.close);
    const [large, small] = [await tissuePng(2400, 1), await tissueJpeg(96, 2)];
    const [first, second] = await Promise.all([box.prepare(large), box.prepare(small)]);
    assert.deepEqual(first, await prepare(large));
    assert.deepEqual(second, await prepare(small));
    assert.equal((await childrenOf(process.pid)).length, 1);
    assert.deepEqual(box.failures, []);
  });

  test('a third is refused, because nothing would bound the memory', async (context) => {
    const box = await openDecoders({ program: HOSTILE });
    context.after(box.close);
    const harmless = order({ do: 'REFUSE' });
    const requests = [harmless, harmless, harmless].map(async (bytes) => box.prepare(bytes));
    await assert.rejects(Promise.all(requests), /More than 2 requests/);
    await Promise.allSettled(requests);
  });
});

describe('an import', () => {
  const importWith = async (context: TestContext, box: Box, options: Partial<ImportOptions> = {}) => {
    const base = await temporaryFolder(context);
    const [folder, workDir] = [path.join(base, 'images'), path.join(base, 'work')];
    for (const each of [folder, workDir]) await mkdir(each);
    for (let index = 0; index < 12; index += 1)
      await writeFile(path.join(folder, `${index}.jpg`), await tissueJpeg(96, index));
    await writeFile(path.join(folder, 'poison.jpg'), Buffer.concat([JPEG_MAGIC, order({ do: 'CRASH' })]));
    await using opened = await openFolder(folder);
    return await importImages({
      ...{ folder: opened, layout: 'FLAT', labelsCsv: null, patchSizePx: null, workDir },
      ...{ artifacts: openArtifactStore(path.join(base, 'artifacts')), decoders: box.decoders },
      ...options,
    });
  };
  const countsOf = ({ issues }: ImportResult) => issues.map(({ kind, examples }) => [kind, ...examples]);

  test('names the image on which every decoder crashes, and imports the others', async (context) => {
    const [box, hostile] = [await openDecoders(), await openDecoders({ program: HOSTILE })];
    context.after(() => Promise.all([box.close(), hostile.close()]));
    const undisturbed = await importWith(context, box);
    assert.deepEqual(countsOf(undisturbed), [
      ['UNREADABLE', 'poison.jpg'],
      ['NO_GROUPS', '0.jpg'],
    ]);
    const crashing: ImageDecoders = {
      ...{
        processCount: 1,
        requestCount: 2,
        thumbnail: box.decoders.thumbnail,
        [Symbol.asyncDispose]: async () => undefined,
      },
      prepare: async (request) => {
        const crashesDecoder = request.file.byteSize < 100;
        return (crashesDecoder ? hostile : box).decoders.prepare(request);
      },
    };
    const disturbed = await importWith(context, box, { decoders: crashing });
    assert.equal(disturbed.digest, undisturbed.digest);
    assert.equal(disturbed.imageCount, 12);
    assert.deepEqual(countsOf(disturbed)[0], ['DECODER_FAILED', 'poison.jpg']);
  });

  test('whose decoder is killed continues, and gives the same version', async (context) => {
    const box = await openDecoders();
    const undisturbed = await importWith(context, box);
    const pid = await decoderProcess();
    let filesDone = 0;
    const disturbed = await importWith(context, box, {
      throwIfStopped: () => {
        filesDone += 1;
        // As the kernel does if memory runs out.
        if (filesDone === 3) process.kill(pid, 'SIGKILL');
      },
    });
    assert.match(box.failures[0]?.ending ?? '', /SIGKILL/);
    assert.equal(box.failures.length, 1);
    assert.equal(disturbed.digest, undisturbed.digest);
    assert.deepEqual(countsOf(disturbed), countsOf(undisturbed));
    await box.close();
    assert.deepEqual(await childrenOf(process.pid), []);
  });
});

const JPEG_MAGIC = Buffer.from([0xff, 0xd8, 0xff]);

/** The process that runs the decoder's program, within its sandbox. */
async function decoderProcess(): Promise<number> {
  return eventually('a decoder', async () => {
    for (const pid of await familyOf(process.pid)) {
      const [program = ''] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
      if (pid !== process.pid && program === process.execPath) return pid;
    }
    return undefined;
  });
}
