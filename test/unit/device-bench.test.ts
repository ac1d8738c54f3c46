/** The device bench: its verdicts on numbers that are known, and the reader of TensorFlow's list of kernels. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ProtobufMessage } from '../../src/formats/protobuf-writer.ts';
import { gradientLimitOf, isWithinLimits, meanDifference, relativeDifference } from '../../bench/device/difference.ts';
import { parseKernels } from '../../bench/device/kernel-list.ts';
import type { StepDifference } from '../../bench/device/report.ts';

const tensors = (values: Readonly<Record<string, readonly number[]>>) =>
  new Map(Object.entries(values).map(([name, numbers]) => [name, Float32Array.from(numbers)]));

describe('the difference of gradients', () => {
  test('is the norm of all differences over the norm of all values', () => {
    // |(3, 0, 4)| / |(0, 12, 5)| = 5 / 13.
    const difference = relativeDifference(tensors({ a: [3, 12], b: [9] }), tensors({ a: [0, 12], b: [5] }));
    assert.ok(Math.abs(difference - 5 / 13) < 1e-12);
  });

  test('refuses tensors that are missing or have another size', () => {
    const wanted = tensors({ a: [1], b: [2] });
    assert.throws(() => relativeDifference(tensors({ a: [1] }), wanted), /1 tensors, not 2/);
    assert.throws(() => relativeDifference(tensors({ a: [1], c: [2] }), wanted), /tensor b is missing/);
    assert.throws(() => relativeDifference(tensors({ a: [1], b: [2, 3] }), wanted), /tensor b is missing/);
  });

  test('of views is their mean', () => {
    assert.equal(meanDifference(Float32Array.of(1, 2, 5), Float32Array.of(1, 4, 1)), 2);
    assert.throws(() => meanDifference(Float32Array.of(1), Float32Array.of(1, 2)), /1 values, not 2/);
  });
});

describe('the verdict on a step', () => {
  const step: StepDifference = {
    ...{ encoder: 'RESNET18', precision: 'float32' },
    ...{ loss: 1e-6, gradient: 0.004, gradientLimit: gradientLimitOf('float32', 0.001), views: 1e-6 },
  };

  test('passes within five times what the CPU differs by itself, twice in bfloat16', () => {
    assert.equal(isWithinLimits(step), true);
    assert.deepEqual(
      [gradientLimitOf('float32', 0.001), gradientLimitOf('bfloat16', 0.3), gradientLimitOf('bfloat16', null)],
      [0.005, 0.6, 0.25],
    );
  });

  for (const [what, change] of [
    ['a gradient beyond its limit', { gradient: 0.006 }],
    ['another loss', { loss: 2e-4 }],
    ['other views', { views: 0.01 }],
    ['a gradient that is not a number', { gradient: Number.NaN }],
    ['a loss that is not a number', { loss: Number.NaN }],
  ] as const)
    test(`fails for ${what}`, () => assert.equal(isWithinLimits({ ...step, ...change }), false));
});

describe("TensorFlow's list of kernels", () => {
  const constraint = (name: string, types: readonly number[]): ProtobufMessage =>
    new ProtobufMessage()
      .string(1, name)
      .message(2, new ProtobufMessage().message(1, new ProtobufMessage().naturals(6, types)));
  const kernel = (device: string, constraints: readonly ProtobufMessage[]): ProtobufMessage =>
    new ProtobufMessage().string(1, 'Relu').string(2, device).messages(3, constraints).string(4, 'shape').natural(6, 1);

  test('gives the device and the types of each kernel', () => {
    const bytes = new ProtobufMessage()
      .messages(1, [
        kernel('GPU', [constraint('T', [1, 14]), constraint('Tidx', [3])]),
        kernel('CPU', []).string(5, 'MklNameChangeOp'),
      ])
      .toBytes();
    assert.deepEqual(parseKernels(bytes), [
      {
        device: 'GPU',
        label: '',
        allowedTypes: new Map([
          ['T', [1, 14]],
          ['Tidx', [3]],
        ]),
      },
      { device: 'CPU', label: 'MklNameChangeOp', allowedTypes: new Map() },
    ]);
  });

  test('may pack its types', () => {
    const packed = new ProtobufMessage().message(1, new ProtobufMessage().bytes(6, Uint8Array.of(1, 14, 0x81, 0x01)));
    const bytes = new ProtobufMessage()
      .message(1, kernel('GPU', [new ProtobufMessage().string(1, 'T').message(2, packed)]))
      .toBytes();
    assert.deepEqual(parseKernels(bytes)[0]?.allowedTypes.get('T'), [1, 14, 129]);
  });

  test('that is cut off is refused', () => {
    const bytes = new ProtobufMessage().message(1, kernel('GPU', [])).toBytes();
    assert.throws(() => parseKernels(bytes.subarray(0, bytes.length - 1)), /longer than its message/);
    assert.throws(() => parseKernels(Uint8Array.of(0x80)), /does not end/);
    assert.throws(() => parseKernels(Uint8Array.of(0x0b)), /wire type 3/);
  });
});
