/**
 * An encoder that is not trained but follows the trained one as an exponential moving average of its weights: the
 * teacher of DINO, the key encoder of MoCo. Its batch norms normalise by the batch, as the papers' code does, and its
 * running statistics are those of its own passes.
 */
import type { TensorExpectation } from '../../../src/formats/tensor-check.ts';
import type { TrainableEncoder } from '../encoders/index.ts';
import type { Parameter } from '../models/parameter.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor2D } from '../tensorflow.ts';
import { TensorSums } from '../train/tensor-sums.ts';
import type { EmbeddedBatch, MethodSetting, TakenStep } from './method.ts';

/**
 * The share of its own weights that a momentum encoder keeps in a step: from `start` to 1 along a cosine (Grill et al.
 * 2020, arXiv:2006.07733, section 3.2).
 */
export function momentumAt(start: number, { stepIndex, totalSteps }: Omit<TakenStep, 'encoder'>): number {
  return 1 - ((1 - start) * (1 + Math.cos((Math.PI * stepIndex) / totalSteps))) / 2;
}

/** ours = momentum * ours + (1 - momentum) * trained, for parameters in the same order. */
export function followParameters(ours: readonly Parameter[], trained: readonly Parameter[], momentum: number): void {
  ours.forEach((parameter, index) => {
    const { value } = parameter;
    const followed = trained[index];
    if (followed === undefined) throw new Error(`${parameter.name} follows no trained parameter.`);
    parameter.value = scoped(() => tf.add(tf.mul(value, momentum), tf.mul(followed.value, 1 - momentum)));
    value.dispose();
  });
}

/** The encoder's tensors with `prefix` before their names. */
export function momentumExpectations(prefix: string, { encoderTensors }: MethodSetting): TensorExpectation[] {
  return encoderTensors.map((expectation) => ({ ...expectation, name: `${prefix}${expectation.name}` }));
}

/** A momentum encoder begins as a copy of the trained one. */
export function momentumCopy(prefix: string, encoderWeights: readonly NamedTensor[]): NamedTensor[] {
  return encoderWeights.map((tensor) => ({ ...tensor, name: `${prefix}${tensor.name}` }));
}

export class MomentumEncoder {
  readonly #prefix: string;
  readonly #encoder: TrainableEncoder;
  readonly #statistics = new TensorSums();

  /** @param tensors of which those of `momentumExpectations` are its own. @throws WeightsMismatchError */
  constructor(prefix: string, tensors: readonly NamedTensor[], { openEncoder }: MethodSetting) {
    this.#prefix = prefix;
    this.#encoder = openEncoder(
      tensors.flatMap((tensor) =>
        tensor.name.startsWith(prefix) ? [{ ...tensor, name: tensor.name.slice(prefix.length) }] : [],
      ),
    );
  }

  /** The embeddings [V * N, D] of the first group of views, in parts where the batch is; the caller owns them. */
  embed({ views, partSize, noise }: EmbeddedBatch): Tensor2D {
    const [viewCount = 0] = views.viewCounts;
    const parts: Tensor2D[] = [];
    try {
      for (let start = 0; start < views.imageCount; start += partSize) {
        const images = views.make(start, partSize, 0);
        try {
          parts.push(this.#encoder.embedAlongside(images, noise));
        } finally {
          images.dispose();
        }
        this.#statistics.add(this.#encoder.takeStatistics());
      }
      return scoped(() =>
        asRank2(
          tf.concat(
            Array.from({ length: viewCount }, (_, view) =>
              parts.map((part) => tf.slice(part, view * partSize, partSize)),
            ).flat(),
          ),
        ),
      );
    } finally {
      tf.dispose(parts);
    }
  }

  /** After a step: follows the trained encoder, and takes over the statistics of the passes of this step. */
  commit({ encoder }: TakenStep, momentum: number): void {
    followParameters(this.#encoder.parameters, encoder.parameters, momentum);
    this.#encoder.commitStatistics(this.#statistics.takeMeans());
  }

  /** Forgets the statistics of a step that was abandoned. */
  discard(): void {
    this.#statistics.dispose();
    this.#encoder.discard();
  }

  /** Under the names of the state dict. */
  weights(): NamedTensor[] {
    return this.#encoder.weights();
  }

  /** With the prefix before their names. */
  state(): NamedTensor[] {
    return momentumCopy(this.#prefix, this.weights());
  }

  dispose(): void {
    this.discard();
    this.#encoder.dispose();
  }
}
