/**
 * The corpus of hostile files, imported as a user would: each is refused with its specific error.
 */
import assert from 'node:assert/strict';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import type { InputContract } from '../../src/protocol/checkpoint.ts';
import { hostileFiles, inertFiles } from '../fixtures/hostile/torch-corpus.ts';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';
import { readEncoderInMemory } from '../support/weights-sink.ts';

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
  const error: unknown = await readEncoderInMemory([handle.fd], {
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
