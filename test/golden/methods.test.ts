/**
 * The pretraining methods against PyTorch in float64: the loss and the gradient of every tensor of the first step, and
 * losses and weights over ten steps.
 */
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { methodConfigSchema } from '../../src/protocol/pretraining/methods/index.ts';
import { encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import { methodOf } from '../../workers/engine/methods/index.ts';
import { methodSettingOf } from '../../workers/engine/methods/setting.ts';
import { viewsFrom } from '../../workers/engine/train/step-views.ts';
import { fromDevice } from '../../workers/engine/models/parameter.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { liveTensorCount, readFloat, tf } from '../../workers/engine/tensorflow.ts';
import { createTrainer } from '../../workers/engine/train/trainer.ts';
import { formulaViews, formulaVitTensor, formulaWeights } from './formula.ts';
import { assertNear, floats, movedBetween, only, sketchedTensors } from './sketch.ts';

const expected = z
  .object({
    oracle: z.string(),
    count: z.int(),
    sidePx: z.int(),
    momentum: z.number(),
    weightDecay: z.number(),
    totalSteps: z.int(),
    cases: z.array(
      z.object({
        method: methodConfigSchema,
        peakLearningRate: z.number(),
        head: z.array(z.tuple([z.string(), z.array(z.int())])),
        losses: z.array(z.number()),
        float32LossError: z.number(),
        gradients: sketchedTensors,
        moved: sketchedTensors,
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('methods-expected.json', import.meta.url), 'utf8')));

const { count, sidePx, momentum, weightDecay, totalSteps } = expected;
const architecture = architectureNamed('RESNET18');

describe(`pretraining methods against ${expected.oracle}, float64`, () => {
  for (const { method, head, losses, peakLearningRate, float32LossError, gradients, moved } of expected.cases) {
    test(`${method.name}: loss and the gradient of every tensor`, () => {
      const before = liveTensorCount();
      const encoder = encoderFromWeights('RESNET18', formulaWeights('RESNET18'));
      const learner = methodOf(method, methodSettingOf(architecture)).open(head.map(formulaVitTensor));
      const views = formulaViews(0, count, sidePx, sidePx);
      const embeddings = encoder.forward(views);
      const noise = () => createRandom(1);
      const learned = learner.learn({ embeddings, views: viewsFrom(views), partSize: count, noise });
      encoder.backward(learned.embeddingGradient);
      const [loss = Number.NaN] = losses;
      assert.ok(
        Math.abs(readFloat(learned.loss) - loss) < 3e-5 * Math.abs(loss),
        `${readFloat(learned.loss)}, not ${loss}`,
      );
      const actual = [...encoder.parameters, ...learner.parameters].map(({ name, gradient, layout }) => {
        assert.ok(gradient !== undefined);
        return fromDevice(name, gradient, layout);
      });
      assertNear('gradients', floats(actual), gradients);
      tf.dispose([views, embeddings, learned.loss, learned.embeddingGradient, ...Object.values(learned.series)]);
      encoder.dispose();
      learner.dispose();
      assert.equal(liveTensorCount(), before);
    });

    test(`${method.name}: losses and weights over ${totalSteps} steps`, async () => {
      const trainer = createTrainer({
        architecture,
        method,
        peakLearningRate,
        warmupSteps: 0,
        totalSteps,
        optimizer: { name: 'SGD', momentum, nesterov: false, weightDecay },
        seedRandom: createRandom(1),
        initialWeights: formulaWeights('RESNET18'),
      });
      const own = new Map(head.map((each) => [each[0], formulaVitTensor(each)]));
      trainer.restoreState(trainer.saveState().map((tensor) => own.get(tensor.name) ?? tensor));
      const begin = floats(trainer.saveState());
      for (const [step, loss] of losses.entries()) {
        const views = formulaViews(step, count, sidePx, sidePx);
        const metrics = await trainer.step(views);
        views.dispose();
        const error = Math.abs(metrics.loss / loss - 1);
        // One activation on the other side of zero changes what the next steps see, in PyTorch's float32 too.
        assert.ok(error <= Math.max(1e-3, 3 * float32LossError), `step ${step}: ${metrics.loss}, not ${loss}`);
        assert.ok(metrics.effectiveRank > 1 && metrics.effectiveRank <= 2 * count);
      }
      assertNear('weights, by where they moved', only(movedBetween(begin, floats(trainer.saveState())), moved), moved);
      trainer.dispose();
    });
  }
});
