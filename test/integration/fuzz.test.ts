/**
 * Fuzzing: every parser of untrusted bytes gets valid files that are changed at random, for a bounded time. Each input
 * must be read, or refused with the parser's own kind of error, within a deadline. A failure names its seed and
 * contains the bytes, which should then be added to the corpus test/fixtures/fuzz.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open, realpath } from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { GraphQLError, parse } from 'graphql';
import { checkDocument, MAX_TOKENS } from '../../src/api/limits.ts';
import { checkedJson, parseInstant } from '../../src/api/scalars.ts';
import { buildSchema } from '../../src/api/schema.ts';
import { DomainError } from '../../src/errors.ts';
import { ManifestError, openManifest, walkShard } from '../../src/formats/manifest/index.ts';
import { NpyError, readNpy, writeNpy } from '../../src/formats/npy.ts';
import { accessBytes } from '../../src/formats/random-access.ts';
import { readForeignSafetensors, SafetensorsError, writeSafetensors } from '../../src/formats/safetensors.ts';
import { readTorchCheckpoint, TorchCheckpointError } from '../../src/formats/torch-checkpoint/index.ts';
import { claimedKeyId } from '../../src/modules/access/index.ts';
import { openFolder } from '../../src/platform/open-folder.ts';
import { decodeCursor } from '../../src/platform/page.ts';
import { recordIssues } from '../../workers/imaging/issues.ts';
import { readLabelsCsv } from '../../workers/imaging/labels-csv.ts';
import { bmpOf, picture, tissueJpeg, tissuePixels, tissuePng } from '../fixtures/hostile-images.ts';
import { prepare } from '../support/prepared-image.ts';
import { manifestBytes, manifestRows } from '../support/manifests.ts';
import { createRandom, mutated } from '../support/mutations.ts';
import { plainImages, tarBytes, temporaryFolder } from '../support/shards.ts';

/** Time for each parser. */
const FUZZ_MS = 400;
/** Limit for one input in processor time, which does not depend on other load. */
const INPUT_CPU_MS_MAX = 5_000;
const SEED = randomInt(2 ** 31 - 1);
const KEPT = path.resolve(import.meta.dirname, '../fixtures/fuzz');

type Refusal = abstract new (...args: never[]) => Error;

interface Parser {
  readonly corpus: () => Promise<readonly Buffer[]>;
  readonly read: (bytes: Buffer) => unknown;
  /** Errors that it may throw. */
  readonly refusals: readonly Refusal[];
}

const GOLDEN_CHECKPOINTS = path.resolve(import.meta.dirname, '../golden/torch-checkpoint');
const texts =
  (...lines: readonly string[]) =>
  async (): Promise<Buffer[]> =>
    lines.map((line) => Buffer.from(line));
async function readManifest(bytes: Buffer): Promise<void> {
  const manifest = await openManifest(accessBytes(bytes), { imageCount: 1, shardByteSizes: [2000] });
  const columns = await manifest.read(['key', 'label', 'group', 'shard', 'byteLength', 'x', 'sourcePath']);
  assert.equal(columns.label.length, 1);
}

function foreignSafetensors(header: string, byteCount: number): Buffer {
  const bytes = Buffer.alloc(8 + header.length + byteCount);
  bytes.writeBigUInt64LE(BigInt(header.length));
  bytes.write(header, 8, 'latin1');
  return bytes;
}
const schema = buildSchema(false);
let folder = '';

before(async (context) => {
  assert.ok('after' in context);
  folder = await realpath(await temporaryFolder(context));
  for (const name of ['a.png', 'b, c.png']) writeFileSync(path.join(folder, name), '');
});

