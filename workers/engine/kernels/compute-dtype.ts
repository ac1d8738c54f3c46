/** The data types in which this device can compute. */
import { asRank4, castTo, scoped, tf } from '../tensorflow.ts';
import type { FloatDtype } from '../tensorflow.ts';
import { fusedBatchNorm } from './fused-batch-norm.ts';

/** This device has no kernels for the precision that was asked for. */
export class UnsupportedPrecisionError extends Error {
  constructor(dtype: FloatDtype) {
    super(`This worker's device cannot compute in ${dtype}.`);
    this.name = 'UnsupportedPrecisionError';
  }
}

let computesInBfloat16: boolean | undefined;

/**
 * True if this device can train in the dtype. oneDNN has no bfloat16 on processors without AVX-512; batch norm, tried
 * once on a 2x2 image, is the first of its ops to fail there.
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
    tf.dispose(
      fusedBatchNorm(
        asRank4(image),
        { scale: statistics, offset: statistics, runningMean: statistics, runningVariance: statistics },
        'RELU',
        true,
      ),
    );
    return true;
  } catch {
    // TensorFlow fails with "could not create a primitive": the dtype is not supported.
    return false;
  } finally {
    tf.dispose([statistics, image]);
  }
}
