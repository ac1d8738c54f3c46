/** Convolution, batch norm and, where the network has one, ReLU: the building block of residual networks. */
import { batchNormGradient, batchNormTraining, disposeBatchNorm } from '../../kernels/batch-norm.ts';
import type { BatchNormState, BatchNormTrace } from '../../kernels/batch-norm.ts';
import { convolutionFilterGradient, convolutionInputGradient, convolve } from '../../kernels/convolution.ts';
import { normalisedConvolution } from '../../kernels/normalised-convolution.ts';
import type { Statistics } from '../../kernels/normalised-convolution.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { castTo, floatDtypeOf, tf } from '../../tensorflow.ts';
import type { Tensor, Tensor4D } from '../../tensorflow.ts';
import type { ConvolutionUnitSpec } from './architecture.ts';
import { createParameter, disposeParameter, fromDevice, setGradient, toDevice } from '../../models/parameter.ts';
import type { Parameter } from '../../models/parameter.ts';

/** Which statistics an inference normalises by, and whether it keeps what follows from them. */
export type InferenceStatistics = Statistics | 'BATCH_KEPT';

interface Trace {
  /** The unit's input; owned by the caller. */
  readonly images: Tensor4D;
  /** The filter in the dtype of the images. */
  readonly filter: Tensor;
  readonly convolved: Tensor4D;
  readonly norm: BatchNormTrace;
}

/**
 * Owns the tensors of its forward pass until its backward pass frees them. The caller disposes the gradients that it
 * passes in.
 *
 * Computes in the dtype of the images it is given, float32 or bfloat16; parameters, their gradients and statistics are
 * float32.
 */
export class ConvolutionUnit {
  readonly spec: ConvolutionUnitSpec;
  readonly parameters: readonly Parameter[];
  readonly #filter: Parameter;
  readonly #scale: Parameter;
  readonly #offset: Parameter;
  #runningMean: Tensor;
  #runningVariance: Tensor;
  #batchCount: bigint;
  #trace: Trace | undefined;
  /** Of an `infer` that was to keep them. */
  #nextStatistics: readonly [mean: Tensor, variance: Tensor] | undefined;

  /** @param weights checked tensors under torchvision's names. */
  constructor(spec: ConvolutionUnitSpec, weights: ReadonlyMap<string, NamedTensor>) {
    const take = (name: string): NamedTensor => {
      const tensor = weights.get(name);
      if (tensor === undefined) throw new Error(`${name} is missing from weights that were checked.`);
      return tensor;
    };
    this.spec = spec;
    this.#filter = createParameter(take(`${spec.convolutionName}.weight`), 'WEIGHT', 'FILTER');
    this.#scale = createParameter(take(`${spec.normName}.weight`), 'BIAS_OR_NORM', 'AS_IS');
    this.#offset = createParameter(take(`${spec.normName}.bias`), 'BIAS_OR_NORM', 'AS_IS');
    this.parameters = [this.#filter, this.#scale, this.#offset];
    this.#runningMean = toDevice(take(`${spec.normName}.running_mean`), 'AS_IS');
    this.#runningVariance = toDevice(take(`${spec.normName}.running_var`), 'AS_IS');
    const batchCount = weights.get(`${spec.normName}.num_batches_tracked`);
    this.#batchCount = batchCount?.dtype === 'I64' ? (batchCount.data[0] ?? 0n) : 0n;
  }

  #normState(): BatchNormState {
    return {
      scale: this.#scale.value,
      offset: this.#offset.value,
      runningMean: this.#runningMean,
      runningVariance: this.#runningVariance,
    };
  }

