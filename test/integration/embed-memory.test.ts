/** The memory of an embedding: an encoder's weights are in memory once, in the dtype of their file. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/env.ts';
import { describeEncoder } from '../../src/formats/encoders/index.ts';
import { VIT_PRESETS } from '../../src/formats/encoders/vit/presets.ts';
import { layOutSafetensors } from '../../src/formats/safetensors.ts';
import { ENGINE_PROCESS_ENV } from '../../workers/engine/process-env.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../support/embeds-by-weights.ts');

for (const dtype of ['F32', 'F16', 'BF16'] as const)
  test(`an embedding by weights in ${dtype} takes little more than their file`, async (context) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-memory-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const peakOf = async (depth: number): Promise<{ readonly peakBytes: number; readonly byteSize: number }> => {
      const specification = { ...VIT_PRESETS.VIT_B16, depth };
      const { tensors } = describeEncoder({ family: 'VIT', specification });
      const { beginning, byteSize } = layOutSafetensors(tensors.map(({ name, shape }) => ({ name, shape, dtype })));
      const file = path.join(folder, `${depth}.safetensors`);
      await using handle = await open(file, 'w');
      await handle.write(beginning);
      // The values are a hole, which reads as zeros and takes no space.
      await handle.truncate(byteSize);
      const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, `${depth}`, file], {
        env: childEnvironment(ENGINE_PROCESS_ENV),
      });
      return { peakBytes: Number(stdout), byteSize };
    };
    // Both have the same layers, so that all else that takes memory is the same.
    const [shallow, deep] = [await peakOf(4), await peakOf(16)];
    const growth = (deep.peakBytes - shallow.peakBytes) / (deep.byteSize - shallow.byteSize);
    assert.ok(growth < 1.3, `each byte of the file takes ${growth} bytes of memory`);
  });
