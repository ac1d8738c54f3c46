/** Weights in several files: read as the one file that holds the same. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { CommandFailure } from '../../src/cli/exit-codes.ts';
import { weightsToUpload } from '../../src/cli/client/weights-files.ts';
import { accessBytes, type RandomAccess } from '../../src/formats/random-access.ts';
import {
  openForeignSafetensors,
  readSafetensors,
  SafetensorsError,
  writeSafetensors,
  type SafetensorsTensor,
} from '../../src/formats/safetensors.ts';
import { mergedShards, shardNamesOf } from '../../src/formats/sharded-safetensors.ts';

const floats = (name: string, ...values: number[]): SafetensorsTensor => ({
  name,
  dtype: 'F32',
  shape: [values.length],
  data: Float32Array.from(values),
});
/** A scalar, which has no axis, and a tensor without values, so that a part begins where another ends. */
const COUNT: SafetensorsTensor = { name: 'count', dtype: 'I64', shape: [], data: BigInt64Array.of(7n) };
const NOTHING: SafetensorsTensor = { name: '__proto__', dtype: 'F32', shape: [0], data: new Float32Array(0) };
const SHARDS = [[floats('b', 1, 2, 3), COUNT], [NOTHING], [floats('a', 4), floats('1', 5, 6)]] as const;
const FILES = SHARDS.map((tensors, index) => writeSafetensors(tensors, { format: 'pt', [`shard${index}`]: 'x' }));
const byName = (a: SafetensorsTensor, b: SafetensorsTensor): number => (a.name < b.name ? -1 : 1);
const whole = async (source: RandomAccess): Promise<Uint8Array> => source.read(0, source.byteSize);

describe('shards', () => {
  test('are one valid file with every tensor and the metadata of all', async () => {
    const { tensors, metadata } = readSafetensors(await whole(await mergedShards(FILES.map(accessBytes))));
    assert.deepEqual(tensors.toSorted(byName), SHARDS.flat().toSorted(byName));
    assert.deepEqual(metadata, { format: 'pt', shard0: 'x', shard1: 'x', shard2: 'x' });
  });

  test('are read from any place, across their borders and beyond the end', async () => {
    const merged = await mergedShards(FILES.map(accessBytes));
    const all = await whole(merged);
    for (let first = 0; first <= all.length; first += 3)
      for (const length of [0, 1, 7, 40, all.length])
        assert.deepEqual(await merged.read(first, length), all.slice(first, first + length), `${first}+${length}`);
  });

  test('of which one alone is the file that it was, tensor by tensor', async () => {
    const { tensors } = await openForeignSafetensors(await mergedShards([accessBytes(FILES[0] ?? assert.fail())]));
    const values = await Promise.all(
      tensors.map(async ({ name, load }) => `${name}: ${(await load(new Uint8Array(12))).data.join()}`),
    );
    assert.deepEqual(values, ['count: 7', 'b: 1,2,3']);
  });

  test('that have a tensor twice, or are damaged, are refused', async () => {
    const twice = mergedShards([...FILES, ...FILES.slice(0, 1)].map(accessBytes));
    await assert.rejects(twice, (error) => error instanceof SafetensorsError && error.fault === 'DUPLICATE_KEY');
    const cut = mergedShards(FILES.map((file) => accessBytes(file.subarray(0, -1))));
    await assert.rejects(cut, (error) => error instanceof SafetensorsError && error.fault === 'END_MISMATCH');
  });
});

describe('an index of shards', () => {
  test('names each shard once, in the order in which they are merged', () => {
    const index = {
      metadata: { total_size: 3 },
      weight_map: { a: '2.safetensors', b: '1.safetensors', c: '2.safetensors' },
    };
    assert.deepEqual(shardNamesOf(JSON.stringify(index)), ['1.safetensors', '2.safetensors']);
  });

  for (const [what, text] of [
    ['that is not JSON', '{'],
    ['without a map', '{"weights": {}}'],
    ['without a tensor', '{"weight_map": {}}'],
    ['of a file elsewhere', '{"weight_map": {"a": "../secret.safetensors"}}'],
    ['of a file with another path', '{"weight_map": {"a": "folder\\\\a.safetensors"}}'],
    ['of files that are not safetensors', '{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}'],
    [
      'of too many files',
      JSON.stringify({
        weight_map: Object.fromEntries(Array.from({ length: 201 }, (_, at) => [at, `${at}.safetensors`])),
      }),
    ],
  ] as const) {
    test(`${what} is refused`, () => {
      assert.throws(
        () => shardNamesOf(text),
        (error) => error instanceof SafetensorsError && error.fault === 'SHARD_INDEX_INVALID',
      );
    });
  }
});

describe('the command line', () => {
  async function folderOfShards(context: TestContext): Promise<string> {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-shards-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const names = FILES.map((_file, index) => `model-0000${index + 1}-of-00003.safetensors`);
    await Promise.all(FILES.map((file, index) => writeFile(path.join(folder, names[index] ?? ''), file)));
    const weightMap = Object.fromEntries(
      SHARDS.flatMap((shard, index) => shard.map(({ name }) => [`x${name}`, names[index]])),
    );
    await writeFile(path.join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
    return folder;
  }

  test('sends shards as one file, by their index or their folder', async (context) => {
    const folder = await folderOfShards(context);
    const expected = await whole(await mergedShards(FILES.map(accessBytes)));
    for (const source of [folder, path.join(folder, 'model.safetensors.index.json')]) {
      const { name, blob } = await weightsToUpload(source);
      assert.equal(name, 'model.safetensors');
      assert.deepEqual(await blob.bytes(), expected);
    }
  });

  test('sends one file as it is', async (context) => {
    const folder = await folderOfShards(context);
    const { name, blob } = await weightsToUpload(path.join(folder, 'model-00001-of-00003.safetensors'));
    assert.equal(name, 'model-00001-of-00003.safetensors');
    assert.deepEqual(await blob.bytes(), new Uint8Array(FILES[0] ?? assert.fail()));
  });

  test('says what is missing', async (context) => {
    const folder = await folderOfShards(context);
    const refusalOf = async (source: string): Promise<string> => {
      const error: unknown = await weightsToUpload(source).then(
        () => assert.fail('it was read'),
        (reason: unknown) => reason,
      );
      assert.ok(error instanceof CommandFailure, String(error));
      return error.message;
    };
    assert.match(await refusalOf(path.join(folder, 'absent.pt')), /does not exist/);
    await rm(path.join(folder, 'model-00002-of-00003.safetensors'));
    assert.match(await refusalOf(folder), /model-00002-of-00003\.safetensors/);
    await rm(path.join(folder, 'model.safetensors.index.json'));
    assert.match(await refusalOf(folder), /has no index of shards/);
  });
});