const PARSERS: Readonly<Record<string, Parser>> = {
  safetensors: {
    corpus: async () => [
      Buffer.from(
        writeSafetensors(
          [
            { name: 'a.weight', dtype: 'F32', shape: [2, 3], data: new Float32Array(6) },
            { name: 'b', dtype: 'F32', shape: [], data: new Float32Array(1) },
          ],
          { format: 'pt' },
        ),
      ),
      foreignSafetensors('{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}', 4),
    ],
    read: (bytes) => readForeignSafetensors(bytes),
    refusals: [SafetensorsError],
  },
  'checkpoint of PyTorch': {
    corpus: async () =>
      readdirSync(GOLDEN_CHECKPOINTS)
        .map((name) => readFileSync(path.join(GOLDEN_CHECKPOINTS, name)))
        .filter(({ length }) => length < 10_000),
    read: async (bytes) => {
      for (const tensor of (await readTorchCheckpoint(accessBytes(bytes))).tensors) await tensor.load();
    },
    refusals: [TorchCheckpointError],
  },
  npy: {
    corpus: async () => [
      writeNpy({ shape: [2, 3], data: new Float32Array(6) }),
      writeNpy({ shape: [4], data: new Uint8Array(4) }),
    ],
    read: readNpy,
    refusals: [NpyError],
  },
  image: {
    corpus: async () => {
      const pixels = tissuePixels(40, 3);
      const [webp, tiff] = await Promise.all([
        picture(pixels, 40).webp().toBuffer(),
        picture(pixels, 40).tiff({ compression: 'lzw' }).toBuffer(),
      ]);
      const bitmaps = ([8, 24, 32] as const).map((bitsPerPixel) => bmpOf(pixels, 40, 40, { bitsPerPixel }));
      return [await tissueJpeg(40, 1), await tissuePng(40, 2), webp, tiff, ...bitmaps];
    },
    // It reports a refusal in its result instead of throwing.
    read: (bytes) =>
      // 64 Mpx of any kind.
      prepare(bytes, null, {
        onReserve: (byteCount) => assert.ok(byteCount <= 24 * 64 * 1024 * 1024, `${byteCount} bytes`),
      }),
    refusals: [],
  },
  'labels CSV': {
    corpus: texts('path,label,group,split\na.png,x,p1,train\n"b, c.png","y ""z""",,test\n', '\uFEFFpath\r\na.png\r\n'),
    read: async (bytes) => {
      const file = path.join(folder, 'labels.csv');
      writeFileSync(file, bytes);
      await using csv = await open(file);
      await using images = await openFolder(folder);
      return await readLabelsCsv(csv, { folder: images, folderPath: folder, csvColumns: {} }, recordIssues());
    },
    refusals: [DomainError],
  },
  'tar shard': {
    corpus: async () => [
      await tarBytes(await plainImages('a', 2)),
      await tarBytes([{ name: 'deep/x.png', bytes: Buffer.alloc(3) }]),
    ],
    read: async (bytes) => {
      for (const { byteOffset, byteLength } of await walkShard(accessBytes(bytes), 'the fuzz test'))
        assert.equal(bytes.subarray(byteOffset, byteOffset + byteLength).length, byteLength);
    },
    refusals: [ManifestError],
  },
  'manifest of JSON lines': {
    corpus: texts(
      `${JSON.stringify({ key: '000', sha256: 'ab'.repeat(32), label: 'a', group: null, split: null, width: 2, height: 2, shard: 0, byteSize: 5, sourcePath: 'a.png' })}\n`,
    ),
    read: readManifest,
    refusals: [ManifestError],
  },
  'manifest of Parquet': {
    corpus: async () => [await manifestBytes(manifestRows(1)), await manifestBytes(manifestRows(1, 1))],
    read: readManifest,
    refusals: [ManifestError],
  },
  'JSON scalar': {
    corpus: texts('{"a":[1,2.5e300,null,true,"x\\u0000"],"__proto__":{"b":{}}}', '[[[[]]]]', '-0'),
    read: (bytes) => {
      let value: unknown;
      try {
        value = JSON.parse(bytes.toString('utf8'));
      } catch {
        // Text that is not JSON is refused before it reaches the scalar.
        return;
      }
      assert.deepEqual(checkedJson(value), value);
    },
    refusals: [GraphQLError],
  },
  instant: {
    corpus: texts('2026-01-02T03:04:05.678Z', '2026-01-02T03:04:05+01:00'),
    read: (bytes) => assert.ok(Number.isFinite(parseInstant(bytes.toString('utf8')).getTime())),
    refusals: [GraphQLError],
  },
  cursor: {
    corpus: texts('WyJhIiwxXQ', 'WzEsbnVsbF0'),
    read: (bytes) => decodeCursor({ after: bytes.toString('latin1') }, 2),
    refusals: [DomainError],
  },
  'key in a header': {
    corpus: texts(`Bearer pfn_${'ab'.repeat(16)}_${'x'.repeat(43)}`),
    read: (bytes) => claimedKeyId(bytes.toString('latin1')),
    refusals: [],
  },
  'GraphQL document': {
    corpus: texts(
      'query($n: Int) { datasets(first: $n, filter: { organs: ["BREAST"] }) { nodes { id ...f } } } fragment f on Dataset { versions { nodes { id } } }',
      '{ __schema { types { name fields { name } } } }',
      'subscription { runEvents(runId: "x") { sequence } }',
    ),
    read: (bytes) => checkDocument(schema, parse(bytes.toString('utf8'), { maxTokens: MAX_TOKENS }), undefined, {}),
    refusals: [GraphQLError],
  },
};

async function check({ read, refusals }: Parser, bytes: Buffer, where: string): Promise<void> {
  const before = process.cpuUsage();
  try {
    await read(bytes);
  } catch (error) {
    if (!refusals.some((kind) => error instanceof kind))
      throw new Error(`${where} met bytes that it neither reads nor refuses: ${bytes.toString('base64')}`, {
        cause: error,
      });
  }
  const { user, system } = process.cpuUsage(before);
  const cpuMs = (user + system) / 1000;
  assert.ok(cpuMs < INPUT_CPU_MS_MAX, `${where} took ${cpuMs.toFixed(0)} ms for ${bytes.toString('base64')}`);
}

describe('under random and mutated bytes', () => {
  for (const [name, parser] of Object.entries(PARSERS)) {
    test(name, async () => {
      const corpus = await parser.corpus();
      for (const bytes of corpus) await parser.read(bytes);
      const kept = readdirSync(KEPT)
        .filter((file) => file.startsWith(`${name.replaceAll(' ', '-')}.`))
        .map((file) => readFileSync(path.join(KEPT, file)));
      for (const bytes of kept) await check(parser, bytes, `${name}, kept`);
      const random = createRandom(SEED);
      const endMs = performance.now() + FUZZ_MS;
      for (let count = 1; performance.now() < endMs; count += 1)
        await check(parser, mutated([...corpus, ...kept], random), `${name} under seed ${SEED}, input ${count},`);
    });
  }
});
