/**
 * The 3x3 convolution of stride 1 by our own ops (workers/engine/native), which need 16 multiplications where the definition needs 36.
 *
 * They are compiled into the library that `npm run engine` links, and are there on processors with AVX2.
 */
import { asRank4, floatDtypeOf, runOp, tf } from '../tensorflow.ts';
import type { Tensor, Tensor4D } from '../tensorflow.ts';
import type { Window } from './padding.ts';

const CHANNELS_MULTIPLE = 16;

let available: boolean | undefined;

/** True where the ops can be run; tried once with one pixel. */
function hasTiledOps(): boolean {
  available ??= canConvolveOnePixel();
  return available;
}

function canConvolveOnePixel(): boolean {
  const image = tf.zeros([1, 1, 1, CHANNELS_MULTIPLE]);
  const filter = tf.zeros([3, 3, CHANNELS_MULTIPLE, CHANNELS_MULTIPLE]);
  try {
    runOp('ParaffinConvolution', [], [image, filter]).dispose();
    return true;
  } catch {
    // TensorFlow says "Op type not registered": that is the answer that was asked for.
    return false;
  } finally {
    tf.dispose([image, filter]);
  }
}

/** Whether the ops take this convolution of images (or of its output's gradient) by a filter [k, k, I, O]. */
export function canBeTiled(images: Tensor4D, filterShape: readonly number[], { size, stride, padding }: Window): boolean {
  const [, , inputChannels = 0, outputChannels = 0] = filterShape;
  const isSuited = size === 3 && stride === 1 && padding === 1 && inputChannels % CHANNELS_MULTIPLE === 0 && outputChannels % CHANNELS_MULTIPLE === 0;
  return isSuited && floatDtypeOf(images) === 'float32' && hasTiledOps();
}

/** [N, H, W, I] with filter [3, 3, I, O] to [N, H, W, O]. */
export function convolveByTiles(images: Tensor4D, filter: Tensor): Tensor4D {
  return asRank4(runOp('ParaffinConvolution', [], [images, filter]));
}

/** The gradient with respect to the images, [N, H, W, I]. */
export function tiledInputGradient(filter: Tensor, outputGradient: Tensor4D): Tensor4D {
  return asRank4(runOp('ParaffinConvolutionInputGradient', [], [filter, outputGradient]));
}

/** The gradient with respect to the filter, [3, 3, I, O]. */
export function tiledFilterGradient(images: Tensor4D, outputGradient: Tensor4D): Tensor4D {
  return asRank4(runOp('ParaffinConvolutionFilterGradient', [], [images, outputGradient]));
}
