/** Elementwise ops and the matrix product, each one TensorFlow op. */
import { asRank2, asRank4, boolAttr, runOp, T_FLOAT } from '../tensorflow.ts';
import type { Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';

export function relu(values: Tensor): Tensor {
  return runOp('Relu', [T_FLOAT], [values]);
}

/** The gradient before a ReLU, from the gradient after it and the ReLU's output: zero where the output is. */
export function reluGradient(outputGradient: Tensor, output: Tensor): Tensor {
  return runOp('ReluGrad', [T_FLOAT], [outputGradient, output]);
}

/** The sum of two images of one shape. */
export function addImages(left: Tensor4D, right: Tensor4D): Tensor4D {
  return asRank4(runOp('AddV2', [T_FLOAT], [left, right]));
}

/** The product of two matrices, each transposed first when asked. */
export function multiplyMatrices(left: Tensor, right: Tensor, options: { transposeLeft?: boolean; transposeRight?: boolean } = {}): Tensor2D {
  const attrs = [T_FLOAT, boolAttr('transpose_a', options.transposeLeft ?? false), boolAttr('transpose_b', options.transposeRight ?? false)];
  return asRank2(runOp('MatMul', attrs, [left, right]));
}
