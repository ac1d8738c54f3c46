/**
 * A trainer that takes one step of a pretraining method at a time, on views that the caller makes.
 *
 * With `microBatchSize` a step goes through the encoder in parts (gradient caching, Gao et al. 2021, arXiv:2101.06983):
 * it computes the embeddings of all parts, keeping nothing else; then the loss and its gradient over the whole batch;
 * then it passes each part through the encoder again, with its share of that gradient. Loss and gradients equal those
 * of the whole batch up to rounding, except for batch norm, which normalises each part by its own statistics. The
 * running statistics are updated once a step, to the mean of the updates that each part alone would have made.
 */
import { checkTensors, type TensorExpectation } from '../../../src/formats/tensor-check.ts';
import type { ViewGroup, ViewSpec } from '../augment/config.ts';
import { multiplyMatrices } from '../kernels/elementwise.ts';
import { canComputeIn, UnsupportedPrecisionError } from '../kernels/compute-dtype.ts';
import { describeEncoder, usualPooling, type Architecture } from '../../../src/formats/encoders/index.ts';
import { openTrainableEncoder, untrainedWeights } from '../encoders/index.ts';
import type { RowNoise, TrainableEncoder, TrainingOptions } from '../encoders/index.ts';
import { methodOf } from '../methods/index.ts';
import type { Learned, Learner, Method, MethodConfig, MethodSetting } from '../methods/index.ts';
import { methodSettingOf } from '../methods/setting.ts';
import { dropGradient } from '../models/parameter.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { createOptimizer, NonFiniteGradientError, optimizerExpectations } from '../optim/index.ts';
import type { Optimizer, OptimizerConfig, OptimizerStep } from '../optim/index.ts';
import { checkSchedule, learningRateAt } from '../optim/schedule.ts';
import type { Schedule } from '../optim/schedule.ts';
import type { Random } from '../rng.ts';
import { scoped, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';
import { EncoderPass } from './encoder-pass.ts';
import { viewsFrom } from './step-views.ts';
import type { StepViews } from './step-views.ts';

/** The hyperparameters of a run. The caller sets the defaults. */
export interface TrainerOptions extends Schedule, TrainingOptions {
  readonly architecture: Architecture;
  readonly method: MethodConfig;
  readonly optimizer: OptimizerConfig;
  /** Draws the new weights and each step's noise; its state must not change after the trainer is created. */
  readonly seedRandom: Random;
  /**
   * Images that go through the encoder at once; it must divide the number of images of every step. Default: all of
   * them. A step in parts takes the memory of one part and about a third more time, for the second forward pass.
   */
  readonly microBatchSize?: number;
  /** An encoder to start from, under the names of its state dict; what the method learns beside it is always new. */
  readonly initialWeights?: readonly NamedTensor[];
}

export interface StepMetrics {
  /** The method's own; mean over the batch. */
  readonly loss: number;
  /** The learning rate of this step. */
  readonly learningRate: number;
  /**
   * Mean over dimensions of the standard deviation of the unit-length embeddings, times sqrt(D): 0 means collapse, 1 a
   * uniform distribution on the sphere.
   */
  readonly embeddingStd: number;
  /**
   * The number of dimensions in which the embeddings vary, in 0..D: the squared trace of their covariance over its
   * squared Frobenius norm (the participation ratio). Near 1 they lie on a line (dimensional collapse).
   */
  readonly effectiveRank: number;
  /** What else the method watches, by name. */
  readonly series: Readonly<Record<string, number>>;
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

export interface Trainer {
  /** Steps taken so far. */
  readonly stepIndex: number;
  /**
   * The views of each image that the method wants.
   * @param usual the view that the run's own settings describe.
   */
  views(usual: ViewSpec): readonly ViewGroup[];
  /**
   * One step of all views through the encoder, loss, gradients and optimizer.
   *
   * @param views those of `views`, by a function that makes them, which the trainer disposes. Pairs of views of one
   * size may be a tensor instead, which the caller disposes: [2N, H, W, 3] float32, normalised; rows 0..N-1 the first
   * views, rows N..2N-1 the second ones of the same images.
   * @throws NonFiniteLossError before anything changes; RangeError for fewer than 2 images, for other views than the
   * method's, a number of images that microBatchSize does not divide, or a step after the last.
   */
  step(views: Tensor4D | StepViews): Promise<StepMetrics>;
  /**
   * Changes the total number of steps of the training from the next step on: the rest of the schedule spans the steps
   * that are left.
   * @throws RangeError during the warm-up, or if more steps were already taken.
   */
  replan(totalSteps: number): void;
  /**
   * The encoder that the method exports, under the names and layouts of its state dict: the one that it trains, or one
   * that it keeps beside it.
   */
  encoderWeights(): NamedTensor[];
  /**
   * The state from which `restoreState` continues as if never interrupted: encoder, what the method
   * learns and keeps beside it, state of the optimizer (`optimizer.*`), step (`step`).
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
export function createTrainer(options: TrainerOptions): Trainer {
  checkOptions(options);
  return new PretrainingTrainer(options);
}

function checkOptions(options: TrainerOptions): void {
  const { microBatchSize = 1, computeDtype = 'float32' } = options;
  checkSchedule(options);
  if (!canComputeIn(computeDtype)) throw new UnsupportedPrecisionError(computeDtype);
  if (!Number.isSafeInteger(microBatchSize) || microBatchSize < 1)
    throw new RangeError(`microBatchSize must be a whole number of at least 1, not ${microBatchSize}.`);
  // This one is created only for its checks, before anything large is allocated.
  createOptimizer([], options.optimizer).dispose();
}

const STEP_EXPECTATION: TensorExpectation = { name: 'step', dtype: 'I64', shape: [], required: true };

class PretrainingTrainer implements Trainer {
  readonly #options: TrainerOptions;
  readonly #setting: MethodSetting;
  readonly #method: Method;
  #schedule: Schedule;
  #encoder: TrainableEncoder;
  #learner: Learner;
  #optimizer: Optimizer;
  #stepIndex = 0;

  constructor(options: TrainerOptions) {
    const { architecture, seedRandom, initialWeights, method } = options;
    this.#options = options;
    this.#setting = methodSettingOf(architecture, options);
    this.#method = methodOf(method, this.#setting);
    this.#schedule = options;
    const weights = initialWeights ?? untrainedWeights(architecture, seedRandom.fork('encoder'));
    this.#encoder = this.#openEncoder(weights);
    this.#learner = this.#method.open(this.#method.initialState(seedRandom, weights));
    this.#optimizer = this.#newOptimizer();
  }

  #openEncoder(weights: readonly NamedTensor[]): TrainableEncoder {
    const { architecture } = this.#options;
    return openTrainableEncoder(architecture, weights, usualPooling(describeEncoder(architecture)), this.#options);
  }

  #newOptimizer(): Optimizer {
    return createOptimizer([...this.#encoder.parameters, ...this.#learner.parameters], this.#options.optimizer);
  }

  get stepIndex(): number {
    return this.#stepIndex;
  }

  views(usual: ViewSpec): readonly ViewGroup[] {
    return this.#method.views(usual);
  }

  async step(views: Tensor4D | StepViews): Promise<StepMetrics> {
    const learningRate = learningRateAt(this.#schedule, this.#stepIndex);
    const source = views instanceof tf.Tensor ? viewsFrom(views) : views;
    const { microBatchSize: partSize = source.imageCount } = this.#options;
    if (source.imageCount % partSize !== 0)
      throw new RangeError(`microBatchSize ${partSize} does not divide ${source.imageCount} images.`);
    const noise = this.#noise();
    const pass = new EncoderPass(this.#encoder, source, partSize, noise);
    try {
      const embeddings = pass.forward();
      const learned = this.#learner.learn({ embeddings, views: source, partSize, noise });
      const spread = [embeddingStdOf(embeddings), effectiveRankOf(embeddings)] as const;
      try {
        pass.backward(learned.embeddingGradient);
        const metrics = await this.#update(learningRate, learned, spread);
        pass.commitStatistics();
        const { totalSteps } = this.#schedule;
        this.#learner.commit({ encoder: this.#encoder, stepIndex: this.#stepIndex, totalSteps });
        this.#stepIndex += 1;
        return metrics;
      } finally {
        tf.dispose([learned.loss, learned.embeddingGradient, ...spread, ...Object.values(learned.series)]);
      }
    } finally {
      this.#learner.discard();
      pass.dispose();
      [...this.#encoder.parameters, ...this.#learner.parameters].forEach(dropGradient);
    }
  }

  /** A function of the seed, the step and the row alone, so that a resumed run draws it again. */
  #noise(): RowNoise {
    const random = this.#options.seedRandom.fork(`noise of step ${this.#stepIndex}`);
    return (row) => random.fork(`row ${row}`);
  }

  /**
   * Applies the optimizer's update after the only read of a step: the host reads all values at once, when the device
   * has computed everything except the update.
   */
  async #update(
    learningRate: number,
    learned: Learned,
    spread: readonly [embeddingStd: Tensor, effectiveRank: Tensor],
  ): Promise<StepMetrics> {
    const step = this.#optimizer.prepare();
    try {
      const names = Object.keys(learned.series);
      const monitored = [learned.loss, ...spread, ...Object.values(learned.series)];
      const [loss = Number.NaN, embeddingStd = Number.NaN, effectiveRank = Number.NaN, ...others] = await readAtOnce(
        monitored,
        step.halfSquaredNorms,
      );
      if (!Number.isFinite(loss)) throw new NonFiniteLossError(this.#stepIndex, loss);
      this.#applyStep(step, learningRate, Float32Array.from(others.slice(names.length)), loss);
      const series = Object.fromEntries(names.map((name, index) => [name, others[index] ?? Number.NaN]));
      return { loss, learningRate, embeddingStd, effectiveRank, series };
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
    return this.#learner.exportedEncoder?.() ?? this.#encoder.weights();
  }

  saveState(): NamedTensor[] {
    const step: NamedTensor = {
      name: STEP_EXPECTATION.name,
      dtype: 'I64',
      shape: [],
      data: BigInt64Array.of(BigInt(this.#stepIndex)),
    };
    return [...this.#encoder.weights(), ...this.#learner.state(), ...this.#optimizer.state(), step];
  }

  restoreState(tensors: readonly NamedTensor[]): void {
    const { architecture, optimizer } = this.#options;
    const description = describeEncoder(architecture);
    const { trained, kept } = this.#method;
    const { encoderTensors } = this.#setting;
    const weightNames = new Set(description.tensors.flatMap(({ name, kind }) => (kind === 'WEIGHT' ? [name] : [])));
    const trainedOfEncoder = encoderTensors.filter(({ name }) => weightNames.has(name));
    const expectations = [
      ...encoderTensors,
      ...trained,
      ...kept,
      ...optimizerExpectations(optimizer, [...trainedOfEncoder, ...trained]),
      STEP_EXPECTATION,
    ];
    const found = checkTensors(`a ${description.name} trainer`, tensors, expectations);
    const pick = (wanted: readonly TensorExpectation[]): NamedTensor[] =>
      wanted.flatMap(({ name }) => found.get(name) ?? []);
    const step = found.get(STEP_EXPECTATION.name);
    this.dispose();
    this.#encoder = this.#openEncoder(pick(encoderTensors));
    this.#learner = this.#method.open(pick([...trained, ...kept]));
    this.#optimizer = this.#newOptimizer();
    this.#optimizer.restore(found);
    this.#stepIndex = step?.dtype === 'I64' ? Number(step.data[0] ?? 0n) : 0;
  }

  dispose(): void {
    this.#encoder.dispose();
    this.#learner.dispose();
    this.#optimizer.dispose();
  }
}

/** The scalar `embeddingStd` of StepMetrics for embeddings [V * N, D]. */
function embeddingStdOf(embeddings: Tensor2D): Tensor {
  return scoped(() => {
    const units = tf.div(embeddings, tf.maximum(tf.norm(embeddings, 2, 1, true), 1e-12));
    const { variance } = tf.moments(units, 0);
    return tf.mul(tf.mean(tf.sqrt(variance)), Math.sqrt(embeddings.shape[1]));
  });
}

/** The scalar `effectiveRank` of StepMetrics for embeddings [V * N, D]. */
function effectiveRankOf(embeddings: Tensor2D): Tensor {
  return scoped(() => {
    const centred = tf.sub(embeddings, tf.mean(embeddings, 0, true));
    // The products of rows and of columns have the same trace and norm; the smaller matrix is computed.
    const [rowCount, width] = embeddings.shape;
    const side = rowCount < width ? { transposeRight: true } : { transposeLeft: true };
    const products = multiplyMatrices(centred, centred, side);
    return tf.div(tf.square(tf.sum(tf.square(centred))), tf.maximum(tf.sum(tf.square(products)), 1e-30));
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
