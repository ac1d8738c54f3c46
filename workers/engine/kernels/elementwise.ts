/** Elementwise ops and the matrix product, each one TensorFlow op, for float32 and bfloat16. */
import { asRank2, asRank4, boolAttr, runOp, tf, typeAttr, typeOf } from '../tensorflow.ts';
import type { Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';

export function relu(values: Tensor): Tensor {
  return runOp('Relu', [typeOf(values)], [values]);
}

/** The gradient of a ReLU's input, from the gradient and the value of its output: zero where the output is zero. */
export function reluGradient(outputGradient: Tensor, output: Tensor): Tensor {
  return runOp('ReluGrad', [typeOf(output)], [outputGradient, output]);
}

/** The sum of two images of one shape. */
export function addImages(left: Tensor4D, right: Tensor4D): Tensor4D {
  return asRank4(runOp('AddV2', [typeOf(left)], [left, right]));
}

/** The product of two matrices; each is transposed first if requested. */
export function multiplyMatrices(
  left: Tensor,
  right: Tensor,
  options: { transposeLeft?: boolean; transposeRight?: boolean } = {},
): Tensor2D {
  const attrs = [
    typeOf(left),
    boolAttr('transpose_a', options.transposeLeft ?? false),
    boolAttr('transpose_b', options.transposeRight ?? false),
  ];
  return asRank2(runOp('MatMul', attrs, [left, right]));
}

/** The same numbers in another shape, without a copy. One dimension may be -1 and is then inferred. */
export function reshape(values: Tensor, shape: readonly number[]): Tensor {
  const sides = tf.tensor1d([...shape], 'int32');
  const reshaped = runOp('Reshape', [typeOf(values), typeAttr('Tshape', 'int32')], [values, sides]);
  sides.dispose();
  return reshaped;
}
