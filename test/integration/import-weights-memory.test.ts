/** The memory of an import does not grow with the file: the tensors of an encoder are read one at a time. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { architectureNamed, describeEncoder, type NamedEncoder } from '../../src/formats/encoders/index.ts';
import { layOutSafetensors } from '../../src/formats/safetensors.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../support/reads-weights.ts');

test('an import takes far less than the file, which it need not hold', async (context) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-memory-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const peakOf = async (encoder: NamedEncoder): Promise<{ readonly peakBytes: number; readonly byteSize: number }> => {
    const { tensors } = describeEncoder(architectureNamed(encoder));
    const { beginning, byteSize } = layOutSafetensors(
      tensors.map(({ name, shape }) => ({ name, shape, dtype: 'F32' })),
    );
    const file = path.join(folder, `${encoder}.safetensors`);
    await using handle = await open(file, 'w');
    await handle.write(beginning);
    // The values are a hole, which reads as zeros and takes no space.
    await handle.truncate(byteSize);
    const out = path.join(folder, `${encoder}.out`);
    const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, file, out]);
    assert.ok((await stat(out)).size >= byteSize, 'the encoder was stored');
    return { peakBytes: Number(stdout), byteSize };
  };
  const small = await peakOf('VIT_TI16');
  const large = await peakOf('VIT_B16');
  const growth = (large.peakBytes - small.peakBytes) / (large.byteSize - small.byteSize);
  assert.ok(growth < 0.3, `each byte of the file takes ${growth} bytes of memory`);
});
