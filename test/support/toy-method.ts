/**
 * A pretraining method that is not part of the program: it draws the embeddings of three views of an image, two usual
 * ones and a smaller one, to their mean, and counts its steps. It proves that a method is its folder and two lines.
 * Import it before the server, whose schemas list the methods.
 */
import { z } from 'zod';
import { registerMethodDescription, type MethodDescription } from '../../src/protocol/pretraining/methods/index.ts';
import { pairOf } from '../../workers/engine/augment/config.ts';
import { registerMethod, type PretrainingMethod } from '../../workers/engine/methods/index.ts';
import { requireViews, type EmbeddedBatch, type Learned, type Learner } from '../../workers/engine/methods/method.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { asRank2, scoped, tf } from '../../workers/engine/tensorflow.ts';

interface ToyConfig {
  readonly name: 'TOY';
  readonly pull: number;
}

const VIEWS = 3;
const STEP_COUNT = { name: 'toy.stepCount', dtype: 'F32', shape: [1], required: true } as const;

class ToyLearner implements Learner {
  readonly parameters = [];
  readonly #pull: number;
  #stepCount: number;

  constructor(pull: number, tensors: readonly NamedTensor[]) {
    this.#pull = pull;
    this.#stepCount = Number(tensors.find(({ name }) => name === STEP_COUNT.name)?.data[0]);
  }

  learn(batch: EmbeddedBatch): Learned {
    requireViews('Toy', batch, [2, 1]);
    const { embeddings, views } = batch;
    const { loss, embeddingGradient, spread } = scoped(() => {
      const byView = tf.reshape(embeddings, [VIEWS, views.imageCount, -1]);
      const apart = tf.sub(byView, tf.mean(byView, 0, true));
      const scale = this.#pull / (VIEWS * views.imageCount);
      return {
        loss: tf.mul(tf.sum(tf.square(apart)), scale / 2),
        embeddingGradient: tf.reshape(tf.mul(apart, scale), embeddings.shape),
        spread: tf.mean(tf.abs(apart)),
      };
    });
    return { loss, embeddingGradient: asRank2(embeddingGradient), series: { toySpread: spread } };
  }

  commit(): void {
    this.#stepCount += 1;
  }

  discard(): void {
    // Nothing is held between learning and committing.
  }

  state(): NamedTensor[] {
    return [{ ...STEP_COUNT, data: Float32Array.of(this.#stepCount) }];
  }

  dispose(): void {
    // Nothing is on the device.
  }
}

const TOY: PretrainingMethod<ToyConfig> = {
  name: 'TOY',
  prepare: ({ pull }) => ({
    views: (usual) => [...pairOf(usual), { sizePx: usual.sizePx - 8, augmentations: [usual.augmentation] }],
    trained: [],
    kept: [STEP_COUNT],
    initialState: () => [{ ...STEP_COUNT, data: Float32Array.of(0) }],
    open: (tensors) => new ToyLearner(pull, tensors),
  }),
};

const OPTIONS = { pull: z.number().gt(0, 'must be positive') };

const TOY_DESCRIPTION: MethodDescription = {
  name: 'TOY',
  title: 'Toy',
  paper: 'no paper',
  help: 'pull (1)',
  config: z.object({ name: z.literal('TOY'), ...OPTIONS }),
  options: z.strictObject(OPTIONS).partial(),
  hasTemperature: false,
  recipes: ['DEFAULT'],
  defaults: () => ({ pull: 1 }),
  recipeChanges: () => ({ viewSizePx: (imageSizePx) => imageSizePx }),
  series: [{ name: 'toySpread', title: 'Spread', meaning: 'Distance of the views from their mean.' }],
};

registerMethod(TOY);
registerMethodDescription(TOY_DESCRIPTION);
