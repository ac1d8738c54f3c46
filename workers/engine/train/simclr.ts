/**
 * SimCLR (Chen et al. 2020, arXiv:2002.05709): a trainer that takes one step at a time on views that the caller makes.
 *
 * With `microBatchSize` a step goes through the encoder in parts (gradient caching, Gao et al. 2021, arXiv:2101.06983):
 * it computes the embeddings of all parts, keeping nothing else; then NT-Xent and its gradient over the whole batch;
 * then it passes each part through the encoder again, with its share of that gradient. Loss and gradients equal those
 * of the whole batch up to rounding, except for batch norm, which normalises each part by its own statistics. The
 * running statistics are updated once a step, to the mean of the updates that each part alone would have made.
 */
import { checkTensors, type TensorExpectation } from '../../../src/formats/tensor-check.ts';
import { canComputeIn, UnsupportedPrecisionError } from '../kernels/compute-dtype.ts';
import { ntXent } from '../losses/nt-xent.ts';
import type { NtXent } from '../losses/nt-xent.ts';
import {
  describeEncoder,
  usualPooling,
  type Architecture,
  type EncoderTensorSpec,
  type Pooling,
} from '../../../src/formats/encoders/index.ts';
import { openTrainableEncoder, untrainedWeights } from '../encoders/index.ts';
import type { RowNoise, TrainableEncoder, TrainingOptions } from '../encoders/index.ts';
import { dropGradient } from '../models/parameter.ts';
import { ProjectionHead, projectionHeadExpectations, randomProjectionHead } from '../models/projection-head.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { createOptimizer, NonFiniteGradientError, optimizerExpectations } from '../optim/index.ts';
import type { Optimizer, OptimizerConfig, OptimizerStep } from '../optim/index.ts';
import { checkSchedule, learningRateAt } from '../optim/schedule.ts';
import type { Schedule } from '../optim/schedule.ts';
import type { Random } from '../rng.ts';
import { scoped, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';
import { BatchInParts, WholeBatch } from './encoder-pass.ts';
import type { EncoderPass } from './encoder-pass.ts';
import { viewsFrom } from './step-views.ts';
import type { StepViews } from './step-views.ts';

/** The hyperparameters of a run. The caller sets the defaults; the paper's values are in brackets. */
export interface SimclrTrainerOptions extends Schedule, TrainingOptions {
  readonly architecture: Architecture;
  /** P, the length of a projection [128]. */
  readonly projectionDim: number;
  /** Temperature of NT-Xent [0.5]. */
  readonly temperature: number;
  /** [LARS, momentum 0.9, weight decay 1e-6] */
  readonly optimizer: OptimizerConfig;
  /** Draws the new weights and each step's noise; its state must not change after the trainer is created. */
  readonly seedRandom: Random;
  /**
   * Images that go through the encoder at once; it must divide the number of images of every step. Default: all of
   * them. A step in parts takes the memory of one part and about a third more time, for the second forward pass.
   */
  readonly microBatchSize?: number;
  /** An encoder to start from, under the names of its state dict; the projection head is always new. */
  readonly initialWeights?: readonly NamedTensor[];
}

export interface StepMetrics {
  /** NT-Xent, mean over 2N. */
  readonly loss: number;
  /** The learning rate of this step. */
  readonly learningRate: number;
  /** Mean cosine similarity of the two views' projections, in -1..1. */
  readonly positiveSimilarity: number;
  /**
   * Mean over dimensions of the standard deviation of the unit-length embeddings, times sqrt(D): 0 means collapse, 1 a
   * uniform distribution on the sphere.
   */
  readonly embeddingStd: number;
}

/**
 * The loss of a step, or one of its gradients, is not finite, so that the step cannot be taken. The trainer has not
 * changed.
 */
export class NonFiniteLossError extends Error {
  readonly stepIndex: number;
  readonly loss: number;

  /** @param cause the gradient that is not finite, if the loss itself still is. */
  constructor(stepIndex: number, loss: number, cause?: NonFiniteGradientError) {
    const fault =
      cause === undefined
        ? `The loss of step ${stepIndex} is ${loss}`
        : `A gradient of step ${stepIndex} is not finite`;
    super(
      `${fault}; a lower learning rate or a higher temperature may help.`,
      cause === undefined ? undefined : { cause },
    );
    this.name = 'NonFiniteLossError';
    this.stepIndex = stepIndex;
    this.loss = loss;
  }
}

export interface SimclrTrainer {
  /** Steps taken so far. */
  readonly stepIndex: number;
  /**
   * One step of both views through encoder and head, loss, gradients and optimizer.
   *
   * @param views [2N, H, W, 3] float32, normalised; rows 0..N-1 the first views, rows N..2N-1 the second ones of the
   * same images. The caller disposes them. Alternatively a function that makes such views, which the trainer disposes.
   * @throws NonFiniteLossError before anything changes; RangeError for fewer than 2 images, an odd number of views, a
   * number of images that microBatchSize does not divide, or a step after the last.
   */
  step(views: Tensor4D | StepViews): Promise<StepMetrics>;
  /**
   * Changes the total number of steps of the training from the next step on: the rest of the schedule spans the steps
   * that are left.
   * @throws RangeError during the warm-up, or if more steps were already taken.
   */
  replan(totalSteps: number): void;
  /** The encoder alone, under torchvision's names and layouts. */
  encoderWeights(): NamedTensor[];
  /**
   * The state from which `restoreState` continues as if never interrupted: encoder, head (`fc.1`, `fc.3`), state of
   * the optimizer (`optimizer.*`), step (`step`).
   */
  saveState(): NamedTensor[];
  /**
   * @throws WeightsMismatchError if the tensors are not those of `saveState` of a trainer of the same shapes; the
   * trainer has not changed then.
   */
  restoreState(tensors: readonly NamedTensor[]): void;
  /** Frees every tensor of the trainer. */
  dispose(): void;
}

/**
 * @throws RangeError for options out of range, UnsupportedPrecisionError, WeightsMismatchError for initial weights that
 * do not fit.
 */
export function createSimclrTrainer(options: SimclrTrainerOptions): SimclrTrainer {
  checkOptions(options);
  return new Trainer(options);
}

function checkOptions(options: SimclrTrainerOptions): void {
  const { projectionDim, temperature, microBatchSize = 1, computeDtype = 'float32' } = options;
  checkSchedule(options);
  if (!canComputeIn(computeDtype)) throw new UnsupportedPrecisionError(computeDtype);
  if (!Number.isSafeInteger(projectionDim) || projectionDim < 1)
    throw new RangeError(`projectionDim must be a whole number of at least 1, not ${projectionDim}.`);
  if (!Number.isSafeInteger(microBatchSize) || microBatchSize < 1)
    throw new RangeError(`microBatchSize must be a whole number of at least 1, not ${microBatchSize}.`);
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new RangeError(`temperature must be positive, not ${temperature}.`);
  // This one is created only for its checks, before anything large is allocated.
  createOptimizer([], options.optimizer).dispose();
}

const STEP_EXPECTATION: TensorExpectation = { name: 'step', dtype: 'I64', shape: [], required: true };

class Trainer implements SimclrTrainer {
  readonly #options: SimclrTrainerOptions;
  #schedule: Schedule;
  #encoder: TrainableEncoder;
  #head: ProjectionHead;
  #optimizer: Optimizer;
  #stepIndex = 0;

  constructor(options: SimclrTrainerOptions) {
    const { architecture, projectionDim, seedRandom, initialWeights } = options;
    this.#options = options;
    this.#schedule = options;
    this.#encoder = this.#openEncoder(initialWeights ?? untrainedWeights(architecture, seedRandom.fork('encoder')));
    const { embeddingDim } = this.#encoder;
    this.#head = new ProjectionHead(
      embeddingDim,
      projectionDim,
      randomProjectionHead(embeddingDim, projectionDim, seedRandom.fork('projection head')),
    );
    this.#optimizer = this.#newOptimizer();
  }

  #openEncoder(weights: readonly NamedTensor[]): TrainableEncoder {
    const { architecture } = this.#options;
    return openTrainableEncoder(architecture, weights, poolingOf(architecture), this.#options);
  }

  #newOptimizer(): Optimizer {
    return createOptimizer([...this.#encoder.parameters, ...this.#head.parameters], this.#options.optimizer);
  }

  get stepIndex(): number {
    return this.#stepIndex;
  }

  async step(views: Tensor4D | StepViews): Promise<StepMetrics> {
    const learningRate = learningRateAt(this.#schedule, this.#stepIndex);
    const source = views instanceof tf.Tensor ? viewsFrom(views) : views;
    const { microBatchSize = source.imageCount } = this.#options;
    if (source.imageCount % microBatchSize !== 0)
      throw new RangeError(`microBatchSize ${microBatchSize} does not divide ${source.imageCount} images.`);
    const pass =
      source.imageCount === microBatchSize
        ? new WholeBatch(this.#encoder, source, this.#noise())
        : new BatchInParts(this.#encoder, source, microBatchSize, this.#noise());
    try {
      const embeddings = pass.forward();
      const { loss, gradient, positiveSimilarity } = this.#contrast(embeddings);
      const monitored = [loss, positiveSimilarity, embeddingStdOf(embeddings)] as const;
      try {
        this.#backward(pass, gradient);
        const metrics = await this.#update(learningRate, monitored);
        pass.commitStatistics();
        this.#stepIndex += 1;
        return metrics;
      } finally {
        tf.dispose([gradient, ...monitored]);
      }
    } finally {
      this.#head.discard();
      pass.dispose();
      [...this.#encoder.parameters, ...this.#head.parameters].forEach(dropGradient);
    }
  }

  /** A function of the seed, the step and the row alone, so that a resumed run draws it again. */
  #noise(): RowNoise {
    const random = this.#options.seedRandom.fork(`noise of step ${this.#stepIndex}`);
    return (row) => random.fork(`row ${row}`);
  }

  #contrast(embeddings: Tensor2D): NtXent {
    const projections = this.#head.forward(embeddings);
    try {
      return ntXent(projections, this.#options.temperature);
    } finally {
      projections.dispose();
    }
  }

  #backward(pass: EncoderPass, projectionGradient: Tensor2D): void {
    const embeddingGradient = this.#head.backward(projectionGradient);
    try {
      pass.backward(embeddingGradient);
    } finally {
      embeddingGradient.dispose();
    }
  }

  /**
   * Applies the optimizer's update after the only read of a step: the host reads all values at once, when the device
   * has computed everything except the update.
   */
  async #update(
    learningRate: number,
    monitored: readonly [loss: Tensor, positiveSimilarity: Tensor, embeddingStd: Tensor],
  ): Promise<StepMetrics> {
    const step = this.#optimizer.prepare();
    try {
      const [loss = Number.NaN, positiveSimilarity = Number.NaN, embeddingStd = Number.NaN, ...norms] =
        await readAtOnce(monitored, step.halfSquaredNorms);
      if (!Number.isFinite(loss)) throw new NonFiniteLossError(this.#stepIndex, loss);
      this.#applyStep(step, learningRate, Float32Array.from(norms), loss);
      return { loss, learningRate, positiveSimilarity, embeddingStd };
    } finally {
      step.dispose();
    }
  }

  #applyStep(step: OptimizerStep, learningRate: number, halfSquaredNorms: Float32Array, loss: number): void {
    try {
      step.apply({ stepIndex: this.#stepIndex, learningRate }, halfSquaredNorms);
    } catch (error) {
      throw error instanceof NonFiniteGradientError ? new NonFiniteLossError(this.#stepIndex, loss, error) : error;
    }
  }

  replan(totalSteps: number): void {
    const { peakLearningRate, warmupSteps, totalSteps: earlierTotal, earlierPlans = [] } = this.#schedule;
    const schedule = {
      peakLearningRate,
      warmupSteps,
      totalSteps,
      earlierPlans: [...earlierPlans, { untilStep: this.#stepIndex, totalSteps: earlierTotal }],
    };
    checkSchedule(schedule);
    this.#schedule = schedule;
  }

  encoderWeights(): NamedTensor[] {
    return this.#encoder.weights();
  }

  saveState(): NamedTensor[] {
    const step: NamedTensor = {
      name: STEP_EXPECTATION.name,
      dtype: 'I64',
      shape: [],
      data: BigInt64Array.of(BigInt(this.#stepIndex)),
    };
    return [...this.#encoder.weights(), ...this.#head.weights(), ...this.#optimizer.state(), step];
  }

  restoreState(tensors: readonly NamedTensor[]): void {
    const { architecture, projectionDim, optimizer } = this.#options;
    const description = describeEncoder(architecture);
    const embeddingDim = description.embeddingDim(poolingOf(architecture));
    const headExpectations = projectionHeadExpectations(embeddingDim, projectionDim);
    const encoderExpectations = expectationsOf(description.tensors);
    const trained = expectationsOf(description.tensors.filter(({ kind }) => kind === 'WEIGHT'));
    const expectations = [
      ...encoderExpectations,
      ...headExpectations,
      ...optimizerExpectations(optimizer, [...trained, ...headExpectations]),
      STEP_EXPECTATION,
    ];
    const found = checkTensors(`a ${description.name} trainer`, tensors, expectations);
    const pick = (wanted: readonly TensorExpectation[]): NamedTensor[] =>
      wanted.flatMap(({ name }) => found.get(name) ?? []);
    const step = found.get(STEP_EXPECTATION.name);
    this.dispose();
    this.#encoder = this.#openEncoder(pick(encoderExpectations));
    this.#head = new ProjectionHead(embeddingDim, projectionDim, pick(headExpectations));
    this.#optimizer = this.#newOptimizer();
    this.#optimizer.restore(found);
    this.#stepIndex = step?.dtype === 'I64' ? Number(step.data[0] ?? 0n) : 0;
  }

  dispose(): void {
    this.#encoder.dispose();
    this.#head.dispose();
    this.#optimizer.dispose();
  }
}

/** The pooling of a trained encoder: the usual one of its network. */
function poolingOf(architecture: Architecture): Pooling {
  return usualPooling(describeEncoder(architecture));
}

function expectationsOf(specs: readonly EncoderTensorSpec[]): TensorExpectation[] {
  return specs.map(({ name, kind, shape, required }) => ({
    name,
    dtype: kind === 'BATCH_COUNT' ? 'I64' : 'F32',
    shape,
    required,
  }));
}

/** The scalar `embeddingStd` of StepMetrics for embeddings [2N, D]. */
function embeddingStdOf(embeddings: Tensor2D): Tensor {
  return scoped(() => {
    const units = tf.div(embeddings, tf.maximum(tf.norm(embeddings, 2, 1, true), 1e-12));
    const { variance } = tf.moments(units, 0);
    return tf.mul(tf.mean(tf.sqrt(variance)), Math.sqrt(embeddings.shape[1]));
  });
}

/** Reads the scalars and then the vector at once, so that the host waits for the device only once. */
async function readAtOnce(scalars: readonly Tensor[], vector: Tensor): Promise<Float32Array> {
  const joined = scoped(() => tf.concat([tf.stack([...scalars]), vector]));
  const values = await joined.data();
  joined.dispose();
  if (!(values instanceof Float32Array)) throw new TypeError(`Expected float32, got ${joined.dtype}.`);
  return values;
}
