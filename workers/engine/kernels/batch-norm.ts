/** Batch normalisation over N, H, W of NHWC images (Ioffe and Szegedy 2015, arXiv:1502.03167), as PyTorch's BatchNorm2d. Images may be bfloat16; scale, offset and statistics are float32. */
import { asRank4, boolAttr, castTo, floatAttr, intAttr, runOps, scoped, stringAttr, tf, typeAttr, typeOf } from '../tensorflow.ts';
import type { FloatDtype, OpAttr, Tensor, Tensor4D } from '../tensorflow.ts';
import { relu } from './elementwise.ts';
import { hasOneDnn, ONEDNN_KERNEL } from './onednn.ts';

const EPSILON = 1e-5;
/** The share of the batch's statistics in the running ones, after each step. */
const MOMENTUM = 0.1;

/** Scale (gamma), offset (beta) and running statistics, each [C]. */
export interface BatchNormState {
  readonly scale: Tensor;
  readonly offset: Tensor;
  readonly runningMean: Tensor;
  readonly runningVariance: Tensor;
}

export interface BatchNormTrace {
  readonly output: Tensor4D;
  readonly batchMean: Tensor;
  readonly batchVariance: Tensor;
  readonly reserve: Tensor;
  /** The running statistics after this batch; the variance is the unbiased one. */
  readonly nextRunningMean: Tensor;
  readonly nextRunningVariance: Tensor;
}

function batchNormAttrs(images: Tensor4D, isTraining: boolean): OpAttr[] {
  return [typeOf(images), typeAttr('U', 'float32'), floatAttr('epsilon', EPSILON), stringAttr('data_format', 'NHWC'), boolAttr('is_training', isTraining)];
}

function runBatchNorm(images: Tensor4D, state: BatchNormState, activation: 'NONE' | 'RELU', isTraining: boolean): Tensor[] {
  const attrs = [...batchNormAttrs(images, isTraining), floatAttr('exponential_avg_factor', isTraining ? MOMENTUM : 1)];
  const inputs = [images, state.scale, state.offset, state.runningMean, state.runningVariance];
  if (activation === 'RELU' && hasOneDnn()) {
    const fused = [...attrs, intAttr('num_side_inputs', 0), stringAttr('activation_mode', 'Relu'), ONEDNN_KERNEL];
    return runOps('_MklNativeFusedBatchNormEx', fused, inputs, 6);
  }
  const outputs = runOps('FusedBatchNormV3', attrs, inputs, 6);
  const [normalised, ...others] = outputs;
  if (activation === 'NONE' || normalised === undefined) return outputs;
  const rectified = relu(normalised);
  normalised.dispose();
  return [rectified, ...others];
}

/** Normalises by the batch's own statistics, then rectifies when asked: images [N, H, W, C] to the same shape. The state is left as it was. */
export function batchNormTraining(images: Tensor4D, state: BatchNormState, activation: 'NONE' | 'RELU'): BatchNormTrace {
  const [output, nextRunningMean, nextRunningVariance, batchMean, batchVariance, reserve] = runBatchNorm(images, state, activation, true);
  if (!output || !nextRunningMean || !nextRunningVariance || !batchMean || !batchVariance || !reserve) throw new Error('Batch norm gave too few outputs.');
  return { output: asRank4(output), nextRunningMean, nextRunningVariance, batchMean, batchVariance, reserve };
}

/** Which mean and variance normalise: the running ones, or those of the batch itself. */
export type Statistics = 'RUNNING' | 'BATCH';

/** Normalises without keeping anything for a gradient, then rectifies when asked. */
export function batchNormInference(images: Tensor4D, state: BatchNormState, activation: 'NONE' | 'RELU', statistics: Statistics): Tensor4D {
  const [output, ...others] = runBatchNorm(images, state, activation, statistics === 'BATCH');
  if (!output) throw new Error('Batch norm gave no output.');
  tf.dispose(others);
  return asRank4(output);
}

export interface BatchNormGradients {
  readonly images: Tensor4D;
  readonly scale: Tensor;
  readonly offset: Tensor;
}

/** The gradients of training-mode batch norm; `outputGradient` is that of the normalised images, before any ReLU. */
export function batchNormGradient(images: Tensor4D, scale: Tensor, trace: BatchNormTrace, outputGradient: Tensor4D): BatchNormGradients {
  const inputs = [outputGradient, images, scale, trace.batchMean, trace.batchVariance, trace.reserve];
  const [imagesGradient, scaleGradient, offsetGradient, ...others] = runOps('FusedBatchNormGradV3', batchNormAttrs(images, true), inputs, 5);
  if (!imagesGradient || !scaleGradient || !offsetGradient) throw new Error('The gradient of batch norm gave too few outputs.');
  tf.dispose(others);
  return { images: asRank4(imagesGradient), scale: scaleGradient, offset: offsetGradient };
}

/** Frees what was kept for the gradient; the next running statistics belong to whoever takes them. */
export function disposeBatchNorm(trace: BatchNormTrace): void {
  tf.dispose([trace.output, trace.batchMean, trace.batchVariance, trace.reserve]);
}

let computesInBfloat16: boolean | undefined;

/**
 * True where this device can train in the dtype. oneDNN has no bfloat16 on processors without AVX-512, and batch norm, tried once with a 2x2 image, is the
 * first of its ops to say so.
 */
export function canComputeIn(dtype: FloatDtype): boolean {
  if (dtype === 'float32') return true;
  computesInBfloat16 ??= canNormaliseBfloat16();
  return computesInBfloat16;
}

function canNormaliseBfloat16(): boolean {
  const statistics = tf.ones([2]);
  const image = scoped(() => castTo(tf.zeros([1, 2, 2, 2]), 'bfloat16'));
  try {
    tf.dispose(runBatchNorm(asRank4(image), { scale: statistics, offset: statistics, runningMean: statistics, runningVariance: statistics }, 'RELU', true));
    return true;
  } catch {
    // TensorFlow says "could not create a primitive": that is the answer that was asked for.
    return false;
  } finally {
    tf.dispose([statistics, image]);
  }
}
