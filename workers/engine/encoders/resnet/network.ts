/** The encoder: a residual network from normalised images to embeddings, with a hand-written backward pass. */
import {
  disposeMaxPool,
  globalAveragePool,
  globalAveragePoolGradient,
  maxPool,
  maxPoolGradient,
} from '../../kernels/pooling.ts';
import type { MaxPoolTrace } from '../../kernels/pooling.ts';
import { MIN_IMAGE_SIDE_PX } from '../../../../src/formats/encoders/resnet/specification.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import type { Random } from '../../rng.ts';
import { asRank4, castTo, tf } from '../../tensorflow.ts';
import type { FloatDtype, Tensor, Tensor2D, Tensor4D } from '../../tensorflow.ts';
import type { TrainableEncoder } from '../encoder.ts';
import { encoderSpec } from './architecture.ts';
import type { EncoderArchitecture, EncoderSpec } from './architecture.ts';
import { ConvolutionUnit, type InferenceStatistics } from './convolution-unit.ts';
import type { Parameter } from '../../models/parameter.ts';
import { ResidualBlock } from './residual-block.ts';
import { checkEncoderWeights, randomEncoderWeights } from './weights.ts';

export { embeddingDimOf } from './architecture.ts';
export { RESNET_NAMES as ENCODER_ARCHITECTURES } from '../../../../src/formats/encoders/resnet/specification.ts';
export type { EncoderArchitecture } from './architecture.ts';

interface Trace {
  /** In the dtype of the computation. */
  readonly images: Tensor4D;
  readonly stemOutput: Tensor4D;
  readonly pool: MaxPoolTrace;
  readonly lastShape: Tensor4D['shape'];
}

export class Encoder implements TrainableEncoder {
  readonly architecture: EncoderArchitecture;
  /** D */
  readonly embeddingDim: number;
  /**
   * The dtype of convolutions, activations and their gradients; weights, their gradients, statistics and embeddings are
   * always float32.
   */
  readonly computeDtype: FloatDtype;
  readonly #spec: EncoderSpec;
  readonly #stem: ConvolutionUnit;
  readonly #blocks: readonly ResidualBlock[];
  readonly #units: readonly ConvolutionUnit[];
  #trace: Trace | undefined;

  /** Use `createEncoder` or `encoderFromWeights`. @throws WeightsMismatchError when the weights do not fit. */
  constructor(
    architecture: EncoderArchitecture,
    tensors: readonly NamedTensor[],
    computeDtype: FloatDtype = 'float32',
  ) {
    const weights = checkEncoderWeights(architecture, tensors);
    this.#spec = encoderSpec(architecture);
    this.architecture = architecture;
    this.computeDtype = computeDtype;
    this.embeddingDim = this.#spec.embeddingDim;
    this.#stem = new ConvolutionUnit(this.#spec.stem, weights);
    this.#blocks = this.#spec.blocks.map((block) => new ResidualBlock(block, weights));
    this.#units = [this.#stem, ...this.#blocks.flatMap((block) => block.units)];
  }

  /** Filters, scales and offsets in torchvision's order, without running statistics. */
  get parameters(): readonly Parameter[] {
    return this.#units.flatMap((unit) => unit.parameters);
  }

