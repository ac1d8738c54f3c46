/** What runs are placed on: GPUs as nvidia-smi reports them, or slots of the CPU. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { usableMemoryBytes } from '../../src/platform/machine.ts';
import { cpuDevices, gpuDevices } from '../../workers/devices.ts';
import { fakeNvidiaSmi } from '../support/nvidia-smi.ts';
import { temporaryFolder } from '../support/shards.ts';

describe('GPUs', () => {
  test('each has its UUID; a process sees only its own', async (context) => {
    const devices = gpuDevices(
      undefined,
      await fakeNvidiaSmi(context, "printf 'GPU-aaaa, 81559, 81000\\nGPU-bbbb, 81559, 81000\\n'"),
    );
    const facts = {
      ...{ device: 'GPU', bfloat16: true, gpuMemoryMiB: 81_559 },
      memoryMiB: Math.floor(usableMemoryBytes() / 1024 ** 2 / 2),
    };
    assert.deepEqual(await devices.list(), [
      { id: 'GPU-aaaa', env: { CUDA_VISIBLE_DEVICES: 'GPU-aaaa' }, facts },
      { id: 'GPU-bbbb', env: { CUDA_VISIBLE_DEVICES: 'GPU-bbbb' }, facts },
    ]);
  });

  test('are those that the scheduler of a cluster gave to the job', async (context) => {
    const program = await fakeNvidiaSmi(context, "printf 'GPU-aaaa, 9, 9\\nGPU-bbbb, 9, 9\\nGPU-cccc, 9, 9\\n'");
    const idsOf = async (visible: readonly string[]): Promise<string[]> =>
      (await gpuDevices(visible, program).list()).map(({ id }) => id);
    assert.deepEqual(await idsOf(['1']), ['GPU-bbbb']);
    assert.deepEqual(await idsOf(['GPU-c', '0']), ['GPU-aaaa', 'GPU-cccc']);
    assert.deepEqual(await idsOf(['7']), []);
  });

  test('is available only while its memory is free, which is checked each time', async (context) => {
    const program = await fakeNvidiaSmi(context, "printf 'GPU-aaaa, 1000, 799\\nGPU-bbbb, 1000, 800\\n'");
    const devices = gpuDevices(undefined, program);
    const [full, free] = await devices.list();
    assert.ok(full !== undefined && free !== undefined);
    assert.deepEqual([await devices.hasRoom(full), await devices.hasRoom(free)], [false, true]);
    await writeFile(program, "#!/bin/sh\nprintf 'GPU-aaaa, 1000, 990\\n'\n");
    assert.deepEqual(
      [await devices.hasRoom(full), await devices.hasRoom(free)],
      [true, false],
      'one that fell off the bus has none',
    );
  });

  test('a driver that does not answer is reported, and not treated as a machine without GPUs', async (context) => {
    const folder = await temporaryFolder(context);
    for (const [program, reason] of [
      [
        await fakeNvidiaSmi(context, 'echo "Failed to initialize NVML: Driver/library version mismatch" >&2; exit 9'),
        'Failed to initialize NVML: Driver/library version mismatch',
      ],
      [path.join(folder, 'not-there'), 'nvidia-smi is not installed'],
    ] as const) {
      await assert.rejects(
        gpuDevices(undefined, program).list(),
        (error) =>
          error instanceof DomainError &&
          error.code === 'GPU_UNREACHABLE' &&
          error.message === `The engine's CUDA build is installed, but no NVIDIA driver answers: ${reason}.` &&
          error.hint?.includes('npm run engine -- --build cpu') === true,
      );
    }
  });
});

describe('CPU slots', () => {
  test('are no more than there are cores, and share them', async () => {
    const devices = await cpuDevices('worker', 9, 4).list();
    assert.deepEqual(
      devices.map(({ id }) => id),
      ['worker/cpu-0', 'worker/cpu-1', 'worker/cpu-2', 'worker/cpu-3'],
    );
    assert.ok(devices.every(({ env }) => env['TF_NUM_INTRAOP_THREADS'] === '1'));
    assert.deepEqual(
      (await cpuDevices('worker', 2, 8).list()).map(({ env }) => env['TF_NUM_INTRAOP_THREADS']),
      ['4', '4'],
    );
    const [alone] = await cpuDevices('worker', 1, 8).list();
    assert.deepEqual(alone?.env, {}, 'one alone has them all');
  });

  test('promise each run an equal part of the memory', async () => {
    const memoryMiB = async (slots: number): Promise<(number | undefined)[]> =>
      (await cpuDevices('worker', slots, 8).list()).map(({ facts }) => facts.memoryMiB);
    const whole = Math.floor(usableMemoryBytes() / 1024 ** 2);
    assert.deepEqual(await memoryMiB(1), [whole]);
    assert.deepEqual(await memoryMiB(2), [
      Math.floor(usableMemoryBytes() / 1024 ** 2 / 2),
      Math.floor(usableMemoryBytes() / 1024 ** 2 / 2),
    ]);
  });
});
