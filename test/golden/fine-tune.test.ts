/** Fine-tuning against PyTorch in float64: losses, weights, running statistics and what is predicted afterwards. */
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { embeddingDimOf } from '../../workers/engine/encoders/resnet/architecture.ts';
import {
  createParameter,
  disposeParameter,
  setGradient,
  type Parameter,
} from '../../workers/engine/models/parameter.ts';
import { ENCODER_ARCHITECTURES } from '../../workers/engine/encoders/resnet/network.ts';
import { Momentum } from '../../workers/engine/optim/momentum.ts';
import { asRank4, readFloats, tf, type Tensor4D } from '../../workers/engine/tensorflow.ts';
import { ClassifyingEncoder, type ClassifierWeights } from '../../workers/engine/train/classifying-encoder.ts';
import { formulaWeights, noise } from './formula.ts';
import { assertNear, floats, movedBetween, only, sketchedTensors } from './sketch.ts';

const expectedFile = z.object({
  oracle: z.string(),
  architecture: z.enum(ENCODER_ARCHITECTURES),
  imageCount: z.number(),
  imageSidePx: z.number(),
  labelCount: z.number(),
  learningRates: z.array(z.number()),
  losses: z.array(z.number()),
  float32LossError: z.number(),
  probabilities: z.array(z.number()),
  moved: sketchedTensors,
  statistics: sketchedTensors,
});
const expected = expectedFile.parse(
  JSON.parse(readFileSync(new URL('fine-tune-expected.json', import.meta.url), 'utf8')),
);
const { architecture, imageCount, imageSidePx, labelCount } = expected;

/**
 * Of the length of what a tensor moved in four steps. Small weights move by little more than float32 can resolve
 * (PyTorch's own error is 0.8 %), and where a rounding puts an activation on the other side of zero, a gradient is
 * another one by some thousandths.
 */
const MOVED_BOUND = 0.025;
/** The expected result. */
const PROBABILITY_BOUND = 1e-4;

function images(step: number): Tensor4D {
  const values = noise(`fine-tuning ${step}`, imageCount * imageSidePx ** 2 * 3).map((value) => value * 4);
  return asRank4(tf.tensor(values, [imageCount, imageSidePx, imageSidePx, 3], 'float32'));
}

function classifier(): ClassifierWeights {
  const embeddingDim = embeddingDimOf(architecture);
  const tenth = (name: string, length: number): Float32Array =>
    noise(name, length).map((value) => value * Math.fround(0.1));
  return [
    {
      name: 'fc.weight',
      dtype: 'F32',
      shape: [labelCount, embeddingDim],
      data: tenth('fc.weight', labelCount * embeddingDim),
    },
    { name: 'fc.bias', dtype: 'F32', shape: [labelCount], data: tenth('fc.bias', labelCount) },
  ];
}

describe(`fine-tuning against ${expected.oracle}, float64`, () => {
  test('losses, weights and running statistics over four steps at a rate that changes, and the probabilities afterwards', () => {
    const network = new ClassifyingEncoder(architecture, formulaWeights(architecture), classifier());
    const shown = () => {
      const { encoder, classifier: onTop } = network.snapshot();
      return floats([...encoder, ...onTop]);
    };
    const begin = shown();
    expected.losses.forEach((wanted, step) => {
      const batch = images(step);
      const loss = network.step(
        batch,
        Int32Array.from({ length: imageCount }, (_, image) => (image + step) % labelCount),
        expected.learningRates[step] ?? Number.NaN,
      );
      assert.ok(
        Math.abs(loss - wanted) <= Math.max(1e-5, 3 * expected.float32LossError),
        `step ${step}: ${loss}, expected ${wanted}`,
      );
      batch.dispose();
    });
    const end = shown();
    assertNear('running statistics', only(end, expected.statistics), expected.statistics);
    assertNear(
      'weights, by where they moved',
      movedBetween(begin, only(end, expected.moved)),
      expected.moved,
      MOVED_BOUND,
    );

    const batch = images(expected.losses.length);
    const probabilities = network.probabilities(batch);
    readFloats(probabilities).forEach((value, index) => {
      const wanted = expected.probabilities[index] ?? Number.NaN;
      assert.ok(Math.abs(value - wanted) <= PROBABILITY_BOUND, `probability ${index}: ${value}, expected ${wanted}`);
    });
    tf.dispose([batch, probabilities]);
    network.dispose();
  });

  test('a loss or a gradient that is not finite changes nothing and is reported', () => {
    const [weight, bias] = classifier();
    // oneDNN's batch norm with ReLU makes 0 of NaN: the loss alone would not show it.
    const poisoned = formulaWeights(architecture).map((tensor) =>
      tensor.name === 'layer1.0.conv1.weight' && tensor.dtype === 'F32'
        ? { ...tensor, data: tensor.data.map(() => Number.NaN) }
        : tensor,
    );
    for (const [encoder, onTop] of [
      [
        formulaWeights(architecture),
        [weight, { name: bias.name, dtype: 'F32', shape: bias.shape, data: Float32Array.of(Infinity, 0, 0) }],
      ],
      [poisoned, [weight, bias]],
    ] as const) {
      const network = new ClassifyingEncoder(architecture, encoder, onTop);
      const before = network.snapshot();
      const batch = images(0);
      assert.ok(
        !Number.isFinite(
          network.step(
            batch,
            Int32Array.from({ length: imageCount }, (_, image) => image % labelCount),
            0.1,
          ),
        ),
      );
      assert.deepEqual(network.snapshot(), before);
      batch.dispose();
      network.dispose();
    }
  });

  test("the optimiser's steps are those of its formula, in double precision", () => {
    const numbers = { weight: [0.5, -1, 2], bias: [0.25, -0.5] };
    const parameters = [
      parameterOf('weight', numbers.weight, 'WEIGHT'),
      parameterOf('bias', numbers.bias, 'BIAS_OR_NORM'),
    ];
    const optimizer = new Momentum(parameters, { momentum: 0.8, weightDecay: 0.1 });
    const velocities = { weight: [0, 0, 0], bias: [0, 0] };
    for (const [step, rate] of [0.1, 0.3, 0.05].entries()) {
      for (const [name, decay] of [
        ['weight', 0.1],
        ['bias', 0],
      ] as const) {
        const gradients = numbers[name].map((_, index) => Math.sin(step + index));
        const parameter = parameters.find((each) => each.name === name);
        assert.ok(parameter !== undefined);
        setGradient(parameter, tf.tensor1d(gradients));
        velocities[name] = velocities[name].map(
          (velocity, index) =>
            0.8 * velocity - rate * ((gradients[index] ?? Number.NaN) + decay * (numbers[name][index] ?? Number.NaN)),
        );
        numbers[name] = numbers[name].map((value, index) => value + (velocities[name][index] ?? Number.NaN));
      }
      assert.ok(optimizer.apply(rate));
      for (const { name, value } of parameters)
        readFloats(value).forEach((found, index) =>
          assert.ok(
            Math.abs(found - (numbers[name === 'weight' ? 'weight' : 'bias'][index] ?? Number.NaN)) < 1e-6,
            `${name}[${index}] at step ${step}`,
          ),
        );
    }
    parameters.forEach(disposeParameter);
    optimizer.dispose();
  });
});

function parameterOf(name: string, values: readonly number[], role: 'WEIGHT' | 'BIAS_OR_NORM'): Parameter {
  return createParameter(
    { name, dtype: 'F32', shape: [values.length], data: Float32Array.from(values) },
    role,
    'AS_IS',
  );
}
