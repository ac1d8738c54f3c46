/** What a run needs, what a worker has, and the sentence about a run that nobody can take. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { obstacleOf } from '../../src/modules/workers/workers.rules.ts';
import { cpuComputesInBfloat16 } from '../../src/platform/machine.ts';
import {
  describeCapabilities,
  describeRequirements,
  NO_REQUIREMENTS,
  whyNotHere,
  whyNoWorker,
  workerLabelsSchema,
  type DemandingRun,
  type OfferingWorker,
  type RunRequirements,
  type WorkerCapabilities,
} from '../../src/protocol/requirements.ts';

const CPU: WorkerCapabilities = {
  device: 'CPU',
  bfloat16: false,
  memoryMiB: 16 * 1024,
  gpuMemoryMiB: null,
  longestSeconds: null,
  labels: [],
};
const GPU: WorkerCapabilities = { ...CPU, device: 'GPU', bfloat16: true, gpuMemoryMiB: 24 * 1024 };

const run = (requirements: Partial<RunRequirements> = {}, changes: Partial<DemandingRun> = {}): DemandingRun => ({
  kind: 'PRETRAINING',
  requirements: { ...NO_REQUIREMENTS, ...requirements },
  maxDurationSeconds: null,
  excludedWorkers: [],
  ...changes,
});
const worker = (name: string, capabilities = CPU, changes: Partial<OfferingWorker> = {}): OfferingWorker => ({
  name,
  isDraining: false,
  places: [{ kinds: ['PRETRAINING', 'EVALUATION'], capabilities }],
  ...changes,
});

describe('a run that no living worker can take', () => {
  for (const [why, of, workers, sentence] of [
    [
      'bfloat16',
      run({ bfloat16: true }),
      [worker('a'), worker('b')],
      'needs bfloat16: workers a, b have no AVX-512 or GPU',
    ],
    ['a GPU', run({ device: 'GPU' }), [worker('a')], 'needs a GPU: worker a has none'],
    ['a CPU', run({ device: 'CPU' }), [worker('a', GPU)], 'needs a CPU: worker a computes on a GPU'],
    ['memory', run({ memoryMiB: 65_536 }), [worker('a')], 'needs 64 GiB of memory: worker a has 16 GiB'],
    [
      'memory of the GPU',
      run({ device: 'GPU', gpuMemoryMiB: 40_960 }),
      [worker('a', GPU)],
      'needs a GPU of 40 GiB: worker a has a GPU of 24 GiB',
    ],
    [
      'labels',
      run({ labels: ['a100', 'basel'] }),
      [worker('a', { ...CPU, labels: ['basel'] })],
      'needs the label a100: worker a does not have it',
    ],
    [
      'its longest duration',
      run({}, { maxDurationSeconds: 7200 }),
      [worker('a', { ...CPU, longestSeconds: 1800 })],
      'needs 2 h: worker a takes runs of at most 30 min',
    ],
    [
      'no limit at all',
      run(),
      [worker('a', { ...CPU, longestSeconds: 1800 })],
      'needs a time without limit: worker a takes runs of at most 30 min',
    ],
    [
      'different things of different workers',
      run({ bfloat16: true, memoryMiB: 20_480 }),
      [worker('a', { ...CPU, memoryMiB: 32_768 }), worker('b', GPU), worker('c', GPU)],
      'needs bfloat16 and 20 GiB of memory: worker a has no AVX-512 or GPU (bfloat16); workers b, c have 16 GiB (20 GiB of memory)',
    ],
    [
      'another worker than those that have tried',
      run({ bfloat16: true }, { excludedWorkers: ['a'] }),
      [worker('a', GPU)],
      'needs bfloat16: worker a has tried and cannot compute in it',
    ],
    [
      'one that is not draining',
      run(),
      [worker('a', CPU, { isDraining: true })],
      'waits for a worker: worker a is draining',
    ],
    ['one of its kind', run({}, { kind: 'EXPORT' }), [worker('a')], 'no worker takes exports now'],
    ['any at all', run(), [], 'no worker takes pretrainings now'],
  ] as const)
    test(`because it needs ${why} says so`, () => assert.equal(whyNoWorker(of, workers), sentence));

  test('names three of many workers', () => {
    const workers = Array.from({ length: 100 }, (_, index) => worker(`w${index}`));
    assert.equal(
      whyNoWorker(run({ bfloat16: true }), workers),
      'needs bfloat16: workers w0, w1, w2 and 97 more have no AVX-512 or GPU',
    );
  });
});

describe('a run that some living worker can take has no obstacle', () => {
  test('whatever the others lack', () => {
    assert.equal(whyNoWorker(run({ bfloat16: true, gpuMemoryMiB: 24 * 1024 }), [worker('a'), worker('b', GPU)]), null);
    assert.equal(whyNoWorker(run({}, { maxDurationSeconds: 60 }), [worker('a', { ...CPU, longestSeconds: 60 })]), null);
  });

  test('on any of its places', () => {
    const [cpu, gpu] = [worker('a').places, worker('a', GPU).places];
    assert.equal(whyNoWorker(run({ device: 'GPU' }), [{ ...worker('a'), places: [...cpu, ...gpu] }]), null);
  });

  test('unless the worker has been silent for a minute', () => {
    const record = {
      ...worker('a'),
      programVersion: '1',
      kinds: [],
      deviceIds: [],
      firstSeenAt: new Date(0),
      runIds: [],
    };
    const at = (ms: number) =>
      obstacleOf({ ...run(), status: 'QUEUED' }, [{ ...record, lastHeardAt: new Date(0) }], ms);
    assert.deepEqual([at(59_000), at(61_000)], [null, 'no worker takes pretrainings now']);
    assert.equal(obstacleOf({ ...run(), status: 'RUNNING' }, [], 0), null);
  });
});

test('a worker that was told to take a run says what it lacks', () => {
  assert.equal(
    whyNotHere(run({ bfloat16: true, memoryMiB: 20_480 }), 'a', CPU),
    'needs bfloat16 and 20 GiB of memory, but this worker has no AVX-512 or GPU and has 16 GiB',
  );
  assert.equal(whyNotHere(run({ bfloat16: true }), 'a', GPU), null);
});

test('labels are names that a scheduler takes, each once', () => {
  assert.deepEqual(workerLabelsSchema.parse(['b', 'a.1-x_2', 'b']), ['a.1-x_2', 'b']);
  for (const label of ['', 'a b', "a'", '-a', 'a-', 'ä', 'a'.repeat(64), 'a,b'])
    assert.equal(workerLabelsSchema.safeParse([label]).success, false, label);
});

test('a processor computes in bfloat16 if it has all of AVX-512 that oneDNN asks for', () => {
  const cpuinfo = (flags: string): string => `processor\t: 0\nflags\t\t: fpu ${flags} sse\nbugs\t\t:\n`;
  assert.equal(cpuComputesInBfloat16(cpuinfo('avx512f avx512dq avx512bw avx512vl')), true);
  assert.equal(cpuComputesInBfloat16(cpuinfo('avx2 avx512f avx512cd')), false);
  assert.equal(cpuComputesInBfloat16('Features\t: fp asimd\n'), false);
});

test('requirements and capabilities are told in one line', () => {
  assert.equal(describeRequirements(NO_REQUIREMENTS), null);
  assert.equal(
    describeRequirements({ device: 'GPU', bfloat16: true, memoryMiB: 1536, gpuMemoryMiB: 40_960, labels: ['a100'] }),
    'a GPU of 40 GiB, bfloat16, 1.5 GiB of memory, the label a100',
  );
  assert.equal(describeCapabilities(CPU), 'CPU, 16 GiB of memory');
  assert.equal(
    describeCapabilities({ ...GPU, longestSeconds: 5400, labels: ['a100', 'basel'] }),
    'GPU of 24 GiB, bfloat16, 16 GiB of memory, runs of at most 1.5 h, labels a100 and basel',
  );
});
