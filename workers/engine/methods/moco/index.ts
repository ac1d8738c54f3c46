/**
 * MoCo: contrastive learning against the keys of a momentum encoder. V2 (He et al. 2020, arXiv:1911.05722; Chen et al.
 * 2020, arXiv:2003.04297) takes its negatives from a queue of earlier keys, so that a small batch has many; V3 (Chen,
 * Xie and He 2021, arXiv:2104.02057) takes them from the batch, and has a prediction head. The trained encoder is the
 * one that is exported, as in the papers.
 */
import { asymmetricPairOf, pairOf } from '../../augment/config.ts';
import { mlpExpectations, randomMlp, type MlpShape } from '../../models/mlp.ts';
import { fromDevice, toDevice, type Parameter } from '../../models/parameter.ts';
import { ProjectionHead, projectionHeadExpectations, randomProjectionHead } from '../../models/projection-head.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { normals } from '../../normals.ts';
import type { Random } from '../../rng.ts';
import { asRank2, scoped, tf } from '../../tensorflow.ts';
import type { Tensor2D } from '../../tensorflow.ts';
import type { Head } from '../head-learner.ts';
import { requireViews } from '../method.ts';
import type {
  EmbeddedBatch,
  Learned,
  Learner,
  Method,
  MethodSetting,
  PretrainingMethod,
  TakenStep,
} from '../method.ts';
import {
  followParameters,
  momentumAt,
  momentumCopy,
  MomentumEncoder,
  momentumExpectations,
} from '../momentum-encoder.ts';
import { HeadChain, NormalisedMlp } from './heads.ts';
import { batchContrast, queueContrast, type ContrastLoss } from './loss.ts';

/** The papers' values are in brackets. */
export interface MocoV2Config {
  readonly name: 'MOCO';
  readonly version: 'V2';
  /** P, the length of a projection [128]. */
  readonly projectionDim: number;
  /** [0.2] */
  readonly contrastTemperature: number;
  /** The share of its weights that the momentum encoder keeps in every step [0.999]. */
  readonly keyMomentum: number;
  /** Q, the number of keys that the queue holds [65536]. */
  readonly queueSize: number;
}

/** The paper's values for vision transformers are in brackets. */
export interface MocoV3Config {
  readonly name: 'MOCO';
  readonly version: 'V3';
  /** P, the length of a projection [256]. */
  readonly projectionDim: number;
  /** [0.2] */
  readonly contrastTemperature: number;
  /** The share of its weights that the momentum encoder keeps at first; it rises to 1 along a cosine [0.99]. */
  readonly keyMomentum: number;
  /** Length of the hidden layers of both heads [4096]. */
  readonly hiddenDim: number;
}

export type MocoConfig = MocoV2Config | MocoV3Config;

export const MOCO: PretrainingMethod<MocoConfig> = { name: 'MOCO', prepare };

const KEY_ENCODER = 'momentum.encoder.';
const KEYS = 'momentum.';
const QUEUE = 'queue';

/** @throws RangeError for a value out of range. */
function prepare(config: MocoConfig, setting: MethodSetting): Method {
  const { version, projectionDim, contrastTemperature, keyMomentum } = config;
  const sizes = version === 'V2' ? { queueSize: config.queueSize } : { hiddenDim: config.hiddenDim };
  for (const [name, value] of Object.entries({ projectionDim, ...sizes }))
    if (!Number.isSafeInteger(value) || value < 1)
      throw new RangeError(`${name} must be a whole number of at least 1, not ${value}.`);
  if (!(contrastTemperature > 0 && Number.isFinite(contrastTemperature)))
    throw new RangeError(`contrastTemperature must be positive, not ${contrastTemperature}.`);
  if (!(keyMomentum >= 0 && keyMomentum <= 1))
    throw new RangeError(`keyMomentum must be in [0, 1], not ${keyMomentum}.`);
  return version === 'V2' ? withQueue(config, setting) : withoutQueue(config, setting);
}

