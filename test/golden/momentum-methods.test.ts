/**
 * The pretraining methods that keep a momentum encoder against PyTorch in float64: the loss and the gradient of every
 * tensor of the first step, and over ten steps the losses and what the weights, the momentum encoder and the method's
 * own tensors became.
 */
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { architectureNamed, type Architecture } from '../../src/formats/encoders/index.ts';
import { vitSpecificationSchema } from '../../src/formats/encoders/vit/specification.ts';
import { methodConfigSchema } from '../../src/protocol/pretraining/methods/index.ts';
import { openTrainableEncoder } from '../../workers/engine/encoders/index.ts';
import { methodOf } from '../../workers/engine/methods/index.ts';
import { methodSettingOf } from '../../workers/engine/methods/setting.ts';
import { fromDevice } from '../../workers/engine/models/parameter.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, liveTensorCount, readFloat, tf, type Tensor4D } from '../../workers/engine/tensorflow.ts';
import { EncoderPass } from '../../workers/engine/train/encoder-pass.ts';
import { viewGroupsFrom } from '../../workers/engine/train/step-views.ts';
import { createTrainer } from '../../workers/engine/train/trainer.ts';
import { formulaVitTensor, formulaWeights, noise } from './formula.ts';
import { assertNear, floats, movedBetween, only, sketchedTensors } from './sketch.ts';

const shapes = z.array(z.tuple([z.string(), z.array(z.int())]));
const expected = z
  .object({
    oracle: z.string(),
    momentum: z.number(),
    weightDecay: z.number(),
    totalSteps: z.int(),
    cases: z.array(
      z.object({
        family: z.enum(['RESNET18', 'VIT']),
        specification: z.record(z.string(), z.number()),
        method: methodConfigSchema,
        count: z.int(),
        peakLearningRate: z.number(),
        groups: z.array(z.object({ viewCount: z.int(), sidePx: z.int() })),
        encoder: shapes,
        own: shapes,
        losses: z.array(z.number()),
        float32LossError: z.number(),
        gradients: sketchedTensors,
        moved: sketchedTensors,
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('momentum-methods-expected.json', import.meta.url), 'utf8')));

const { momentum, weightDecay, totalSteps } = expected;
type Case = (typeof expected.cases)[number];

function architectureOf({ family, specification }: Case): Architecture {
  if (family === 'RESNET18') return architectureNamed('RESNET18');
  const usual = architectureNamed('VIT_TI16').specification;
  return { family: 'VIT', specification: vitSpecificationSchema.parse({ ...usual, ...specification }) };
}

function encoderWeightsOf({ family, encoder }: Case): NamedTensor[] {
  return family === 'RESNET18' ? formulaWeights('RESNET18') : encoder.map(formulaVitTensor);
}

/** As `view_group` of momentum_methods_oracle.py. */
function viewGroup(step: number, group: number, { count, groups }: Case): Tensor4D {
  const { viewCount, sidePx } = groups[group] ?? { viewCount: 0, sidePx: 0 };
  const viewLength = count * sidePx * sidePx * 3;
  const values = noise(`views ${step} of group ${group}`, viewCount * viewLength).map((value) => value * 4);
  for (let index = viewLength; index < values.length; index += 1)
    values[index] =
      Math.fround((values[index] ?? Number.NaN) * 0.25) +
      Math.fround((values[index % viewLength] ?? Number.NaN) * 0.75);
  return asRank4(tf.tensor(values, [viewCount * count, sidePx, sidePx, 3], 'float32'));
}

/** The method's own tensors by the formula, and their copies in the momentum networks, which begin equal. */
function withOwn(state: readonly NamedTensor[], { own }: Case): NamedTensor[] {
  const byName = new Map(own.map((each) => [each[0], formulaVitTensor(each)]));
  return state.map((tensor) => {
    const found = byName.get(tensor.name.replace(/^(?:teacher|momentum)\./, ''));
    return found === undefined ? tensor : { ...found, name: tensor.name };
  });
}

describe(`methods with a momentum encoder against ${expected.oracle}, float64`, () => {
  for (const each of expected.cases) {
    const { family, method, count, groups, losses, peakLearningRate, float32LossError, gradients, moved } = each;
    const title = `${Object.values(method).slice(0, 2).join(' ')} with ${family}`;

    test(`${title}: loss and the gradient of every tensor`, () => {
      const before = liveTensorCount();
      const architecture = architectureOf(each);
      const weights = encoderWeightsOf(each);
      const setting = methodSettingOf(architecture);
      const prepared = methodOf(method, setting);
      const encoder = openTrainableEncoder(architecture, weights, 'CLS');
      const learner = prepared.open(withOwn(prepared.initialState(createRandom(1), weights), each));
      const tensors = groups.map((_, group) => viewGroup(0, group, each));
      const views = viewGroupsFrom(count, tensors);
      const noiseOf = () => createRandom(1);
      const pass = new EncoderPass(encoder, views, count, noiseOf);
      const learned = learner.learn({ embeddings: pass.forward(), views, partSize: count, noise: noiseOf });
      pass.backward(learned.embeddingGradient);
      const [loss = Number.NaN] = losses;
      const error = Math.abs(readFloat(learned.loss) / loss - 1);
      assert.ok(error < 3e-5, `${readFloat(learned.loss)}, not ${loss}`);
      const actual = [...encoder.parameters, ...learner.parameters].map(({ name, gradient, layout }) => {
        assert.ok(gradient !== undefined);
        return fromDevice(name, gradient, layout);
      });
      assertNear('gradients', only(floats(actual), gradients), gradients);
      tf.dispose([...tensors, learned.loss, learned.embeddingGradient, ...Object.values(learned.series)]);
      pass.dispose();
      encoder.dispose();
      learner.dispose();
      assert.equal(liveTensorCount(), before);
    });

    test(`${title}: losses, weights and the momentum encoder over ${totalSteps} steps`, async () => {
      const trainer = createTrainer({
        architecture: architectureOf(each),
        method,
        peakLearningRate,
        warmupSteps: 0,
        totalSteps,
        optimizer: { name: 'SGD', momentum, nesterov: false, weightDecay },
        seedRandom: createRandom(1),
        initialWeights: encoderWeightsOf(each),
      });
      trainer.restoreState(withOwn(trainer.saveState(), each));
      const begin = floats(trainer.saveState());
      for (const [step, loss] of losses.entries()) {
        const tensors = groups.map((_, group) => viewGroup(step, group, each));
        const metrics = await trainer.step(viewGroupsFrom(count, tensors));
        tf.dispose(tensors);
        const error = Math.abs(metrics.loss / loss - 1);
        // One activation on the other side of zero changes what the next steps see, in PyTorch's float32 too.
        assert.ok(error <= Math.max(1e-3, 3 * float32LossError), `step ${step}: ${metrics.loss}, not ${loss}`);
      }
      assertNear('what moved', only(movedBetween(begin, floats(trainer.saveState())), moved), moved);
      trainer.dispose();
    });
  }
});
