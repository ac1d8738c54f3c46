import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { createParameter, disposeParameter, setGradient } from '../../workers/engine/models/parameter.ts';
import type { Parameter, ParameterRole } from '../../workers/engine/models/parameter.ts';
import { Lars, NonFiniteGradientError } from '../../workers/engine/optim/lars.ts';
import { liveTensorCount, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import { noise } from './formula.ts';

const MOMENTUM = 0.9;
/** Far above SimCLR's 1e-6, so that a missing or a doubled decay is seen. */
const WEIGHT_DECAY = 0.01;

function parameter(name: string, role: ParameterRole, values: Float32Array): Parameter {
  return createParameter({ name, dtype: 'F32', shape: [values.length], data: values }, role, 'AS_IS');
}

/** The formula of Chen et al.'s reference code (`lars_optimizer.py`, classic momentum), in doubles. */
class SlowLars {
  readonly #role: ParameterRole;
  readonly values: number[];
  readonly #velocity: number[];

  constructor(role: ParameterRole, values: Float32Array) {
    this.#role = role;
    this.values = [...values];
    this.#velocity = this.values.map(() => 0);
  }

  apply(learningRate: number, gradient: readonly number[]): void {
    const isWeight = this.#role === 'WEIGHT';
    const decayed = gradient.map((value, index) => value + (isWeight ? WEIGHT_DECAY * (this.values[index] ?? 0) : 0));
    const weightLength = Math.hypot(...this.values);
    const gradientLength = Math.hypot(...decayed);
    const trust = isWeight && weightLength > 0 && gradientLength > 0 ? (0.001 * weightLength) / gradientLength : 1;
    decayed.forEach((value, index) => {
      this.#velocity[index] = MOMENTUM * (this.#velocity[index] ?? 0) + learningRate * trust * value;
      this.values[index] = (this.values[index] ?? 0) - (this.#velocity[index] ?? 0);
    });
  }
}

function applyNow(optimizer: Lars, learningRate: number): void {
  const step = optimizer.prepare();
  try {
    step.apply(learningRate, readFloats(step.squaredHalves));
  } finally {
    step.dispose();
  }
}

describe('LARS', () => {
  test('follows the formula step by step: weights adapted and decayed, biases and norms plain, a zero weight at trust 1', () => {
    const cases = [
      ['conv.weight', 'WEIGHT', noise('weight', 40)],
      ['bn.weight', 'BIAS_OR_NORM', noise('scale', 8)],
      ['zero.weight', 'WEIGHT', new Float32Array(6)],
    ] as const;
    const parameters = cases.map(([name, role, values]) => parameter(name, role, values));
    const slow = cases.map(([, role, values]) => new SlowLars(role, values));
    const optimizer = new Lars(parameters, { momentum: MOMENTUM, weightDecay: WEIGHT_DECAY });
    for (let step = 0; step < 12; step += 1) {
      const learningRate = 0.5 + 0.3 * step;
      parameters.forEach((trained, index) => {
        const gradient = noise(`gradient ${index} ${step}`, trained.value.size);
        setGradient(trained, tf.tensor1d(gradient));
        slow[index]?.apply(learningRate, [...gradient]);
      });
      applyNow(optimizer, learningRate);
      parameters.forEach((trained, index) => {
        const actual = readFloats(trained.value);
        slow[index]?.values.forEach((wanted, at) => {
          const value = actual[at] ?? Number.NaN;
          assert.ok(
            Math.abs(value - wanted) <= 1e-5 * Math.max(1, Math.abs(wanted)),
            `${trained.name}[${at}] at step ${step}: ${value}, expected ${wanted}`,
          );
        });
      });
    }
    parameters.forEach(disposeParameter);
    optimizer.dispose();
  });

  test('a gradient of zero leaves an undecayed parameter where it is', () => {
    const trained = parameter('w', 'WEIGHT', noise('still', 5));
    const before = readFloats(trained.value);
    const optimizer = new Lars([trained], { momentum: MOMENTUM, weightDecay: 0 });
    setGradient(trained, tf.zeros([5]));
    applyNow(optimizer, 1);
    assert.deepEqual(readFloats(trained.value), before);
    disposeParameter(trained);
    optimizer.dispose();
  });

  test('a gradient that is not finite is refused by name before anything changes', () => {
    const parameters = [
      parameter('good', 'BIAS_OR_NORM', noise('good', 3)),
      parameter('bad', 'WEIGHT', noise('bad', 3)),
    ];
    const optimizer = new Lars(parameters, { momentum: MOMENTUM, weightDecay: WEIGHT_DECAY });
    const before = parameters.map(({ value }) => readFloats(value));
    const tensorsBefore = liveTensorCount();
    for (const trained of parameters)
      setGradient(trained, tf.tensor1d(trained.name === 'bad' ? [1, Number.NaN, 1] : [1, 1, 1]));
    assert.throws(
      () => applyNow(optimizer, 1),
      (error) => error instanceof NonFiniteGradientError && error.message.includes('bad'),
    );
    assert.deepEqual(
      parameters.map(({ value }) => readFloats(value)),
      before,
    );
    assert.equal(liveTensorCount(), tensorsBefore);
    parameters.forEach(disposeParameter);
    optimizer.dispose();
  });

  test('a step without a gradient is a fault of the caller, and its tensors stay as many', () => {
    const trained = parameter('w', 'WEIGHT', noise('none', 3));
    const optimizer = new Lars([trained], { momentum: MOMENTUM, weightDecay: WEIGHT_DECAY });
    assert.throws(() => applyNow(optimizer, 1), /no gradient/);
    const before = liveTensorCount();
    for (let step = 0; step < 3; step += 1) {
      setGradient(trained, tf.ones([3]));
      applyNow(optimizer, 0.1);
      assert.equal(liveTensorCount(), before);
    }
    disposeParameter(trained);
    optimizer.dispose();
  });
});
