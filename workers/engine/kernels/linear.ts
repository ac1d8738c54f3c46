/** A linear layer, input · weightᵀ + bias, and its gradients. */
import { asRank2, castTo, scoped, tf } from '../tensorflow.ts';
import type { FloatDtype, Tensor, Tensor2D } from '../tensorflow.ts';
import { multiplyMatrices } from './elementwise.ts';
import { hasOwnLinear, ownLinear, ownLinearGradient } from './own-transformer.ts';

export interface LinearState {
  /** `[O, I]`, as PyTorch has it; also in half precision, unless it is trained. */
  readonly weight: Tensor;
  /** `[O]` */
  readonly bias: Tensor | undefined;
  /** Of the factors of each product, whose sums are float32, as in PyTorch's autocast. */
  readonly computeDtype: FloatDtype;
}

/** The input `[R, I]` in the dtype in which both passes read it; the caller owns it. */
export function linearInput(input: Tensor, computeDtype: FloatDtype): Tensor {
  return castTo(input, hasOwnLinear(computeDtype) ? 'float32' : computeDtype);
}

/** @param input as `linearInput` gives it. */
export function linear(input: Tensor, state: LinearState): Tensor2D {
  const { weight, bias, computeDtype } = state;
  return hasOwnLinear(computeDtype) ? ownLinear(input, weight, bias, computeDtype) : linearByTensorflow(input, state);
}

/** `linear` on devices without our own ops: the input is in the dtype of the computation. */
export function linearByTensorflow(input: Tensor, { weight, bias, computeDtype }: LinearState): Tensor2D {
  return scoped(() => {
    const factor = castTo(weight, computeDtype);
    const product = castTo(multiplyMatrices(input, factor, { transposeRight: true }), 'float32');
    return asRank2(bias === undefined ? product : tf.add(product, bias));
  });
}

export interface LinearGradients {
  readonly input: Tensor2D;
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/**
 * @param input as `linearInput` gives it.
 * @param outputGradient `[R, O]`, float32
 */
export function linearGradient(
  input: Tensor,
  { weight, computeDtype }: Omit<LinearState, 'bias'>,
  outputGradient: Tensor2D,
): LinearGradients {
  if (!hasOwnLinear(computeDtype)) return linearGradientByTensorflow(input, { weight, computeDtype }, outputGradient);
  const gradients = ownLinearGradient(input, weight, outputGradient, computeDtype);
  const [inputGradient, weightGradient, biasGradient] = gradients;
  if (!inputGradient || !weightGradient || !biasGradient)
    throw new Error('The gradient of a linear layer gave too few outputs.');
  return { input: asRank2(inputGradient), weight: weightGradient, bias: biasGradient };
}

/** `linearGradient` on devices without our own ops: the input is in the dtype of the computation. */
export function linearGradientByTensorflow(
  input: Tensor,
  { weight, computeDtype }: Omit<LinearState, 'bias'>,
  outputGradient: Tensor2D,
): LinearGradients {
  return scoped(() => {
    const gradient = castTo(outputGradient, computeDtype);
    const factor = castTo(weight, computeDtype);
    return {
      input: asRank2(castTo(multiplyMatrices(gradient, factor), 'float32')),
      weight: castTo(multiplyMatrices(gradient, input, { transposeLeft: true }), 'float32'),
      bias: tf.sum(outputGradient, 0),
    };
  });
}
