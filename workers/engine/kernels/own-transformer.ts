/** The layers of transformers by our own ops (native/transformer-ops.cc), float32 on a CPU. */
import { asRank2, boolAttr, floatAttr, intAttr, runOp, runOps, T_FLOAT, tf, typeOf } from '../tensorflow.ts';
import type { FloatDtype, OpAttr, Tensor, Tensor2D } from '../tensorflow.ts';
import { hasOneDnn } from './onednn.ts';
import { hasOwnOps } from './own-ops.ts';

/** True on CPUs with AVX2. Elsewhere TensorFlow's ops do the same. */
export function hasOwnTransformerOps(): boolean {
  return hasOneDnn() && hasOwnOps();
}

let multipliesBfloat16: boolean | undefined;

/** Whether the linear layer rounds its factors to this dtype: bfloat16 needs AVX512_BF16. */
export function hasOwnLinear(computeDtype: FloatDtype): boolean {
  if (!hasOwnTransformerOps()) return false;
  if (computeDtype === 'float32') return true;
  multipliesBfloat16 ??= canMultiplyOneNumber();
  return multipliesBfloat16;
}

function canMultiplyOneNumber(): boolean {
  const one = tf.ones([1, 1]);
  const none = tf.tensor1d([]);
  try {
    runOp('ParaffinLinear', [T_FLOAT, ...linearAttrs('bfloat16')], [one, one, none]).dispose();
    return true;
  } catch {
    // The op fails with "has no bfloat16 for this processor".
    return false;
  } finally {
    tf.dispose([one, none]);
  }
}

function linearAttrs(computeDtype: FloatDtype): OpAttr[] {
  return [boolAttr('in_bfloat16', computeDtype === 'bfloat16')];
}

/** Input `[R, I]` and weight `[O, I]`, of any dtype of weights, to input · weightᵀ + bias, `[R, O]`. */
export function ownLinear(input: Tensor, weight: Tensor, bias: Tensor | undefined, computeDtype: FloatDtype): Tensor2D {
  // An op's inputs are not optional: an empty vector means that nothing is added.
  const added: Tensor = bias ?? tf.tensor1d([]);
  const output = runOp('ParaffinLinear', [typeOf(weight), ...linearAttrs(computeDtype)], [input, weight, added]);
  if (bias === undefined) added.dispose();
  return asRank2(output);
}

/** Three tensors: the gradients of the input, the weight and the bias. */
export function ownLinearGradient(
  input: Tensor,
  weight: Tensor,
  outputGradient: Tensor,
  computeDtype: FloatDtype,
): Tensor[] {
  return runOps('ParaffinLinearGradient', linearAttrs(computeDtype), [input, weight, outputGradient], 3);
}

/** Three tensors: the output `[R, W]`, and the mean and the inverse standard deviation of each row, `[R, 1]`. */
export function ownLayerNorm(rows: Tensor, scale: Tensor, offset: Tensor, epsilon: number): Tensor[] {
  return runOps('ParaffinLayerNorm', [floatAttr('epsilon', epsilon)], [rows, scale, offset], 3);
}

/** Three tensors: the gradients of the rows, the scale and the offset. */
export function ownLayerNormGradient(
  rows: Tensor,
  scale: Tensor,
  mean: Tensor,
  inverseStd: Tensor,
  outputGradient: Tensor,
): Tensor[] {
  return runOps('ParaffinLayerNormGradient', [], [outputGradient, rows, scale, mean, inverseStd], 3);
}

export function ownGelu(x: Tensor2D): Tensor2D {
  return asRank2(runOp('ParaffinGelu', [], [x]));
}

export function ownGeluGradient(x: Tensor2D, outputGradient: Tensor2D): Tensor2D {
  return asRank2(runOp('ParaffinGeluGradient', [], [x, outputGradient]));
}

export interface OwnAttentionShape {
  readonly tokenCount: number;
  readonly headCount: number;
}

function attentionAttrs({ tokenCount, headCount }: OwnAttentionShape): OpAttr[] {
  return [intAttr('tokens', tokenCount), intAttr('heads', headCount)];
}

/**
 * Two tensors: the output `[N x T, W]`, and of each row of weights the maximum before and one over the sum after the
 * exponential, `[N, heads, T, 2]`, from which the gradient computes the weights again.
 */
export function ownAttention(qkv: Tensor2D, shape: OwnAttentionShape): Tensor[] {
  return runOps('ParaffinAttention', attentionAttrs(shape), [qkv], 2);
}

/** The gradient of queries, keys and values, `[N x T, 3 x W]`. */
export function ownAttentionGradient(
  qkv: Tensor2D,
  statistics: Tensor,
  outputGradient: Tensor2D,
  shape: OwnAttentionShape,
): Tensor2D {
  return asRank2(runOp('ParaffinAttentionGradient', attentionAttrs(shape), [qkv, statistics, outputGradient]));
}
