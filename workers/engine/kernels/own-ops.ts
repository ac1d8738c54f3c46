/**
 * Our own ops in C++ (native): they are compiled into the library that `npm run engine` links, and are
 * there on processors with AVX2.
 */
import { intAttr, runOp, tf } from '../tensorflow.ts';
import { canComputeIn } from './compute-dtype.ts';
import { hasOneDnn } from './onednn.ts';

let available: boolean | undefined;

/** True where the ops can be run; tried once with one pixel. */
export function hasOwnOps(): boolean {
  available ??= canConvolveOnePixel();
  return available;
}

function canConvolveOnePixel(): boolean {
  const image = tf.zeros([1, 1, 1, 16]);
  const filter = tf.zeros([1, 1, 16, 16]);
  try {
    runOp('ParaffinConvolution', [intAttr('stride', 1), intAttr('padding', 0)], [image, filter]).dispose();
    return true;
  } catch {
    // TensorFlow says "Op type not registered": that is the answer that was asked for.
    return false;
  } finally {
    tf.dispose([image, filter]);
  }
}

/**
 * Without AVX-512 our own ops are faster than oneDNN 3.7, which has weak kernels for a convolution's gradients there:
 * by images it did 3 to 103 of the 140 GFLOP/s that the convolution did beside it on two AVX2 cores, by the filter 47
 * to 95. With AVX-512 the two were not compared.
 *
 * oneDNN has kernels in bfloat16 where AVX-512 is, which is how it is detected. A rule and not a trial: the same device
 * must come to the same digits every time.
 */
export function areOwnOpsFaster(): boolean {
  return hasOneDnn() && !canComputeIn('bfloat16') && hasOwnOps();
}

/**
 * Convolutions whose gradient is not asked for, on any processor: 3x3 at stride 1 by Winograd's tiles took 0.45 to 0.65
 * of the time of oneDNN's direct convolution on two AVX-512 cores (64 images of 64 px in a ResNet-18: 6.4 for 9.8, 5.7
 * for 9.8, 9.1 for 10.2 and 8.6 for 16.6 ms in its four stages), all others the same time; and batch norm, the sum with
 * the shortcut and the ReLU cost no pass of their own.
 */
export function areOwnOpsFasterAtInference(): boolean {
  return hasOneDnn() && hasOwnOps();
}
