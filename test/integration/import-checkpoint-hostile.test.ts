/**
 * The corpus of hostile files, imported as a user would: each is refused with its specific error, and one over the
 * limit of size is not read at all.
 */
import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { describeEncoder } from '../../src/formats/encoders/index.ts';
import { readEncoderFile } from '../../src/modules/models/encoder-file.ts';
import { loadPublishedCheckpoints } from '../../src/modules/models/index.ts';
import type { InputContract } from '../../src/protocol/checkpoint.ts';
import { hostileFiles, inertFiles } from '../fixtures/hostile/torch-corpus.ts';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';

const CONTRACT = { ...INPUT_CONTRACT, imageSizePx: 64 };
/** Damaged only in the numbers of tensors, which are not read here, because the keys are refused first. */
const ONLY_WHEN_LOADED = new Set(['a storage that does not match its checksum']);

let folder = '';
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-hostile-'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function refusalOf(file: string, inputContract: InputContract = CONTRACT): Promise<DomainError> {
  await using handle = await open(file);
  const error: unknown = await readEncoderFile(handle.fd, {
    fileName: null,
    expectedSha256: null,
    expectedByteSize: null,
    encoder: null,
    network: null,
    keyPrefix: null,
    specification: null,
    inputContract,
  }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof DomainError, String(error));
  return error;
}

async function refusalOfBytes(bytes: Uint8Array): Promise<DomainError> {
  const file = path.join(folder, 'hostile.ckpt');
  await writeFile(file, bytes);
  return refusalOf(file);
}

/**
 * Files with `limits` are refused only under lowered limits, and bombs of several megabytes take seconds to process:
 * test/unit/formats-torch-hostile.test.ts covers both.
 */
const corpus = hostileFiles().filter(({ limits, bytes }) => limits === undefined && bytes.length < 1_000_000);

describe('a hostile file is refused with the name of its fault', () => {
  for (const { what, fault, bytes } of corpus) {
    test(`${fault}: ${what}`, async () => {
      const { code, message, hint } = await refusalOfBytes(bytes);
      assert.ok(message.length < 3000);
      // A safetensors file is foreign to the reader of PyTorch files alone: an import reads it, and finds no encoder.
      if (ONLY_WHEN_LOADED.has(what) || what === 'a safetensors file') assert.equal(code, 'CHECKPOINT_KEYS_MISMATCH');
      else {
        assert.equal(code, 'FORMAT_INVALID', message);
        assert.match(
          hint ?? '',
          fault === 'NOT_A_CHECKPOINT'
            ? /Import a safetensors file or a PyTorch checkpoint/
            : new RegExp(`Fault ${fault}\\.`),
        );
      }
    });
  }
});

describe('a file whose pickle would run code when PyTorch loads it', () => {
  for (const { what, bytes } of inertFiles()) {
    test(`${what}: is not executed; it is refused because its keys are not those of an encoder`, async () =>
      assert.equal((await refusalOfBytes(bytes)).code, 'CHECKPOINT_KEYS_MISMATCH'));
  }
});

test('a file over the limit is refused before any byte is read', async () => {
  const file = path.join(folder, 'huge.ckpt');
  await using handle = await open(file, 'w');
  await handle.truncate(4 * 1024 ** 3 + 1);
  const readBytes = async (): Promise<number> =>
    Number(/^rchar: (\d+)$/m.exec(await readFile('/proc/self/io', 'utf8'))?.[1]);
  const before = await readBytes();
  const { code, hint } = await refusalOf(file);
  assert.deepEqual([code, hint], ['FILE_TOO_LARGE', 'Save only the state dict of the encoder.']);
  assert.ok((await readBytes()) - before < 1024 * 1024, 'a file that is too large was read');
});

test('an encoder whose float32 form is over the limit is refused by its size, also from a smaller file in half precision', async () => {
  const published = (await loadPublishedCheckpoints()).find(({ slug }) => slug === 'midnight-12k');
  assert.ok(published !== undefined);
  const { tensors } = describeEncoder(published.architecture);
  let end = 0;
  const entries = tensors.map(({ name, shape }) => {
    const begin = end;
    end += shape.reduce((product, side) => product * side, 2);
    return [name, { dtype: 'F16', shape, data_offsets: [begin, end] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = path.join(folder, 'half.safetensors');
  await writeFile(file, Buffer.concat([length, header]));
  // The values are a hole, which takes no space.
  await truncate(file, length.length + header.length + end);
  assert.ok(end < 4 * 1024 ** 3);
  const { code, message } = await refusalOf(file, published.inputContract);
  assert.equal(code, 'FILE_TOO_LARGE');
  assert.match(message, new RegExp(`takes ${2 * end} bytes as float32`));
});
