/**
 * SimCLR (Chen et al. 2020, arXiv:2002.05709): a trainer that is given views and takes one step at a time. Making the
 * views is the caller's.
 *
 * With `microBatchSize` a step goes through the encoder in parts (gradient caching, Gao et al. 2021, arXiv:2101.06983):
 * first the embeddings of all parts, keeping nothing else; then NT-Xent and its gradient over the whole batch; then
 * each part once more, with its share of that gradient. Loss and gradients are those of the whole batch up to rounding,
 * but for batch norm: each part is normalised by its own statistics. The running statistics move once a step, to the
 * mean of where each part alone would have moved them.
 */
import { checkTensors, type TensorExpectation } from '../../../src/formats/tensor-check.ts';
import { canComputeIn } from '../kernels/compute-dtype.ts';
import { ntXent } from '../losses/nt-xent.ts';
import type { NtXent } from '../losses/nt-xent.ts';
import { embeddingDimOf } from '../models/architecture.ts';
import type { EncoderArchitecture } from '../models/architecture.ts';
import { dropGradient } from '../models/parameter.ts';
import { ProjectionHead, projectionHeadExpectations, randomProjectionHead } from '../models/projection-head.ts';
import { createEncoder, encoderFromWeights } from '../models/resnet.ts';
import type { Encoder } from '../models/resnet.ts';
import { encoderExpectations, trainedExpectations } from '../models/weights.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { createOptimizer, NonFiniteGradientError, optimizerExpectations } from '../optim/index.ts';
import type { Optimizer, OptimizerConfig, OptimizerStep } from '../optim/index.ts';
import { checkSchedule, learningRateAt } from '../optim/schedule.ts';
import type { Schedule } from '../optim/schedule.ts';
import type { Random } from '../rng.ts';
import { scoped, tf } from '../tensorflow.ts';
import type { FloatDtype, Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';
import { BatchInParts, WholeBatch } from './encoder-pass.ts';
import type { EncoderPass } from './encoder-pass.ts';
import { viewsFrom } from './step-views.ts';
import type { StepViews } from './step-views.ts';

/** What a run trains with. Defaults belong to the caller; paper.md's are in brackets. */
export interface SimclrTrainerOptions extends Schedule {
  readonly architecture: EncoderArchitecture;
  /** P, the length of a projection [128]. */
  readonly projectionDim: number;
  /** Of NT-Xent [0.5]. */
  readonly temperature: number;
  /** [LARS, momentum 0.9, weight decay 1e-6] */
  readonly optimizer: OptimizerConfig;
  /** Draws new weights; nothing is drawn after the trainer is made. */
  readonly seedRandom: Random;
  /**
   * In what the encoder computes [float32]. With bfloat16 convolutions, activations and their gradients take half the
   * memory; weights, batch norm's statistics, embeddings, head, loss and optimiser are always float32.
   */
  readonly computeDtype?: FloatDtype;
  /**
   * Images that go through the encoder at once; it must divide every step's images. Left out: all of them. A step in
   * parts takes the memory of a part and about a third more time, for the second forward pass.
   */
  readonly microBatchSize?: number;
  /** An encoder to start from, under torchvision's names; the projection head is always new. */
  readonly initialWeights?: readonly NamedTensor[];
}

export interface StepMetrics {
  /** NT-Xent, mean over 2N. */
  readonly loss: number;
  /** The one that this step was taken with. */
  readonly learningRate: number;
  /** Mean cosine similarity of the two views' projections, in -1..1. */
  readonly positiveSimilarity: number;
  /**
   * Mean over dimensions of the standard deviation of the unit-length embeddings, times sqrt(D): 0 is collapse, 1 the
   * sphere evenly used.
   */
  readonly embeddingStd: number;
}

/**
 * The loss of a step, or a gradient of it, is not a finite number: nothing can be learned from it. Nothing of the
 * trainer has changed.
 */
export class NonFiniteLossError extends Error {
  readonly stepIndex: number;
  readonly loss: number;

  /** @param cause the gradient at fault, where the loss itself is still finite. */
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

/** This device has no kernels for the precision that was asked for. */
export class UnsupportedPrecisionError extends Error {
  constructor(dtype: FloatDtype) {
    super(`This worker's device cannot compute in ${dtype}.`);
    this.name = 'UnsupportedPrecisionError';
  }
}

export interface SimclrTrainer {
  /** Steps taken so far. */
  readonly stepIndex: number;
  /**
   * One step of both views through encoder and head, loss, gradients and optimizer.
   *
   * @param views [2N, H, W, 3] float32, normalised; rows 0..N-1 the first views, rows N..2N-1 the second ones of the
   * same images. The caller disposes them. Or a maker of such views, whose views the trainer disposes.
   * @throws NonFiniteLossError before anything changes; RangeError for fewer than 2 images, an odd number of views, a
   * number of images that microBatchSize does not divide, or a step after the last.
   */
  step(views: Tensor4D | StepViews): Promise<StepMetrics>;
  /**
   * From the next step on the training has this many steps in all: the rest of its schedule goes through them.
   * @throws RangeError during the warm-up, or for fewer steps than were taken.
   */
  replan(totalSteps: number): void;
  /** The encoder alone, under torchvision's names and layouts. */
  encoderWeights(): NamedTensor[];
  /**
   * All that `restoreState` needs to continue as if never interrupted: encoder, head (`fc.1`, `fc.3`), what
   * the optimizer remembers (`optimizer.*`), step (`step`).
   */
  saveState(): NamedTensor[];
  /**
   * @throws WeightsMismatchError when the tensors are not those of `saveState` of a trainer of the same shapes; nothing
   * has changed then.
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
  // Made for nothing but its own check, before anything large is.
  createOptimizer([], options.optimizer).dispose();
}

const STEP_EXPECTATION: TensorExpectation = { name: 'step', dtype: 'I64', shape: [], required: true };

class Trainer implements SimclrTrainer {
  readonly #options: SimclrTrainerOptions;
  #schedule: Schedule;
  #encoder: Encoder;
  #head: ProjectionHead;
  #optimizer: Optimizer;
  #stepIndex = 0;

  constructor(options: SimclrTrainerOptions) {
    const { architecture, projectionDim, seedRandom, initialWeights, computeDtype } = options;
    this.#options = options;
    this.#schedule = options;
    this.#encoder =
      initialWeights === undefined
        ? createEncoder(architecture, seedRandom.fork('encoder'), computeDtype)
        : encoderFromWeights(architecture, initialWeights, computeDtype);
    const { embeddingDim } = this.#encoder;
    this.#head = new ProjectionHead(
      embeddingDim,
      projectionDim,
      randomProjectionHead(embeddingDim, projectionDim, seedRandom.fork('projection head')),
    );
    this.#optimizer = this.#newOptimizer();
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
        ? new WholeBatch(this.#encoder, source)
        : new BatchInParts(this.#encoder, source, microBatchSize);
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
   * The optimizer's update, with the one read of a step: all that the host has to know comes together, when the device
   * has done everything but the update.
   */
  async #update(
    learningRate: number,
    monitored: readonly [loss: Tensor, positiveSimilarity: Tensor, embeddingStd: Tensor],
  ): Promise<StepMetrics> {
    const step = this.#optimizer.prepare();
    try {
      const [loss = Number.NaN, positiveSimilarity = Number.NaN, embeddingStd = Number.NaN, ...norms] =
        await readTogether(monitored, step.halfSquaredNorms);
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
    const { architecture, projectionDim, computeDtype, optimizer } = this.#options;
    const headExpectations = projectionHeadExpectations(embeddingDimOf(architecture), projectionDim);
    const expectations = [
      ...encoderExpectations(architecture),
      ...headExpectations,
      ...optimizerExpectations(optimizer, [...trainedExpectations(architecture), ...headExpectations]),
      STEP_EXPECTATION,
    ];
    const found = checkTensors(`a ${architecture} trainer`, tensors, expectations);
    const pick = (wanted: readonly TensorExpectation[]): NamedTensor[] =>
      wanted.flatMap(({ name }) => found.get(name) ?? []);
    const step = found.get(STEP_EXPECTATION.name);
    this.dispose();
    this.#encoder = encoderFromWeights(architecture, pick(encoderExpectations(architecture)), computeDtype);
    this.#head = new ProjectionHead(embeddingDimOf(architecture), projectionDim, pick(headExpectations));
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

/** Scalar: `embeddingStd` of StepMetrics, for embeddings [2N, D]. */
function embeddingStdOf(embeddings: Tensor2D): Tensor {
  return scoped(() => {
    const units = tf.div(embeddings, tf.maximum(tf.norm(embeddings, 2, 1, true), 1e-12));
    const { variance } = tf.moments(units, 0);
    return tf.mul(tf.mean(tf.sqrt(variance)), Math.sqrt(embeddings.shape[1]));
  });
}

/** Scalars and then a vector, by one read: one wait for the device instead of one each. */
async function readTogether(scalars: readonly Tensor[], vector: Tensor): Promise<Float32Array> {
  const joined = scoped(() => tf.concat([tf.stack([...scalars]), vector]));
  const values = await joined.data();
  joined.dispose();
  if (!(values instanceof Float32Array)) throw new TypeError(`Expected float32, got ${joined.dtype}.`);
  return values;
}
