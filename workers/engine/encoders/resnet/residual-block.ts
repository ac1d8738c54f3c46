/** out = ReLU(main(x) + shortcut(x)): both the basic and the bottleneck block. */
import { addImages, relu, reluGradient } from '../../kernels/elementwise.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { asRank4 } from '../../tensorflow.ts';
import type { Tensor4D } from '../../tensorflow.ts';
import type { ResidualBlockSpec } from './architecture.ts';
import { ConvolutionUnit, type InferenceStatistics } from './convolution-unit.ts';

/**
 * Owns the tensors of its forward pass until its backward pass; the caller disposes the gradients that it passes in.
 */
export class ResidualBlock {
  readonly #main: readonly ConvolutionUnit[];
  readonly #shortcut: ConvolutionUnit | undefined;
  #output: Tensor4D | undefined;

  constructor(spec: ResidualBlockSpec, weights: ReadonlyMap<string, NamedTensor>) {
    this.#main = spec.main.map((unit) => new ConvolutionUnit(unit, weights));
    this.#shortcut = spec.shortcut === undefined ? undefined : new ConvolutionUnit(spec.shortcut, weights);
  }

  /** In torchvision's order: the main path, then the shortcut. */
  get units(): readonly ConvolutionUnit[] {
    return this.#shortcut === undefined ? this.#main : [...this.#main, this.#shortcut];
  }

  /** Inference: keeps no tensors but the statistics of BATCH_KEPT; the caller owns the output. */
  infer(images: Tensor4D, statistics: InferenceStatistics): Tensor4D {
    const shortcut = this.#shortcut?.infer(images, statistics) ?? images;
    let current = images;
    for (const [index, unit] of this.#main.entries()) {
      const isLast = index === this.#main.length - 1;
      const next = unit.infer(current, statistics, isLast ? shortcut : undefined);
      if (current !== images) current.dispose();
      current = next;
    }
    if (shortcut !== images) shortcut.dispose();
    return current;
  }

  /** Training: the block owns the output. */
  forward(images: Tensor4D): Tensor4D {
    let current = images;
    for (const unit of this.#main) current = unit.forward(current);
    const shortcut = this.#shortcut?.forward(images) ?? images;
    this.#output?.dispose();
    this.#output = rectifiedSum(current, shortcut);
    for (const unit of this.units) unit.releaseOutput();
    return this.#output;
  }

  /** Sets every unit's parameter gradients; returns the gradient of the block's input, which the caller disposes. */
  backward(outputGradient: Tensor4D): Tensor4D {
    if (this.#output === undefined) throw new Error('Residual block: backward before forward.');
    const sumGradient = asRank4(reluGradient(outputGradient, this.#output));
    this.#output.dispose();
    this.#output = undefined;
    let mainGradient = sumGradient;
    for (const unit of [...this.#main].reverse()) {
      const next = unit.backward(mainGradient, 'WITH_INPUT_GRADIENT');
      if (mainGradient !== sumGradient) mainGradient.dispose();
      mainGradient = next;
    }
    const shortcutGradient = this.#shortcut?.backward(sumGradient, 'WITH_INPUT_GRADIENT') ?? sumGradient;
    const inputGradient = addImages(mainGradient, shortcutGradient);
    mainGradient.dispose();
    if (shortcutGradient !== sumGradient) shortcutGradient.dispose();
    sumGradient.dispose();
    return inputGradient;
  }

  /** Frees all tensors of a forward pass. */
  discard(): void {
    this.#output?.dispose();
    this.#output = undefined;
    for (const unit of this.units) unit.discard();
  }
}

function rectifiedSum(left: Tensor4D, right: Tensor4D): Tensor4D {
  const sum = addImages(left, right);
  const rectified = relu(sum);
  sum.dispose();
  return asRank4(rectified);
}
