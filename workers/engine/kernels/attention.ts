/** Multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762) within each image, and its gradient. */
import { asRank2, asRank4, scoped, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';
import { hasOwnTransformerOps, ownAttention, ownAttentionGradient } from './own-transformer.ts';

export interface AttentionShape {
  readonly imageCount: number;
  /** T, tokens of an image */
  readonly tokenCount: number;
  readonly headCount: number;
}

export interface AttentionResult {
  /** `[N x T, W]` */
  readonly output: Tensor2D;
  readonly trace: AttentionTrace;
}

/** What the gradient needs. */
export type AttentionTrace = OwnTrace | TensorflowTrace;

interface OwnTrace {
  readonly by: 'OWN_OPS';
  readonly qkv: Tensor2D;
  /** `[N, heads, T, 2]` */
  readonly statistics: Tensor;
  readonly tokenCount: number;
  readonly headCount: number;
}

/** Here the queries are divided by the root of a head's width. */
interface TensorflowTrace {
  readonly by: 'TENSORFLOW';
  /** These three are `[N, heads, T, W / heads]`. */
  readonly query: Tensor4D;
  readonly key: Tensor4D;
  readonly value: Tensor4D;
  /** `[N, heads, T, T]` */
  readonly weights: Tensor4D;
}

/** @param qkv queries, keys and values `[N x T, 3 x W]`, heads in consecutive columns. */
export function attention(qkv: Tensor2D, shape: AttentionShape): AttentionResult {
  if (!hasOwnTransformerOps()) return attentionByTensorflow(qkv, shape);
  const [output, statistics] = ownAttention(qkv, shape);
  if (!output || !statistics) throw new Error('Attention gave too few outputs.');
  const { tokenCount, headCount } = shape;
  return { output: asRank2(output), trace: { by: 'OWN_OPS', qkv: qkv.clone(), statistics, tokenCount, headCount } };
}

/** The gradient of queries, keys and values `[N x T, 3 x W]` from that of the output `[N x T, W]`. */
export function attentionGradient(trace: AttentionTrace, outputGradient: Tensor2D): Tensor2D {
  switch (trace.by) {
    case 'OWN_OPS':
      return ownAttentionGradient(trace.qkv, trace.statistics, outputGradient, trace);
    case 'TENSORFLOW':
      return gradientByTensorflow(trace, outputGradient);
  }
}

export function disposeAttention(trace: AttentionTrace): void {
  switch (trace.by) {
    case 'OWN_OPS':
      tf.dispose([trace.qkv, trace.statistics]);
      return;
    case 'TENSORFLOW':
      tf.dispose([trace.query, trace.key, trace.value, trace.weights]);
  }
}

/** `attention` on devices without our own ops. */
export function attentionByTensorflow(
  qkv: Tensor2D,
  { imageCount, tokenCount, headCount }: AttentionShape,
): AttentionResult {
  const { output, ...trace } = scoped(() => {
    const width = qkv.shape[1] / 3;
    const headWidth = width / headCount;
    const parts = tf.transpose(tf.reshape(qkv, [imageCount, tokenCount, 3, headCount, headWidth]), [2, 0, 3, 1, 4]);
    const [unscaled, key, value] = tf.unstack(parts).map(asRank4);
    if (unscaled === undefined || key === undefined || value === undefined)
      throw new Error('unstack gave fewer than 3 parts');
    const query = asRank4(tf.mul(unscaled, 1 / Math.sqrt(headWidth)));
    const weights = asRank4(tf.softmax(tf.matMul(query, key, false, true)));
    const mixed = tf.transpose(tf.matMul(weights, value), [0, 2, 1, 3]);
    return { output: asRank2(tf.reshape(mixed, [imageCount * tokenCount, width])), query, key, value, weights };
  });
  return { output, trace: { by: 'TENSORFLOW', ...trace } };
}

function gradientByTensorflow({ query, key, value, weights }: TensorflowTrace, outputGradient: Tensor2D): Tensor2D {
  return scoped(() => {
    const [imageCount, headCount, tokenCount, headWidth] = query.shape;
    const mixed = tf.transpose(
      tf.reshape(outputGradient, [imageCount, tokenCount, headCount, headWidth]),
      [0, 2, 1, 3],
    );
    const valueGradient = tf.matMul(weights, mixed, true, false);
    const weighted: Tensor = tf.mul(weights, tf.matMul(mixed, value, false, true));
    const products = tf.sub(weighted, tf.mul(weights, tf.sum(weighted, 3, true)));
    const queryGradient = tf.mul(tf.matMul(products, key), 1 / Math.sqrt(headWidth));
    const keyGradient = tf.matMul(products, query, true, false);
    const parts = tf.transpose(tf.stack([queryGradient, keyGradient, valueGradient]), [1, 3, 0, 2, 4]);
    return asRank2(tf.reshape(parts, [imageCount * tokenCount, 3 * headCount * headWidth]));
  });
}
