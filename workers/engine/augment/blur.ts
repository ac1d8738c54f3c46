/** Gaussian blur of a batch, each image with its own sigma. */
import { asRank4, runOp, scoped, stringAttr, T_FLOAT, tf, typeAttr, type Tensor4D } from '../tensorflow.ts';

const MIRROR_PAD_ATTRS = [T_FLOAT, typeAttr('Tpaddings', 'int32'), stringAttr('mode', 'REFLECT')];

/** Odd, about a tenth of the side (SimCLR: 23 px of 224), at least 3. */
export function blurKernelSizePx(imageSizePx: number): number {
  return Math.max(3, 2 * Math.floor(imageSizePx / 20) + 1);
}

/**
 * Blurs images `[N, H, W, 3]` float32 as torchvision's GaussianBlur does (separable, reflected borders). Images with
 * sigma 0 are returned unchanged and cost nothing.
 */
export function gaussianBlur(images: Tensor4D, sigmasPx: readonly number[], kernelSizePx: number): Tensor4D {
  const blurred = [...sigmasPx.keys()].filter((index) => (sigmasPx[index] ?? 0) > 0);
  if (blurred.length === 0) return images.clone();
  const sharp = [...sigmasPx.keys()].filter((index) => (sigmasPx[index] ?? 0) <= 0);
  return scoped(() => {
    const done = blurAll(
      asRank4(tf.gather(images, blurred)),
      blurred.map((index) => sigmasPx[index] ?? 0),
      kernelSizePx,
    );
    if (sharp.length === 0) return done;
    const places = new Map([...blurred, ...sharp].map((index, place) => [index, place]));
    const order = Array.from(sigmasPx.keys(), (index) => places.get(index) ?? 0);
    return asRank4(tf.gather(tf.concat([done, tf.gather(images, sharp)]), order));
  });
}

function blurAll(images: Tensor4D, sigmasPx: readonly number[], kernelSizePx: number): Tensor4D {
  const [imageCount, height, width] = images.shape;
  const radius = (kernelSizePx - 1) / 2;
  // A depthwise convolution has one kernel for each channel, so that images laid side by side as channels each get
  // their own kernel.
  const asChannels = tf.reshape(tf.transpose(images, [1, 2, 0, 3]), [1, height, width, imageCount * 3]);
  const margins = tf.tensor2d([0, 0, radius, radius, radius, radius, 0, 0], [4, 2], 'int32');
  const padded = runOp('MirrorPad', MIRROR_PAD_ATTRS, [asChannels, margins]);
  const kernels = gaussianKernels(sigmasPx, kernelSizePx);
  const down = tf.tensor4d(kernels, [kernelSizePx, 1, imageCount * 3, 1]);
  const across = tf.tensor4d(kernels, [1, kernelSizePx, imageCount * 3, 1]);
  const blurred = tf.depthwiseConv2d(tf.depthwiseConv2d(asRank4(padded), down, 1, 'valid'), across, 1, 'valid');
  return asRank4(tf.transpose(tf.reshape(blurred, [height, width, imageCount, 3]), [2, 0, 1, 3]));
}

/** `[kernelSizePx, N * 3]`, each column summing to 1. */
function gaussianKernels(sigmasPx: readonly number[], kernelSizePx: number): Float32Array {
  const kernels = new Float32Array(kernelSizePx * sigmasPx.length * 3);
  const radius = (kernelSizePx - 1) / 2;
  for (const [image, sigma] of sigmasPx.entries()) {
    const weights = Array.from({ length: kernelSizePx }, (_, tap) => Math.exp(-0.5 * ((tap - radius) / sigma) ** 2));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    for (const [tap, weight] of weights.entries()) {
      const column = tap * sigmasPx.length + image;
      kernels.fill(weight / sum, column * 3, (column + 1) * 3);
    }
  }
  return kernels;
}
