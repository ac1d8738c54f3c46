/**
 * Checkpoints that real PyTorch wrote, compared with the numbers that PyTorch reads from them
 * (test/golden/torch_checkpoint_oracle.py).
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { accessBytes, accessFile } from '../../src/formats/random-access.ts';
import { readTorchCheckpoint, toFloat32 } from '../../src/formats/torch-checkpoint/index.ts';
import type { TorchTensorData } from '../../src/formats/torch-checkpoint/index.ts';

const numberText = z.array(z.string());
const expectedFile = z.object({
  torch: z.string(),
  files: z.record(
    z.string(),
    z.object({
      format: z.enum(['ZIP', 'LEGACY']),
      tensors: z.array(
        z.object({
          name: z.string(),
          dtype: z.string(),
          shape: z.array(z.number()),
          numbers: numberText,
          float32: numberText,
        }),
      ),
    }),
  ),
});
const golden = new URL('../golden/', import.meta.url);
const expected = expectedFile.parse(
  JSON.parse(readFileSync(new URL('torch-checkpoint-expected.json', golden), 'utf8')),
);
const bytesOf = (name: string): Buffer => readFileSync(new URL(`torch-checkpoint/${name}`, golden));

const fromPython = (text: string): number => (text === 'inf' ? Infinity : text === '-inf' ? -Infinity : Number(text));

function integersOf({ dtype, data }: TorchTensorData): string[] | undefined {
  return dtype === 'F64' || dtype === 'F32' || dtype === 'F16' || dtype === 'BF16'
    ? undefined
    : Array.from(data, String);
}

describe(`what PyTorch ${expected.torch} wrote`, () => {
  for (const [name, { format, tensors }] of Object.entries(expected.files)) {
    test(name, async () => {
      const checkpoint = await readTorchCheckpoint(accessBytes(bytesOf(name)));
      assert.equal(checkpoint.format, format);
      assert.deepEqual(
        checkpoint.tensors.map(({ name: found, dtype, shape }) => ({ name: found, dtype, shape })),
        tensors.map(({ name: wanted, dtype, shape }) => ({ name: wanted, dtype, shape })),
      );
      for (const [index, wanted] of tensors.entries()) {
        const loaded = await checkpoint.tensors[index]?.load();
        assert.ok(loaded !== undefined);
        const integers = integersOf(loaded);
        if (integers !== undefined) assert.deepEqual(integers, wanted.numbers, wanted.name);
        // deepStrictEqual distinguishes -0 from 0.
        assert.deepEqual(Array.from(toFloat32(loaded)), wanted.float32.map(fromPython), wanted.name);
      }
    });
  }
});

describe('a Lightning checkpoint whose callbacks would run a command in Python', () => {
  for (const name of ['lightning.zip.ckpt', 'lightning.legacy.ckpt']) {
    test(`${name}: weights, scalars, what was ignored and what was left inert`, async () => {
      const { tensors, scalars, ignored, placeholders } = await readTorchCheckpoint(accessBytes(bytesOf(name)));
      assert.deepEqual(
        tensors.slice(0, 2).map(({ path, name: within }) => [path, within]),
        [
          ['state_dict.model.conv.weight', 'model.conv.weight'],
          ['state_dict.model.conv.bias', 'model.conv.bias'],
        ],
      );
      assert.deepEqual(
        scalars.map(({ path, value }) => [path, value]),
        [
          ['epoch', 9],
          ['global_step', 1000],
          ['pytorch-lightning_version', '1.0.0'],
          ['hyper_parameters.lr', 0.1],
          ['hyper_parameters.arch', 'tiny'],
        ],
      );
      assert.deepEqual(ignored, [
        { path: 'optimizer_states', tensorCount: 4 },
        { path: 'lr_schedulers', tensorCount: 0 },
        { path: 'callbacks', tensorCount: 1 },
        { path: 'hyper_parameters', tensorCount: 0 },
      ]);
      assert.deepEqual(
        placeholders.map(({ name: inert, callCount }) => [inert, callCount]),
        [
          ['lab_callbacks.LabCheckpoint', 1],
          ['posix.system', 2],
          ['torch.device', 1],
        ],
      );
    });
  }
});

test('only the needed parts of a file are read, and tensors only when they are loaded', async () => {
  const url = new URL('torch-checkpoint/views.zip.pt', golden);
  const handle = await open(url);
  try {
    const file = accessFile(handle, (await handle.stat()).size);
    let readBytes = 0;
    const counted = {
      byteSize: file.byteSize,
      read: async (offset: number, length: number) => ((readBytes += length), file.read(offset, length)),
    };
    const { tensors } = await readTorchCheckpoint(counted);
    const beforeLoading = readBytes;
    const row = await tensors.find(({ name }) => name === 'row')?.load();
    assert.deepEqual(row, { dtype: 'F32', data: new Float32Array([20, 21, 22, 23]) });
    // The storage of 24 numbers is read once for its checksum, and the four numbers once.
    assert.equal(readBytes - beforeLoading, 96 + 16);
    assert.deepEqual(await tensors.find(({ name }) => name === 'grid')?.load(), {
      dtype: 'F32',
      data: Float32Array.from({ length: 24 }, (_none, index) => index),
    });
  } finally {
    await handle.close();
  }
});

test('contiguous numbers are read directly into the given buffer, and all others through a copy', async () => {
  const { tensors } = await readTorchCheckpoint(accessBytes(bytesOf('views.zip.pt')));
  const place = (count: number): Uint8Array<ArrayBuffer> => new Uint8Array(count * 4).fill(255);
  const load = async (name: string, into: Uint8Array<ArrayBuffer>): Promise<TorchTensorData | undefined> =>
    tensors.find((tensor) => tensor.name === name)?.load(into);
  const row = place(4);
  assert.deepEqual((await load('row', row))?.data.buffer, row.buffer);
  assert.deepEqual(new Float32Array(row.buffer), new Float32Array([20, 21, 22, 23]));
  for (const name of ['transposed', 'every_second', 'expanded']) {
    const shape = tensors.find((tensor) => tensor.name === name)?.shape ?? [];
    const untouched = place(shape.reduce((product, size) => product * size, 1));
    assert.notEqual((await load(name, untouched))?.data.buffer, untouched.buffer);
    assert.ok(
      untouched.every((byte) => byte === 255),
      name,
    );
  }
});

test('a plain training loop: the optimiser is not a weight', async () => {
  const { tensors } = await readTorchCheckpoint(accessBytes(bytesOf('protocol4.zip.pt')));
  assert.deepEqual(
    tensors.map(({ path, name }) => [path, name]),
    [['nested.weight', 'nested.weight']],
  );
});

describe('toFloat32', () => {
  test('is exact for every float16 that is not NaN', () => {
    const halves = Uint16Array.from({ length: 65_536 }, (_none, bits) => bits);
    const floats = toFloat32({ dtype: 'F16', data: halves });
    const reference = new DataView(new ArrayBuffer(2));
    for (const bits of halves) {
      reference.setUint16(0, bits);
      const wanted = reference.getFloat16(0);
      assert.ok(Object.is(floats[bits], wanted), `0x${bits.toString(16)}: ${floats[bits]} is not ${wanted}`);
    }
  });

  test('keeps every bfloat16 bit for bit', () => {
    const floats = toFloat32({ dtype: 'BF16', data: Uint16Array.of(0x3f80, 0x8000, 0xff80, 0x0001, 0x7fc1) });
    assert.deepEqual([...new Uint32Array(floats.buffer)], [0x3f800000, 0x80000000, 0xff800000, 0x00010000, 0x7fc10000]);
  });

  test('rounds long integers once, to the nearest', () => {
    // 2^60 + 2^36 is half-way between two floats; adding one gives a number above the middle, which a conversion
    // through float64 would round to the middle.
    const data = BigInt64Array.of(2n ** 60n + 2n ** 36n, 2n ** 60n + 2n ** 36n + 1n, -(2n ** 60n + 2n ** 36n + 1n), 3n);
    assert.deepEqual([...toFloat32({ dtype: 'I64', data })], [2 ** 60, 2 ** 60 + 2 ** 37, -(2 ** 60 + 2 ** 37), 3]);
  });

  test('does not copy float32, and converts booleans to 0 and 1', () => {
    const data = new Float32Array([1.5]);
    assert.equal(toFloat32({ dtype: 'F32', data }), data);
    assert.deepEqual([...toFloat32({ dtype: 'BOOL', data: Uint8Array.of(0, 1, 255) })], [0, 1, 1]);
  });
});