function withQueue(
  { projectionDim, contrastTemperature, keyMomentum, queueSize }: MocoV2Config,
  setting: MethodSetting,
): Method {
  const { embeddingDim } = setting;
  const head = projectionHeadExpectations(embeddingDim, projectionDim);
  const queue = { name: QUEUE, dtype: 'F32', shape: [queueSize, projectionDim], required: true } as const;
  const opened = (tensors: readonly NamedTensor[]): Head =>
    new ProjectionHead(embeddingDim, projectionDim, within('fc.', tensors));
  return {
    views: pairOf,
    trained: head,
    kept: [...momentumExpectations(KEY_ENCODER, setting), ...head.map(asKey), queue],
    initialState: (random, encoderWeights) => {
      const tensors = randomProjectionHead(embeddingDim, projectionDim, random.fork('projection head'));
      return [
        ...tensors,
        ...momentumCopy(KEY_ENCODER, encoderWeights),
        ...tensors.map(asKey),
        { ...queue, data: randomUnitRows(queueSize, projectionDim, random.fork(QUEUE)) },
      ];
    },
    open: (tensors) => {
      const values = tensors.find(({ name }) => name === QUEUE);
      if (values === undefined) throw new Error('The queue is missing from tensors that were checked.');
      return new MocoLearner({
        head: opened(tensors),
        keyHead: opened(keyTensors(tensors)),
        keyEncoder: new MomentumEncoder(KEY_ENCODER, tensors, setting),
        queue: asRank2(toDevice(values, 'AS_IS')),
        lossOf: (projections, keys, queued) => {
          if (queued === undefined) throw new Error('MoCo v2 has no queue.');
          return queueContrast(projections, keys, queued, contrastTemperature);
        },
        momentumOf: () => keyMomentum,
      });
    },
  };
}

function withoutQueue(
  { projectionDim, contrastTemperature, keyMomentum, hiddenDim }: MocoV3Config,
  setting: MethodSetting,
): Method {
  const projector: MlpShape = {
    prefix: 'projector',
    dims: [setting.embeddingDim, hiddenDim, hiddenDim, projectionDim],
  };
  const predictor: MlpShape = { prefix: 'predictor', dims: [projectionDim, hiddenDim, projectionDim] };
  const opened = (shape: MlpShape, tensors: readonly NamedTensor[]): Head =>
    new NormalisedMlp(shape, within(`${shape.prefix}.`, tensors));
  return {
    views: asymmetricPairOf,
    trained: [...mlpExpectations(projector), ...mlpExpectations(predictor)],
    kept: [...momentumExpectations(KEY_ENCODER, setting), ...mlpExpectations(projector).map(asKey)],
    initialState: (random, encoderWeights) => {
      const tensors = randomMlp(projector, random.fork('projector'));
      return [
        ...tensors,
        ...randomMlp(predictor, random.fork('predictor')),
        ...momentumCopy(KEY_ENCODER, encoderWeights),
        ...tensors.map(asKey),
      ];
    },
    open: (tensors) =>
      new MocoLearner({
        head: new HeadChain(opened(projector, tensors), opened(predictor, tensors)),
        keyHead: opened(projector, keyTensors(tensors)),
        keyEncoder: new MomentumEncoder(KEY_ENCODER, tensors, setting),
        queue: undefined,
        lossOf: (projections, keys) => batchContrast(projections, keys, contrastTemperature),
        momentumOf: (step) => momentumAt(keyMomentum, step),
      }),
  };
}

function within(prefix: string, tensors: readonly NamedTensor[]): NamedTensor[] {
  return tensors.filter(({ name }) => name.startsWith(prefix));
}

/** The key network's tensor beside one of the trained head. */
function asKey<Named extends { readonly name: string }>(tensor: Named): Named {
  return { ...tensor, name: `${KEYS}${tensor.name}` };
}

