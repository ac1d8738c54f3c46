/** Translates failures to messages that a user reads. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManifestError } from '../../src/formats/manifest/index.ts';
import { DomainError, ERROR_CODES } from '../../src/errors.ts';
import { failureOf, failureOfEnd } from '../../workers/failure.ts';
import { ImageDataError } from '../../workers/engine/data/errors.ts';

const systemError = (code: string): Error =>
  Object.assign(new Error(`${code}: write failed, open '/secret/path'`), { code });

describe('failureOf', () => {
  test('an expected failure keeps its message and states its cause', () => {
    const {
      class: whose,
      code,
      message,
      hint,
    } = failureOf(new DomainError({ code: 'DATASET_TOO_SMALL', message: 'Too small.', hint: 'Add images.' }));
    assert.deepEqual([whose, code, message, hint], ['USER', 'DATASET_TOO_SMALL', 'Too small.', 'Add images.']);
    assert.equal(failureOf(new DomainError({ code: 'IMPORT_NOTHING_READABLE', message: 'Nothing.' })).class, 'DATA');
    assert.equal(failureOf(new DomainError({ code: 'ARTIFACT_CORRUPT', message: 'Changed.' })).class, 'INFRASTRUCTURE');
  });

  test('every code of the program has a class', () => {
    for (const code of ERROR_CODES)
      assert.match(
        failureOf(new DomainError({ code, message: 'x.' })).class,
        /^(USER|DATA|OUT_OF_MEMORY|INFRASTRUCTURE|TIMEOUT|INTERNAL)$/,
      );
  });

  for (const words of [
    'OOM when allocating tensor with shape[256,64,112,112]',
    'RESOURCE_EXHAUSTED: out of room',
    'std::bad_alloc',
    'Array buffer allocation failed',
    // On a GPU.
    'CUDA_ERROR_OUT_OF_MEMORY: out of memory',
    '{{function_node __wrapped__AddV2_device_/job:localhost/replica:0/task:0/device:GPU:0}} failed to allocate memory [Op:AddV2]',
    'Failed copying input tensor from /job:localhost/replica:0/task:0/device:CPU:0 to /job:localhost/replica:0/task:0/device:GPU:0 in order to run Mul: Dst tensor is not initialized.',
    'CUDNN_STATUS_ALLOC_FAILED',
    'CUBLAS_STATUS_ALLOC_FAILED',
  ]) {
    test(`memory: ${words}`, () => {
      const { class: whose, hint } = failureOf(new Error(words));
      assert.equal(whose, 'OUT_OF_MEMORY');
      assert.match(hint ?? '', /batchSize/);
    });
  }

  for (const code of ['ENOSPC', 'EFBIG', 'EACCES', 'EIO', 'EROFS']) {
    test(`the machine: ${code}, without its path`, () => {
      const failure = failureOf(systemError(code));
      assert.deepEqual([failure.class, failure.code], ['INFRASTRUCTURE', code]);
      assert.doesNotMatch(JSON.stringify(failure), /secret/);
    });
  }

  test("images: damage is a machine failure, too few images are the user's, a crashed reader is internal", () => {
    assert.deepEqual(
      [
        failureOf(new ImageDataError('SHARD_TRUNCATED', 'x.')).class,
        failureOf(new ImageDataError('SHARD_TRUNCATED', 'x.')).code,
      ],
      ['INFRASTRUCTURE', 'ARTIFACT_CORRUPT'],
    );
    assert.equal(failureOf(new ImageDataError('TOO_FEW_IMAGES', 'x.')).code, 'DATASET_TOO_SMALL');
    assert.equal(failureOf(new ImageDataError('READER_DIED', 'x.')).class, 'INTERNAL');
    const lying = failureOf(new ManifestError('MANIFEST_ROW_INVALID', 'Row 3 lies outside its shard.'));
    assert.deepEqual(
      [lying.class, lying.code, lying.message],
      ['DATA', 'MANIFEST_ROW_INVALID', 'Row 3 lies outside its shard.'],
    );
  });

  for (const [what, thrown] of [
    ['an error', new TypeError('undefined is not a function at /secret/file.ts')],
    ['not an error', 'a string'],
    ['nothing', undefined],
  ] as const) {
    test(`the message of an unexpected error is not shown: ${what}`, () => {
      const failure = failureOf(thrown);
      assert.deepEqual([failure.class, failure.code], ['INTERNAL', 'INTERNAL']);
      assert.doesNotMatch(JSON.stringify(failure), /undefined is not|secret|a string/);
    });
  }
});

describe('a process that ended without an error message', () => {
  const end = { code: null, signal: null, stderrTail: '', kernelWasOutOfMemory: false } as const;
  const cases = [
    [
      'the kernel ended it while memory was gone',
      { ...end, signal: 'SIGKILL', kernelWasOutOfMemory: true },
      'OUT_OF_MEMORY',
      'OUT_OF_MEMORY',
    ],
    ['a signal ended it', { ...end, signal: 'SIGKILL' }, 'INFRASTRUCTURE', 'CHILD_DIED'],
    [
      'a signal or the kernel ended it, without a reason',
      { ...end, signal: 'SIGKILL', kernelWasOutOfMemory: undefined },
      'OUT_OF_MEMORY',
      'OUT_OF_MEMORY',
    ],
    ['it crashed', { ...end, signal: 'SIGSEGV', kernelWasOutOfMemory: true }, 'INFRASTRUCTURE', 'CHILD_DIED'],
    [
      'V8 ran out of memory',
      {
        ...end,
        signal: 'SIGABRT',
        stderrTail: 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory',
      },
      'OUT_OF_MEMORY',
      'OUT_OF_MEMORY',
    ],
    [
      'C++ ran out of memory',
      { ...end, code: 134, stderrTail: "terminate called after throwing an instance of 'std::bad_alloc'" },
      'OUT_OF_MEMORY',
      'OUT_OF_MEMORY',
    ],
    ['it exited', { ...end, code: 1 }, 'INFRASTRUCTURE', 'CHILD_DIED'],
  ] as const;
  for (const [what, facts, failureClass, code] of cases) {
    test(what, () => {
      const failure = failureOfEnd(facts);
      assert.deepEqual([failure.class, failure.code], [failureClass, code]);
    });
  }
});
