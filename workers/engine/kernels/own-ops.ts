/**
 * Our own ops in C++ (native): they are compiled into the library that `npm run engine` links, and are
 * available on processors with AVX2.
 */
import { intAttr, runOp, tf } from '../tensorflow.ts';
import { canComputeIn } from './compute-dtype.ts';
import { hasOneDnn } from './onednn.ts';

let available: boolean | undefined;

/** True if the ops can be run; tested once with one pixel. */
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
    // TensorFlow fails with "Op type not registered": the ops are not available.
    return false;
  } finally {
    tf.dispose([image, filter]);
  }
}

/**
 * Without AVX-512 our own ops are faster than oneDNN 3.7, whose kernels for a convolution's gradients are slow there:
 * on two AVX2 cores the gradient with respect to the images reached 3 to 103 GFLOP/s and that of the filter 47 to 95,
 * while the convolution itself reached 140. With AVX-512 the two were not compared.
 *
 * oneDNN has bfloat16 kernels only on processors with AVX-512, so their presence is how AVX-512 is detected. The choice
 * is a fixed rule and not a timing, because the same device must give the same digits every time.
 */
export function areOwnOpsFaster(): boolean {
  return hasOneDnn() && !canComputeIn('bfloat16') && hasOwnOps();
}

/**
 * Used for convolutions without a gradient, on any processor. 3x3 at stride 1 by Winograd tiles took 0.45 to 0.65 of
 * the time of oneDNN's direct convolution on two AVX-512 cores (64 images of 64 px in a ResNet-18: 6.4 for 9.8, 5.7 for
 * 9.8, 9.1 for 10.2 and 8.6 for 16.6 ms in its four stages), and all others took the same time; batch norm, the
 * addition of the shortcut and the ReLU need no separate pass.
 */
export function areOwnOpsFasterAtInference(): boolean {
  return hasOneDnn() && hasOwnOps();
}