/** The tensors of the key network's head, under the names of the trained one. */
function keyTensors(tensors: readonly NamedTensor[]): NamedTensor[] {
  return within(KEYS, tensors).map((tensor) => ({ ...tensor, name: tensor.name.slice(KEYS.length) }));
}

function randomUnitRows(count: number, width: number, random: Random): Float32Array {
  const values = normals(count * width, 1, random);
  for (let row = 0; row < count; row += 1) {
    const unit = values.subarray(row * width, (row + 1) * width);
    const length = Math.hypot(...unit);
    unit.forEach((value, index) => (unit[index] = value / length));
  }
  return values;
}

interface MocoParts {
  readonly head: Head;
  /** Follows the first parameters of `head`. */
  readonly keyHead: Head;
  readonly keyEncoder: MomentumEncoder;
  /** [Q, P] of unit length, the newest keys first. */
  readonly queue: Tensor2D | undefined;
  readonly lossOf: (projections: Tensor2D, keys: Tensor2D, queue: Tensor2D | undefined) => ContrastLoss;
  readonly momentumOf: (step: TakenStep) => number;
}

class MocoLearner implements Learner {
  readonly #parts: MocoParts;
  #queue: Tensor2D | undefined;
  /** [2N, P], of the step that is not committed yet. */
  #keys: Tensor2D | undefined;

  constructor(parts: MocoParts) {
    this.#parts = parts;
    this.#queue = parts.queue;
  }

  get parameters(): readonly Parameter[] {
    return this.#parts.head.parameters;
  }

  learn(batch: EmbeddedBatch): Learned {
    requireViews('MoCo', batch, [2]);
    if (batch.views.imageCount < 2) throw new RangeError('MoCo takes at least 2 images, which it contrasts.');
    const { head, lossOf } = this.#parts;
    const keys = this.#keysOf(batch);
    this.#keys = keys;
    const projections = head.forward(batch.embeddings);
    try {
      const { loss, gradient, positiveSimilarity } = lossOf(projections, keys, this.#queue);
      const embeddingGradient = head.backward(gradient);
      gradient.dispose();
      return { loss, embeddingGradient, series: { positiveSimilarity } };
    } finally {
      projections.dispose();
    }
  }

  #keysOf(batch: EmbeddedBatch): Tensor2D {
    const { keyEncoder, keyHead } = this.#parts;
    const embeddings = keyEncoder.embed(batch);
    const projections = keyHead.forward(embeddings);
    const keys = asRank2(scoped(() => tf.div(projections, tf.maximum(tf.norm(projections, 2, 1, true), 1e-12))));
    keyHead.discard();
    tf.dispose([embeddings, projections]);
    return keys;
  }

  commit(step: TakenStep): void {
    const { head, keyHead, keyEncoder, momentumOf } = this.#parts;
    const momentum = momentumOf(step);
    keyEncoder.commit(step, momentum);
    followParameters(keyHead.parameters, head.parameters, momentum);
    const [queue, keys] = [this.#queue, this.#keys];
    if (queue === undefined || keys === undefined) return;
    this.#queue = asRank2(scoped(() => tf.slice(tf.concat([keys, queue]), 0, queue.shape[0])));
    queue.dispose();
  }

  discard(): void {
    const { head, keyHead, keyEncoder } = this.#parts;
    for (const part of [head, keyHead, keyEncoder]) part.discard();
    this.#keys?.dispose();
    this.#keys = undefined;
  }

  state(): NamedTensor[] {
    const { head, keyHead, keyEncoder } = this.#parts;
    return [
      ...head.weights(),
      ...keyEncoder.state(),
      ...keyHead.weights().map(asKey),
      ...(this.#queue === undefined ? [] : [fromDevice(QUEUE, this.#queue, 'AS_IS')]),
    ];
  }

  dispose(): void {
    this.discard();
    const { head, keyHead, keyEncoder } = this.#parts;
    for (const part of [head, keyHead, keyEncoder]) part.dispose();
    this.#queue?.dispose();
  }
}
