/** Files made to break the reader: each is refused for its own reason, or read without executing any of its code. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { accessBytes } from '../../src/formats/random-access.ts';
import {
  DEFAULT_TORCH_CHECKPOINT_LIMITS,
  readTorchCheckpoint,
  TORCH_CHECKPOINT_FAULTS,
  TorchCheckpointError,
} from '../../src/formats/torch-checkpoint/index.ts';
import type { TorchCheckpointLimits } from '../../src/formats/torch-checkpoint/index.ts';
import { hostileFiles, inertFiles } from '../fixtures/hostile/torch-corpus.ts';
import { archive, archiveParts, legacy, stateDict, zip } from '../fixtures/hostile/torch-files.ts';

const MAX_HEAP_GROWTH_BYTES = 600 * 1024 * 1024;
const goldenDir = new URL('../golden/torch-checkpoint/', import.meta.url);
const golden = (name: string): Buffer => readFileSync(new URL(name, goldenDir));

/** Reads a file and all its tensors. */
async function readWhole(
  bytes: Uint8Array,
  limits: Partial<TorchCheckpointLimits> = {},
): Promise<Awaited<ReturnType<typeof readTorchCheckpoint>>> {
  const checkpoint = await readTorchCheckpoint(accessBytes(bytes), { ...DEFAULT_TORCH_CHECKPOINT_LIMITS, ...limits });
  for (const tensor of checkpoint.tensors) await tensor.load();
  return checkpoint;
}

async function refusalOf(
  bytes: Uint8Array,
  limits?: Partial<TorchCheckpointLimits>,
): Promise<TorchCheckpointError | undefined> {
  try {
    await readWhole(bytes, limits);
    return undefined;
  } catch (error) {
    // Anything else is a crash, and fails the test.
    if (error instanceof TorchCheckpointError) return error;
    throw error;
  }
}

test('the files from which the corpus is made are valid', async () => {
  for (const bytes of [archive(), zip(archiveParts(stateDict()), { zip64: 'RIGHT' }), legacy()]) {
    const { tensors, placeholders } = await readWhole(bytes);
    assert.deepEqual(
      tensors.map(({ name, shape }) => ({ name, shape })),
      [{ name: 'weight', shape: [2, 3] }],
    );
    assert.deepEqual(await tensors[0]?.load(), { dtype: 'F32', data: new Float32Array([1, 2, 3, 4, 5, 6]) });
    assert.deepEqual(placeholders, []);
  }
});

describe('refused', () => {
  const corpus = hostileFiles();
  for (const { what, fault, bytes, limits } of corpus) {
    test(`${fault}: ${what}`, async () => {
      const heapBytes = process.memoryUsage().rss;
      const refusal = await refusalOf(bytes, limits);
      assert.equal(refusal?.fault, fault, refusal?.message ?? 'it was read');
      assert.ok(refusal.place.length > 0 && refusal.place.length < 2000 && refusal.message.length < 1000);
      assert.ok(
        process.memoryUsage().rss - heapBytes < MAX_HEAP_GROWTH_BYTES,
        `took ${process.memoryUsage().rss - heapBytes} bytes`,
      );
    });
  }

  test('every fault has a file', () => {
    const met = new Set(corpus.map(({ fault }) => fault));
    assert.deepEqual(
      TORCH_CHECKPOINT_FAULTS.filter((fault) => !met.has(fault)),
      [],
    );
  });

  test('a source that returns fewer bytes than it announces', async () => {
    const bytes = archive();
    const shrinking = {
      byteSize: bytes.length,
      read: async (offset: number, length: number) => new Uint8Array(bytes.subarray(offset, offset + length - 1)),
    };
    await assert.rejects(
      readTorchCheckpoint(shrinking),
      (error) => error instanceof TorchCheckpointError && error.fault === 'READ_SHORT',
    );
  });
});

describe('read, with its code left inert', () => {
  for (const { what, bytes, placeholders } of inertFiles()) {
    test(what, async () => {
      const checkpoint = await readWhole(bytes);
      assert.deepEqual(checkpoint.placeholders.map(({ name }) => name).sort(), [...placeholders].sort());
      assert.ok(checkpoint.tensors.some(({ name }) => name === 'weight'));
    });
  }

  test('says where the code is, and how many calls were not made', async () => {
    const { placeholders } = await readWhole(golden('lightning.zip.ckpt'));
    const system = placeholders.find(({ name }) => name === 'posix.system');
    assert.equal(system?.callCount, 2);
    assert.equal(golden('lightning.zip.ckpt').includes('cposix\nsystem\n'), true);
    assert.ok(system.byteOffset > 0);
  });
});

describe('damaged', () => {
  const files = readdirSync(goldenDir).filter((name) => /^(lightning|dtypes|views)\./.test(name));

  for (const name of files) {
    test(`${name}: cut off at every byte`, async () => {
      const bytes = golden(name);
      for (let end = 0; end < bytes.length; end += 1)
        assert.notEqual(await refusalOf(bytes.subarray(0, end)), undefined, `cut at ${end}`);
    });

    // Some bit flips are harmless (in a name, or in a number of a legacy file without checksums); none may crash, hang
    // or exhaust memory.
    test(`${name}: bits flipped under a fixed seed`, async () => {
      const bytes = golden(name);
      const draw = generator(20_260_000 + bytes.length);
      let refused = 0;
      for (let round = 0; round < 1500; round += 1) {
        const damaged = new Uint8Array(bytes);
        for (let flips = 1 + draw(4); flips > 0; flips -= 1) {
          const at = draw(damaged.length);
          damaged[at] = (damaged[at] ?? 0) ^ (1 << draw(8));
        }
        if ((await refusalOf(damaged)) !== undefined) refused += 1;
      }
      assert.ok(refused > 300, `only ${refused} were refused`);
    });
  }

  // Checksums protect the pickle machine from most mutations, so these pickles have none.
  test('pickles spliced from pieces of valid ones under a fixed seed', async () => {
    const draw = generator(7);
    const sound = [stateDict(), ...inertFiles().map(({ bytes }) => bytes.subarray(46, 400))];
    for (let round = 0; round < 3000; round += 1) {
      const pieces = Array.from({ length: 1 + draw(4) }, () => {
        const from = sound[draw(sound.length)] ?? Buffer.alloc(0);
        const start = draw(from.length);
        return from.subarray(start, start + 1 + draw(120));
      });
      await refusalOf(archive(Buffer.concat([stateDict().subarray(0, draw(60)), ...pieces])));
    }
  });
});

/** Natural numbers below a bound: mulberry32. */
function generator(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound);
  };
}
