/** `--needs` on the command line: what a run needs of its worker. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { needsFrom } from '../../src/cli/client/requirements.ts';

describe('--needs', () => {
  test('names devices, precision, sizes and labels, in one list or several', () => {
    const first = needsFrom('gpu, bfloat16,memory=1.5G', undefined);
    assert.deepEqual(needsFrom('gpu-memory=40GiB,label=a100,label=basel', first), {
      device: 'GPU',
      bfloat16: true,
      memoryMiB: 1536,
      gpuMemoryMiB: 40_960,
      labels: ['a100', 'basel'],
    });
    assert.deepEqual(needsFrom('CPU,memory=512m', undefined), { device: 'CPU', memoryMiB: 512 });
    assert.deepEqual(needsFrom('memory=1TB', undefined), { memoryMiB: 1024 ** 2 });
  });

  for (const part of ['tpu', '', 'label', 'label=', 'gpu,,cpu'])
    test(`"${part}" is refused with what is allowed`, () =>
      assert.throws(() => needsFrom(part, undefined), /is none of cpu, gpu, bfloat16/));

  for (const part of ['memory', 'memory=', 'memory=32', 'gpu-memory=-1G', 'memory=0G', 'memory=lots'])
    test(`"${part}" is refused with how a size is written`, () =>
      assert.throws(() => needsFrom(part, undefined), /has no size; write 512M, 32G or 1T/));
});
