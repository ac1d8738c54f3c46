/** Two-dimensional convolution without bias and its two gradients. Images are NHWC, filters HWIO. */
import { asRank2, asRank4, boolAttr, intAttr, intsAttr, runOp, scoped, stringAttr, T_FLOAT, tf, typeAttr } from '../tensorflow.ts';
import type { OpAttr, Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';
import { multiplyMatrices } from './elementwise.ts';
import { hasOneDnn } from './onednn.ts';
import { outputSide, padImages, planPadding, unpadImages } from './padding.ts';
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

/**
 * On a CPU, deep layers have so few pixels that turning the filter into oneDNN's blocked layout costs more than the arithmetic.
 * There, one matrix product over patches is faster (ResNet-18's last stage at 64 px: 2 to 3 ms less for each convolution and each filter gradient).
 */
function isPatchProductFaster(images: Tensor4D, window: Window): boolean {
  const [count, height, width, channels] = images.shape;
  return window.size > 1 && count * outputSide(window, height) * outputSide(window, width) < channels && hasOneDnn();
}

/** Every window's pixels as one row: [N, H, W, I] to [N * H' * W', k * k * I], in the order of the filter's own axes. */
function patchRows(images: Tensor4D, window: Window): Tensor2D {
  const plan = planPadding(window, images.shape[1], images.shape[2]);
  const padded = plan.kind === 'PAD_FIRST' ? padImages(images, plan.pixels) : undefined;
  const square = (side: number): number[] => [1, side, side, 1];
  const attrs = [
    T_FLOAT,
    intsAttr('ksizes', square(window.size)),
    intsAttr('strides', square(window.stride)),
    intsAttr('rates', square(1)),
    stringAttr('padding', plan.kind === 'NAMED' ? plan.name : 'VALID'),
  ];
  const patches = runOp('ExtractImagePatches', attrs, [padded ?? images]);
  padded?.dispose();
  const rows = tf.reshape(patches, [-1, window.size * window.size * images.shape[3]]);
  patches.dispose();
  return asRank2(rows);
}

function convolveByPatches(images: Tensor4D, filter: Tensor, window: Window): Tensor4D {
  const [count, height, width] = images.shape;
  return scoped(() => {
    const rows = patchRows(images, window);
    const outputChannels = filter.shape[3] ?? 0;
    const product = multiplyMatrices(rows, tf.reshape(filter, [-1, outputChannels]));
    return asRank4(tf.reshape(product, [count, outputSide(window, height), outputSide(window, width), outputChannels]));
  });
}

function filterGradientByPatches(images: Tensor4D, filterShape: readonly number[], outputGradient: Tensor4D, window: Window): Tensor4D {
  return scoped(() => {
    const rows = patchRows(images, window);
    const product = multiplyMatrices(rows, tf.reshape(outputGradient, [-1, outputGradient.shape[3]]), { transposeLeft: true });
    return asRank4(tf.reshape(product, [...filterShape]));
  });
}

/**
 * A window of one pixel is a matrix product over pixels, and runs as one everywhere: oneDNN's own kernel for it divides by the size of the processor's
 * caches, which some virtual machines do not tell, and the process ends with SIGFPE (ResNet-50 and 101, oneDNN 3.7).
 */
function isPointwise(window: Window): boolean {
  return window.size === 1 && window.padding === 0;
}

function pixelRows(images: Tensor4D): Tensor2D {
  return asRank2(tf.reshape(images, [-1, images.shape[3]]));
}

/** Those pixels that a window of one pixel looks at: [N, H, W, I] to [N, H', W', I]. */
function strided(images: Tensor4D, { stride }: Window): Tensor4D {
  return stride === 1 ? images : asRank4(tf.stridedSlice(images, [0, 0, 0, 0], images.shape, [1, stride, stride, 1]));
}

function convolvePointwise(images: Tensor4D, filter: Tensor, window: Window): Tensor4D {
  return scoped(() => {
    const seen = strided(images, window);
    const [count, height, width, channels] = seen.shape;
    const outputChannels = filter.shape[3] ?? 0;
    return asRank4(tf.reshape(multiplyMatrices(pixelRows(seen), tf.reshape(filter, [channels, outputChannels])), [count, height, width, outputChannels]));
  });
}

function pointwiseInputGradient(imagesShape: Tensor4D['shape'], filter: Tensor, outputGradient: Tensor4D, window: Window): Tensor4D {
  return scoped(() => {
    const [count, height, width, outputChannels] = outputGradient.shape;
    const [, , , channels] = imagesShape;
    const product = multiplyMatrices(pixelRows(outputGradient), tf.reshape(filter, [channels, outputChannels]), { transposeRight: true });
    const seen = asRank4(tf.reshape(product, [count, height, width, channels]));
    return window.stride === 1 ? seen : spread(seen, imagesShape, window);
  });
}

/** The reverse of `strided`: zero where no window looked. */
function spread(seen: Tensor4D, imagesShape: Tensor4D['shape'], { stride }: Window): Tensor4D {
  const masks = ['begin_mask', 'end_mask', 'ellipsis_mask', 'new_axis_mask', 'shrink_axis_mask'].map((name) => intAttr(name, 0));
  const integers = (values: readonly number[]): Tensor => tf.tensor1d([...values], 'int32');
  return asRank4(runOp('StridedSliceGrad', [T_FLOAT, typeAttr('Index', 'int32'), ...masks], [integers(imagesShape), integers([0, 0, 0, 0]), integers(imagesShape), integers([1, stride, stride, 1]), seen]));
}

function pointwiseFilterGradient(images: Tensor4D, filterShape: readonly number[], outputGradient: Tensor4D, window: Window): Tensor4D {
  return scoped(() => {
    const product = multiplyMatrices(pixelRows(strided(images, window)), pixelRows(outputGradient), { transposeLeft: true });
    return asRank4(tf.reshape(product, [...filterShape]));
  });
}

/** [N, H, W, I] with filter [k, k, I, O] to [N, H', W', O]. */
export function convolve(images: Tensor4D, filter: Tensor, window: Window): Tensor4D {
  if (isPointwise(window)) return convolvePointwise(images, filter, window);
  if (isPatchProductFaster(images, window)) return convolveByPatches(images, filter, window);
  const padding: Padding = window.padding === 0 ? { name: 'VALID' } : { name: 'EXPLICIT', pixels: window.padding };
  return asRank4(runOp('Conv2D', convolutionAttrs(window.stride, padding), [images, filter]));
}

/** The gradient with respect to the images, of shape `imagesShape`. */
export function convolutionInputGradient(imagesShape: Tensor4D['shape'], filter: Tensor, outputGradient: Tensor4D, window: Window): Tensor4D {
  if (isPointwise(window)) return pointwiseInputGradient(imagesShape, filter, outputGradient, window);
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
  if (isPointwise(window)) return pointwiseFilterGradient(images, filterShape, outputGradient, window);
  if (isPatchProductFaster(images, window)) return filterGradientByPatches(images, filterShape, outputGradient, window);
  const plan = planPadding(window, images.shape[1], images.shape[2]);
  const sizes = tf.tensor1d([...filterShape], 'int32');
  const run = (input: Tensor4D, padding: Padding): Tensor4D =>
    asRank4(runOp('Conv2DBackpropFilter', convolutionAttrs(window.stride, padding), [input, sizes, outputGradient]));
  const padded = plan.kind === 'PAD_FIRST' ? padImages(images, plan.pixels) : undefined;
  const gradient = run(padded ?? images, { name: plan.kind === 'NAMED' ? plan.name : 'VALID' });
  padded?.dispose();
  sizes.dispose();
  return gradient;
}
