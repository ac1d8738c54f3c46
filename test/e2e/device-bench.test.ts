/**
 * `npm run bench:device` without a GPU: it refuses in one sentence, and with `--cpu` runs to its end, so that whoever
 * has a GPU for an hour does not spend it on the bench.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { deviceReportSchema, type DeviceReport } from '../../bench/device/report.ts';
import { childEnvironment } from '../../src/env.ts';
import { temporaryFolder } from '../support/shards.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../../bench/device/main.ts');

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function bench(words: readonly string[]): Promise<Ended> {
  // No folder of this path has nvidia-smi.
  const env = childEnvironment({ PATH: '/usr/bin:/bin', CUDA_VISIBLE_DEVICES: '' });
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', PROGRAM, ...words],
      { env, maxBuffer: 1e7 },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

function reportOf({ stdout }: Ended): DeviceReport {
  return deviceReportSchema.parse(JSON.parse(stdout));
}

describe('without a GPU', () => {
  test('it refuses in one sentence that says what to do', async () => {
    const { code, stdout, stderr } = await bench([]);
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /^[^\n]*(CUDA build is not installed|No NVIDIA driver answers)[^\n]*--cpu[^\n]*\n$/);
  });

  test('an unknown part is refused with the list of parts', async () => {
    const { code, stderr } = await bench(['--cpu', '--only', 'parity,speeed']);
    assert.equal(code, 2);
    assert.match(stderr, /^The part speeed does not exist\.\n/);
    assert.match(stderr, /determinism/);
    const other = await bench(['--cpu', '--encoder', 'RESNET19']);
    assert.equal(other.code, 2);
    assert.match(other.stderr, /^The encoder is one of RESNET18, RESNET50\.\n/);
  });
});

describe('a trial on the CPU', () => {
  test('compares the path of a GPU with the CPU, and continues after a step without memory', async (context) => {
    const file = path.join(await temporaryFolder(context), 'report.json');
    const ended = await bench(['--cpu', '--only', 'parity,memory', '--encoder', 'RESNET18', '--out', file]);
    const { isTrial, passed, parts, machine } = reportOf(ended);
    assert.deepEqual([ended.code, isTrial, passed, machine.gpu], [0, true, true, null], ended.stderr);
    assert.equal(await readFile(file, 'utf8'), ended.stdout);
    assert.ok(parts.parity.kind === 'RAN' && parts.memory.kind === 'RAN');
    const float32 = parts.parity.steps.filter(({ precision }) => precision === 'float32');
    assert.deepEqual(
      float32.map(({ encoder }) => encoder),
      ['RESNET18'],
    );
    // Kernels that have nothing in common: never equal, and close.
    for (const { gradient } of float32) assert.ok(gradient > 0 && gradient < 0.02, String(gradient));
    assert.match(parts.memory.message, /OOM when allocating/);
    assert.equal(parts.memory.continued, true);
    assert.deepEqual(parts.speed, { kind: 'SKIPPED', why: 'It was not among the parts of --only.' });
  });

  test('cancels a training of a real server and worker, whose device takes the next run', async () => {
    const ended = await bench(['--cpu', '--only', 'cancel']);
    const { cancel } = reportOf(ended).parts;
    if (cancel.kind === 'SKIPPED') {
      assert.match(cancel.why, /CUDA build does not start without an NVIDIA driver/);
      return;
    }
    assert.ok(cancel.kind === 'RAN', JSON.stringify(cancel));
    assert.deepEqual([cancel.status, cancel.nextStatus, cancel.memoryUsedMiB], ['CANCELED', 'SUCCEEDED', null]);
  });
});
