/** Ten steps of every optimizer against PyTorch in float64, resuming bit for bit, and gradients that are wrong. */
import { readFileSync } from 'node:fs';
import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { createParameter, disposeParameter, setGradient } from '../../workers/engine/models/parameter.ts';
import type { Parameter } from '../../workers/engine/models/parameter.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { createOptimizer, NonFiniteGradientError, optimizerExpectations } from '../../workers/engine/optim/index.ts';
import type { Optimizer } from '../../workers/engine/optim/index.ts';
import { liveTensorCount, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import { noise } from './formula.ts';

const momentum = z.number();
const weightDecay = z.number();
const adamParameters = { beta1: z.number(), beta2: z.number(), epsilon: z.number(), weightDecay };
const expectedFile = z.object({
  oracle: z.string(),
  parameters: z.array(
    z.object({ name: z.string(), role: z.enum(['WEIGHT', 'BIAS_OR_NORM']), count: z.number(), scale: z.number() }),
  ),
  cases: z.array(
    z.object({
      optimizer: z.discriminatedUnion('name', [
        z.object({ name: z.literal('LARS'), momentum, weightDecay }),
        z.object({ name: z.literal('SGD'), momentum, nesterov: z.boolean(), weightDecay }),
        z.object({ name: z.literal('ADAM'), ...adamParameters }),
        z.object({ name: z.literal('ADAMW'), ...adamParameters }),
      ]),
      learningRates: z.array(z.number()),
      steps: z.array(z.record(z.string(), z.array(z.number()))),
    }),
  ),
});
const expected = expectedFile.parse(
  JSON.parse(readFileSync(new URL('optimizers-expected.json', import.meta.url), 'utf8')),
);

function parameters(): Parameter[] {
  return expected.parameters.map(({ name, role, count, scale }) => {
    const data = noise(name, count).map((value) => value * Math.fround(scale));
    return createParameter({ name, dtype: 'F32', shape: [count], data }, role, 'AS_IS');
  });
}

/** As `gradient` of optimizers_oracle.py. */
function gradientOf({ name, value }: Parameter, step: number): Float32Array {
  const scale = Math.fround(step % 3 === 2 ? 0.01 : 1);
  return noise(`gradient ${name} ${step}`, value.size).map((number) => number * scale);
}

function takeStep(
  optimizer: Optimizer,
  trained: readonly Parameter[],
  stepIndex: number,
  learningRate: number,
  gradient: (parameter: Parameter) => Float32Array = (parameter) => gradientOf(parameter, stepIndex),
): void {
  for (const parameter of trained) setGradient(parameter, tf.tensor1d(gradient(parameter)));
  const step = optimizer.prepare();
  try {
    step.apply({ stepIndex, learningRate }, readFloats(step.halfSquaredNorms));
  } finally {
    step.dispose();
  }
}

const valuesOf = (trained: readonly Parameter[]): Float32Array[] => trained.map(({ value }) => readFloats(value));

for (const { optimizer: config, learningRates, steps } of expected.cases) {
  const { name, ...own } = config;
  describe(`${name} with ${JSON.stringify(own)}`, () => {
    test(`takes the ten steps of ${expected.oracle}`, () => {
      const trained = parameters();
      const optimizer = createOptimizer(trained, config);
      for (const [step, wanted] of steps.entries()) {
        takeStep(optimizer, trained, step, learningRates[step] ?? Number.NaN);
        for (const parameter of trained) {
          const actual = readFloats(parameter.value);
          wanted[parameter.name]?.forEach((value, at) =>
            assert.ok(
              Math.abs((actual[at] ?? Number.NaN) - value) <= 5e-6 * Math.max(0.1, Math.abs(value)),
              `${parameter.name}[${at}] after step ${step}: ${actual[at]}, expected ${value}`,
            ),
          );
        }
      }
      assert.equal(steps.length, 10);
      trained.forEach(disposeParameter);
      optimizer.dispose();
    });

    test('continues from a saved state bit for bit, and the state is what its expectations say', () => {
      const trained = parameters();
      const optimizer = createOptimizer(trained, config);
      for (let step = 0; step < 4; step += 1) takeStep(optimizer, trained, step, 0.01);
      const resumed = valuesOf(trained).map((data, index) => {
        const { name: parameterName = '', role = 'WEIGHT' } = trained[index] ?? {};
        return createParameter({ name: parameterName, dtype: 'F32', shape: [data.length], data }, role, 'AS_IS');
      });
      const state = optimizer.state();
      assert.deepEqual(
        state.map((tensor) => [tensor.name, tensor.shape]),
        optimizerExpectations(
          config,
          trained.map((parameter) => ({
            name: parameter.name,
            dtype: 'F32',
            shape: parameter.value.shape,
            required: true,
          })),
        ).map((expectation) => [expectation.name, expectation.shape]),
      );
      const other = createOptimizer(resumed, config);
      other.restore(new Map(state.map((tensor): [string, NamedTensor] => [tensor.name, tensor])));
      for (let step = 4; step < 7; step += 1) {
        takeStep(optimizer, trained, step, 0.01);
        takeStep(other, resumed, step, 0.01);
        assert.deepEqual(valuesOf(resumed), valuesOf(trained));
      }
      assert.throws(() => other.restore(new Map()), /missing/);
      [...trained, ...resumed].forEach(disposeParameter);
      optimizer.dispose();
      other.dispose();
    });

    test('refuses a gradient that is not finite by name, before anything changes', () => {
      const trained = parameters();
      const optimizer = createOptimizer(trained, config);
      takeStep(optimizer, trained, 0, 0.01);
      const [before, stateBefore, tensorsBefore] = [valuesOf(trained), optimizer.state(), liveTensorCount()];
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
        assert.throws(
          () =>
            takeStep(optimizer, trained, 1, 0.01, (parameter) =>
              gradientOf(parameter, 1).fill(parameter.name === 'fc.bias' ? bad : 0, 0, 1),
            ),
          (error) => error instanceof NonFiniteGradientError && error.message.includes('fc.bias'),
        );
      assert.deepEqual([valuesOf(trained), optimizer.state()], [before, stateBefore]);
      assert.equal(liveTensorCount(), tensorsBefore);
      trained.forEach(disposeParameter);
      optimizer.dispose();
    });

    test('a step without gradients is an error of the caller, and tensors stay as many', () => {
      const before = liveTensorCount();
      const trained = parameters();
      const optimizer = createOptimizer(trained, config);
      assert.throws(() => optimizer.prepare(), /no gradient/);
      const during = liveTensorCount();
      for (let step = 0; step < 3; step += 1) {
        takeStep(optimizer, trained, step, 0.01);
        assert.equal(liveTensorCount(), during);
      }
      trained.forEach(disposeParameter);
      optimizer.dispose();
      assert.equal(liveTensorCount(), before);
    });

    if (config.weightDecay === 0)
      test('gradients of zero leave every parameter where it is', () => {
        const trained = parameters();
        const optimizer = createOptimizer(trained, config);
        const before = valuesOf(trained);
        takeStep(optimizer, trained, 0, 1, ({ value }) => new Float32Array(value.size));
        assert.deepEqual(valuesOf(trained), before);
        trained.forEach(disposeParameter);
        optimizer.dispose();
      });
  });
}

test('every optimizer is here', () => {
  assert.deepEqual([...new Set(expected.cases.map(({ optimizer }) => optimizer.name))].sort(), [
    'ADAM',
    'ADAMW',
    'LARS',
    'SGD',
  ]);
});

test('a state that is older than other optimizers is read as a state of LARS', () => {
  const wanted = { name: 'conv1.weight', dtype: 'F32', shape: [2], required: true } as const;
  assert.deepEqual(optimizerExpectations({ name: 'LARS', momentum: 0.9, weightDecay: 0 }, [wanted]), [
    { ...wanted, name: 'optimizer.conv1.weight' },
  ]);
});
