/**
 * The whole step of SimCLR against PyTorch in float64: loss, the gradient of every tensor, running statistics,
 * schedule, and weights after 20 steps of LARS.
 */
import { readFileSync } from 'node:fs';
import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { fromDevice } from '../../workers/engine/models/parameter.ts';
import { ProjectionHead } from '../../workers/engine/models/projection-head.ts';
import { ENCODER_ARCHITECTURES, encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import { ntXent } from '../../workers/engine/losses/nt-xent.ts';
import { embeddingDimOf } from '../../workers/engine/encoders/resnet/architecture.ts';
import { learningRateAt } from '../../workers/engine/optim/schedule.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { readFloats, tf } from '../../workers/engine/tensorflow.ts';
import { createTrainer } from '../../workers/engine/train/trainer.ts';
import { formulaHead, formulaViews, formulaWeights } from './formula.ts';
import { assertNear, boundOf, floats, movedBetween, only, RELATIVE_BOUND, sketchedTensors } from './sketch.ts';

const expectedFile = z.object({
  oracle: z.string(),
  temperature: z.number(),
  projectionDim: z.number(),
  weightDecay: z.number(),
  momentum: z.number(),
  peakLearningRate: z.number(),
  warmupSteps: z.number(),
  totalSteps: z.number(),
  learningRates: z.array(z.number()),
  cases: z.array(
    z.object({
      architecture: z.enum(ENCODER_ARCHITECTURES),
      count: z.number(),
      heightPx: z.number(),
      widthPx: z.number(),
      losses: z.array(z.number()),
      float32LossError: z.number(),
      gradients: sketchedTensors,
      moved: sketchedTensors,
      statistics: sketchedTensors,
    }),
  ),
});
const expected = expectedFile.parse(JSON.parse(readFileSync(new URL('simclr-expected.json', import.meta.url), 'utf8')));

describe(`SimCLR against ${expected.oracle}, float64`, () => {
  test('the learning rate at every step', () => {
    expected.learningRates.forEach((rate, step) =>
      assert.ok(Math.abs(learningRateAt(expected, step) - rate) < 1e-12 * expected.peakLearningRate, `step ${step}`),
    );
    assert.equal(expected.learningRates.length, expected.totalSteps);
  });

  for (const given of expected.cases) {
    const { architecture, count, heightPx, widthPx, losses, gradients, moved, statistics } = given;
    const where = `${architecture}, two views of ${count} images of ${heightPx}x${widthPx} px`;

    if (Object.keys(gradients).length > 0)
      test(`${where}: loss and the gradient of every tensor`, () => {
        const encoder = encoderFromWeights(architecture, formulaWeights(architecture));
        const head = new ProjectionHead(
          encoder.embeddingDim,
          expected.projectionDim,
          formulaHead(encoder.embeddingDim, expected.projectionDim),
        );
        const batch = formulaViews(0, count, heightPx, widthPx);
        const embeddings = encoder.forward(batch);
        const projections = head.forward(embeddings);
        const { loss, gradient, positiveSimilarity } = ntXent(projections, expected.temperature);
        const embeddingGradient = head.backward(gradient);
        encoder.backward(embeddingGradient);
        assert.ok(Math.abs((readFloats(loss)[0] ?? Number.NaN) - (losses[0] ?? Number.NaN)) < 1e-5);
        const actual = [...encoder.parameters, ...head.parameters].map(({ name, gradient: found, layout }) => {
          assert.ok(found !== undefined);
          return fromDevice(name, found, layout);
        });
        assertNear('gradients', floats(actual), gradients);
        tf.dispose([batch, embeddings, projections, loss, gradient, positiveSimilarity, embeddingGradient]);
        encoder.dispose();
        head.dispose();
      });

    // A ResNet-50's statistics are the encoder's own, which encoder.test.ts holds to PyTorch; its step costs many
    // seconds.
    if (architecture === 'RESNET18')
      test(`${where}: ${losses.length === 1 ? 'running statistics after a step' : `losses, running statistics and weights over ${losses.length} steps`}`, async () => {
        const trainer = createTrainer({
          ...expected,
          method: { name: 'SIMCLR', projectionDim: expected.projectionDim, temperature: expected.temperature },
          optimizer: { name: 'LARS', momentum: expected.momentum, weightDecay: expected.weightDecay },
          architecture: architectureNamed(architecture),
          seedRandom: createRandom(1),
          initialWeights: formulaWeights(architecture),
        });
        const state = trainer.saveState();
        const head = new Map(
          formulaHead(embeddingDimOf(architecture), expected.projectionDim).map((tensor) => [tensor.name, tensor]),
        );
        trainer.restoreState(state.map((tensor) => head.get(tensor.name) ?? tensor));
        const begin = floats(trainer.saveState());
        for (const [step, loss] of losses.entries()) {
          const batch = formulaViews(step, count, heightPx, widthPx);
          const metrics = await trainer.step(batch);
          assert.ok(
            Math.abs(metrics.loss - loss) <= Math.max(1e-5, 3 * given.float32LossError),
            `step ${step}: ${metrics.loss}, expected ${loss}`,
          );
          batch.dispose();
        }
        const end = floats(trainer.saveState());
        assertNear('running statistics', only(end, statistics), statistics);
        if (Object.keys(moved).length > 0) {
          assertNear('weights, by where they moved', movedBetween(begin, only(end, moved)), moved);
        }
        trainer.dispose();
      });
  }

  test('in ResNet-18 rounding does not hide a wrong gradient: the bound is that of every tensor', () => {
    const cases = expected.cases.filter(
      ({ architecture, gradients }) => architecture === 'RESNET18' && Object.keys(gradients).length > 0,
    );
    assert.deepEqual(
      cases.map(({ gradients }) => boundOf(gradients)),
      [RELATIVE_BOUND, RELATIVE_BOUND],
    );
  });
});
