/** A convolution and the batch norm after it, for passes without a gradient. */
import { asRank4, tf } from '../tensorflow.ts';
import type { Tensor, Tensor4D } from '../tensorflow.ts';
import { batchNormInference, batchNormTraining } from './batch-norm.ts';
import type { Activation, BatchNormState } from './batch-norm.ts';
import { convolve } from './convolution.ts';
import { addImages, relu } from './elementwise.ts';
import { hasOwnConvolution, ownNormalisedConvolution } from './own-convolution.ts';
import { areOwnOpsFasterAtInference } from './own-ops.ts';
import type { Window } from './padding.ts';

/** Which mean and variance are used to normalise: the running ones, or those of the batch itself. */
export type Statistics = 'RUNNING' | 'BATCH';

/** Receives the running statistics after a batch, and owns them. */
export type KeepStatistics = (runningMean: Tensor, runningVariance: Tensor) => void;

/**
 * [N, H, W, I] with filter [k, k, I, O] to [N, H', W', O], normalised, plus `addend` of the output's shape, with the
 * given activation. Keeps no tensors but, for `keep`, the statistics after this batch.
 *
 * With the batch's statistics it must equal the forward pass of a training bit for bit, so that a resumed training
 * reaches identical weights. An embedding has no such constraint and uses the fastest kernel.
 */
export function normalisedConvolution(
  images: Tensor4D,
  filter: Tensor,
  window: Window,
  state: BatchNormState,
  statistics: Statistics,
  activation: Activation,
  addend?: Tensor4D,
  keep?: KeepStatistics,
): Tensor4D {
  if (statistics === 'RUNNING' && areOwnOpsFasterAtInference() && hasOwnConvolution(images, filter.shape))
    return ownNormalisedConvolution(images, filter, window, state, activation, addend);
  const convolved = convolve(images, filter, window);
  const normalised = normalise(convolved, state, statistics, addend === undefined ? activation : 'NONE', keep);
  convolved.dispose();
  return addend === undefined ? normalised : finishSum(normalised, addend, activation);
}

function normalise(
  images: Tensor4D,
  state: BatchNormState,
  statistics: Statistics,
  activation: Activation,
  keep: KeepStatistics | undefined,
): Tensor4D {
  if (statistics === 'RUNNING') return batchNormInference(images, state, activation);
  const { output, nextRunningMean, nextRunningVariance, ...others } = batchNormTraining(images, state, activation);
  tf.dispose(Object.values(others).filter((tensor) => tensor !== undefined));
  if (keep === undefined) tf.dispose([nextRunningMean, nextRunningVariance]);
  else keep(nextRunningMean, nextRunningVariance);
  return output;
}

/** Takes ownership of `normalised`. */
function finishSum(normalised: Tensor4D, addend: Tensor4D, activation: Activation): Tensor4D {
  const sum = addImages(normalised, addend);
  normalised.dispose();
  if (activation === 'NONE') return sum;
  const rectified = relu(sum);
  sum.dispose();
  return asRank4(rectified);
}
