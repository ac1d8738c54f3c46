/** Two-dimensional convolution without bias and its two gradients. Images are NHWC, filters HWIO. */
import { asRank4, boolAttr, intsAttr, runOp, stringAttr, T_FLOAT, tf } from '../tensorflow.ts';
import type { OpAttr, Tensor, Tensor4D } from '../tensorflow.ts';
import { padImages, planPadding, unpadImages } from './padding.ts';
import type { Window } from './padding.ts';

type Padding = { readonly name: 'SAME' | 'VALID' } | { readonly name: 'EXPLICIT'; readonly pixels: number };

function convolutionAttrs(stride: number, padding: Padding): OpAttr[] {
  const pixels = padding.name === 'EXPLICIT' ? padding.pixels : 0;
  return [
    T_FLOAT,
    intsAttr('strides', [1, stride, stride, 1]),
    stringAttr('padding', padding.name),
    intsAttr('explicit_paddings', padding.name === 'EXPLICIT' ? [0, 0, pixels, pixels, pixels, pixels, 0, 0] : []),
    stringAttr('data_format', 'NHWC'),
    intsAttr('dilations', [1, 1, 1, 1]),
    boolAttr('use_cudnn_on_gpu', true),
  ];
}

/** [N, H, W, I] with filter [k, k, I, O] to [N, H', W', O]. */
export function convolve(images: Tensor4D, filter: Tensor, window: Window): Tensor4D {
  const padding: Padding = window.padding === 0 ? { name: 'VALID' } : { name: 'EXPLICIT', pixels: window.padding };
  return asRank4(runOp('Conv2D', convolutionAttrs(window.stride, padding), [images, filter]));
}

/** The gradient with respect to the images, of shape `imagesShape`. */
export function convolutionInputGradient(imagesShape: Tensor4D['shape'], filter: Tensor, outputGradient: Tensor4D, window: Window): Tensor4D {
  const [count, height, width, channels] = imagesShape;
  const plan = planPadding(window, height, width);
  const run = (shape: Tensor4D['shape'], padding: Padding): Tensor4D => {
    const sizes = tf.tensor1d(shape, 'int32');
    const gradient = runOp('Conv2DBackpropInput', convolutionAttrs(window.stride, padding), [sizes, filter, outputGradient]);
    sizes.dispose();
    return asRank4(gradient);
  };
  if (plan.kind === 'NAMED') return run(imagesShape, { name: plan.name });
  const [[top, bottom], [left, right]] = plan.pixels;
  const padded = run([count, height + top + bottom, width + left + right, channels], { name: 'VALID' });
  const gradient = unpadImages(padded, plan.pixels, imagesShape);
  padded.dispose();
  return gradient;
}

/** The gradient with respect to the filter, of shape `filterShape` = [k, k, I, O]. */
export function convolutionFilterGradient(images: Tensor4D, filterShape: readonly number[], outputGradient: Tensor4D, window: Window): Tensor4D {
  const [, height, width] = images.shape;
  const plan = planPadding(window, height, width);
  const sizes = tf.tensor1d([...filterShape], 'int32');
  const run = (input: Tensor4D, padding: Padding): Tensor4D =>
    asRank4(runOp('Conv2DBackpropFilter', convolutionAttrs(window.stride, padding), [input, sizes, outputGradient]));
  const padded = plan.kind === 'PAD_FIRST' ? padImages(images, plan.pixels) : undefined;
  const gradient = run(padded ?? images, { name: plan.kind === 'NAMED' ? plan.name : 'VALID' });
  padded?.dispose();
  sizes.dispose();
  return gradient;
}