  /**
   * Inference: [N, H, W, I] to [N, H', W', O], keeping no tensors. The caller owns the output. With a shortcut, which
   * has the output's shape, it is the ReLU of their sum, as at the end of a residual block.
   *
   * @param statistics BATCH_KEPT is BATCH, and keeps the running statistics that follow for `takeStatistics`.
   */
  infer(images: Tensor4D, statistics: InferenceStatistics, shortcut?: Tensor4D): Tensor4D {
    const filter = castTo(this.#filter.value, floatDtypeOf(images));
    const { window, activation } = this.spec;
    const output = normalisedConvolution(
      images,
      filter,
      window,
      this.#normState(),
      statistics === 'BATCH_KEPT' ? 'BATCH' : statistics,
      shortcut === undefined ? activation : 'RELU',
      shortcut,
      statistics === 'BATCH_KEPT' ? (mean, variance) => this.#keepStatistics(mean, variance) : undefined,
    );
    filter.dispose();
    return output;
  }

  #keepStatistics(mean: Tensor, variance: Tensor): void {
    if (this.#nextStatistics !== undefined) tf.dispose([...this.#nextStatistics]);
    this.#nextStatistics = [mean, variance];
  }

  /** Training: normalises by the batch's statistics. The unit owns the output and the trace for `backward`. */
  forward(images: Tensor4D): Tensor4D {
    this.discard();
    const filter = castTo(this.#filter.value, floatDtypeOf(images));
    const convolved = convolve(images, filter, this.spec.window);
    const norm = batchNormTraining(convolved, this.#normState(), this.spec.activation);
    this.#trace = { images, filter, convolved, norm };
    return norm.output;
  }

  /** Frees the output early if there is no ReLU whose gradient needs it. */
  releaseOutput(): void {
    if (this.spec.activation === 'NONE') this.#trace?.norm.output.dispose();
  }

  /**
   * Sets the gradients of the three parameters and returns that of the input, or undefined for the network's first
   * unit.
   */
  backward(outputGradient: Tensor4D, wanted: 'WITH_INPUT_GRADIENT'): Tensor4D;
  backward(outputGradient: Tensor4D, wanted: 'PARAMETERS_ONLY'): undefined;
  backward(outputGradient: Tensor4D, wanted: 'WITH_INPUT_GRADIENT' | 'PARAMETERS_ONLY'): Tensor4D | undefined {
    if (this.#trace === undefined) throw new Error(`${this.spec.convolutionName}: backward before forward.`);
    const { images, filter, convolved, norm } = this.#trace;
    const { window } = this.spec;
    const normGradients = batchNormGradient(convolved, this.#scale.value, norm, this.spec.activation, outputGradient);
    tf.dispose([norm.output, convolved]);
    setGradient(this.#scale, normGradients.scale);
    setGradient(this.#offset, normGradients.offset);
    const filterGradient = convolutionFilterGradient(images, filter.shape, normGradients.images, window);
    setGradient(this.#filter, castTo(filterGradient, 'float32'));
    const inputGradient =
      wanted === 'WITH_INPUT_GRADIENT'
        ? convolutionInputGradient(images.shape, filter, normGradients.images, window)
        : undefined;
    tf.dispose([filterGradient, filter, normGradients.images]);
    disposeBatchNorm(norm);
    return inputGradient;
  }

  /**
   * The running mean and variance after the last forward and backward pass, or after the last `infer` that kept them;
   * the caller now owns them.
   */
  takeStatistics(): readonly [mean: Tensor, variance: Tensor] {
    const kept = this.#nextStatistics;
    this.#nextStatistics = undefined;
    if (kept !== undefined) return kept;
    if (this.#trace === undefined) throw new Error(`${this.spec.normName}: no forward pass to take statistics from.`);
    const { nextRunningMean, nextRunningVariance } = this.#trace.norm;
    this.#trace = undefined;
    return [nextRunningMean, nextRunningVariance];
  }

  /** Takes ownership of new running statistics. Separate from the passes, so that a failed step changes nothing. */
  commitStatistics(mean: Tensor, variance: Tensor): void {
    this.#runningMean.dispose();
    this.#runningVariance.dispose();
    this.#runningMean = mean;
    this.#runningVariance = variance;
    this.#batchCount += 1n;
  }

  /** Frees all tensors of a forward pass, including its statistics. */
  discard(): void {
    if (this.#nextStatistics !== undefined) tf.dispose([...this.#nextStatistics]);
    this.#nextStatistics = undefined;
    if (this.#trace === undefined) return;
    const { filter, convolved, norm } = this.#trace;
    tf.dispose([filter, convolved]);
    disposeBatchNorm(norm);
    norm.nextRunningMean.dispose();
    norm.nextRunningVariance.dispose();
    this.#trace = undefined;
  }

  /** The six tensors under torchvision's names and layouts. */
  weights(): NamedTensor[] {
    const { normName } = this.spec;
    return [
      ...this.parameters.map(({ name, value, layout }) => fromDevice(name, value, layout)),
      fromDevice(`${normName}.running_mean`, this.#runningMean, 'AS_IS'),
      fromDevice(`${normName}.running_var`, this.#runningVariance, 'AS_IS'),
      { name: `${normName}.num_batches_tracked`, dtype: 'I64', shape: [], data: BigInt64Array.of(this.#batchCount) },
    ];
  }

  dispose(): void {
    this.discard();
    this.parameters.forEach(disposeParameter);
    this.#runningMean.dispose();
    this.#runningVariance.dispose();
  }
}