  /**
   * Inference: float32 images [N, H, W, 3], already normalised as the input contract says, to embeddings [N, D].
   *
   * @param statistics BATCH gives the same result as `forward`, bit for bit, without keeping the activations;
   * BATCH_KEPT also keeps the running statistics for `takeStatistics`.
   * @throws RangeError unless there are three channels and both sides are at least 32 px.
   */
  embed(images: Tensor4D, statistics: InferenceStatistics = 'RUNNING'): Tensor2D {
    requireImages(images);
    const inputs = asRank4(castTo(images, this.computeDtype));
    const stemOutput = this.#stem.infer(inputs, statistics);
    const pool = maxPool(stemOutput, this.#spec.pool);
    let current = pool.output;
    for (const block of this.#blocks) {
      const next = block.infer(current, statistics);
      current.dispose();
      current = next;
    }
    tf.dispose([inputs, stemOutput]);
    disposeMaxPool(pool);
    const embeddings = globalAveragePool(current);
    current.dispose();
    return embeddings;
  }

  embedInTraining(images: Tensor4D): Tensor2D {
    return this.embed(images, 'BATCH');
  }

  embedAlongside(images: Tensor4D): Tensor2D {
    return this.embed(images, 'BATCH_KEPT');
  }

  /**
   * Training: like `embed`, but normalises by the batch's own statistics and keeps the activations for `backward`. The
   * images must live until then. Only `commitStatistics` changes the running statistics.
   */
  forward(images: Tensor4D): Tensor2D {
    requireImages(images);
    this.discard();
    const inputs = asRank4(castTo(images, this.computeDtype));
    const stemOutput = this.#stem.forward(inputs);
    const pool = maxPool(stemOutput, this.#spec.pool);
    let current = pool.output;
    for (const block of this.#blocks) current = block.forward(current);
    this.#trace = { images: inputs, stemOutput, pool, lastShape: current.shape };
    return globalAveragePool(current);
  }

  /** Sets every parameter's gradient from the gradient of the embeddings [N, D] of the last `forward`. */
  backward(embeddingGradient: Tensor2D): void {
    if (this.#trace === undefined) throw new Error('Encoder: backward before forward.');
    const { images, stemOutput, pool, lastShape } = this.#trace;
    let gradient = globalAveragePoolGradient(embeddingGradient, lastShape, this.computeDtype);
    for (const block of [...this.#blocks].reverse()) {
      const next = block.backward(gradient);
      gradient.dispose();
      gradient = next;
    }
    const stemGradient = maxPoolGradient(stemOutput, pool, gradient, this.#spec.pool);
    gradient.dispose();
    disposeMaxPool(pool);
    this.#stem.backward(stemGradient, 'PARAMETERS_ONLY');
    tf.dispose([images, stemGradient]);
    this.#trace = undefined;
  }

  /**
   * The running statistics after the last `forward` and `backward`, or after the last `embedAlongside`: a mean and a
   * variance for each batch norm; the caller owns them.
   */
  takeStatistics(): Tensor[] {
    return this.#units.flatMap((unit) => unit.takeStatistics());
  }

  /** Sets the running statistics, in the order of `takeStatistics`, once their step has succeeded. */
  commitStatistics(statistics: readonly Tensor[] = this.takeStatistics()): void {
    this.#units.forEach((unit, index) => {
      const [mean, variance] = statistics.slice(2 * index, 2 * index + 2);
      if (mean === undefined || variance === undefined) throw new Error(`${unit.spec.normName} has no statistics.`);
      unit.commitStatistics(mean, variance);
    });
  }

  /** Disposes the activations of an abandoned `forward`. */
  discard(): void {
    for (const block of this.#blocks) block.discard();
    this.#stem.discard();
    if (this.#trace !== undefined) {
      disposeMaxPool(this.#trace.pool);
      this.#trace.images.dispose();
    }
    this.#trace = undefined;
  }

  /** Every tensor under torchvision's names and layouts, running statistics and batch counts included, without `fc`. */
  weights(): NamedTensor[] {
    return this.#units.flatMap((unit) => unit.weights());
  }

  dispose(): void {
    this.discard();
    for (const unit of this.#units) unit.dispose();
  }
}

function requireImages(images: Tensor4D): void {
  const [, height, width, channels] = images.shape;
  if (channels !== 3 || Math.min(height, width) < MIN_IMAGE_SIDE_PX) {
    throw new RangeError(
      `Images must be [N, H, W, 3] with sides of at least ${MIN_IMAGE_SIDE_PX} px, not [${images.shape.join(', ')}].`,
    );
  }
}

/** An encoder with new weights, a pure function of the stream's state. */
export function createEncoder(architecture: EncoderArchitecture, random: Random, computeDtype?: FloatDtype): Encoder {
  return new Encoder(architecture, randomEncoderWeights(architecture, random), computeDtype);
}

/**
 * An encoder with given weights under torchvision's names. @throws WeightsMismatchError that lists every missing,
 * unexpected and mismatched tensor.
 */
export function encoderFromWeights(
  architecture: EncoderArchitecture,
  tensors: readonly NamedTensor[],
  computeDtype?: FloatDtype,
): Encoder {
  return new Encoder(architecture, tensors, computeDtype);
}
