/** Two-dimensional convolution without bias and its two gradients. Images are NHWC, filters HWIO. */
import {
  asRank2,
  asRank4,
  boolAttr,
  castTo,
  floatDtypeOf,
  intAttr,
  intsAttr,
  runOp,
  scoped,
  stringAttr,
  T_FLOAT,
  tf,
  typeAttr,
  typeOf,
} from '../tensorflow.ts';
import type { OpAttr, Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';
import { multiplyMatrices, reshape } from './elementwise.ts';
import { hasOneDnn } from './onednn.ts';
import { outputSide, padImages, planPadding, unpadImages } from './padding.ts';
import type { Window } from './padding.ts';
import {
  hasOwnConvolution,
  hasOwnInputGradient,
  ownConvolution,
  ownFilterGradient,
  ownInputGradient,
} from './own-convolution.ts';
import { areOwnOpsFaster } from './own-ops.ts';

type Padding = { readonly name: 'SAME' | 'VALID' } | { readonly name: 'EXPLICIT'; readonly pixels: number };

function convolutionAttrs(type: OpAttr, stride: number, padding: Padding): OpAttr[] {
  const pixels = padding.name === 'EXPLICIT' ? padding.pixels : 0;
  return [
    type,
    intsAttr('strides', [1, stride, stride, 1]),
    stringAttr('padding', padding.name),
    intsAttr('explicit_paddings', padding.name === 'EXPLICIT' ? [0, 0, pixels, pixels, pixels, pixels, 0, 0] : []),
    stringAttr('data_format', 'NHWC'),
    intsAttr('dilations', [1, 1, 1, 1]),
    boolAttr('use_cudnn_on_gpu', true),
  ];
}

/**
 * On a CPU, deep layers have so few pixels that converting the filter to oneDNN's blocked layout costs more than the
 * arithmetic. There, one matrix product over patches is faster (ResNet-18's last stage at 64 px: 2 to 3 ms less for
 * each convolution and each filter gradient).
 */
function isPatchProductFaster(imagesShape: Tensor4D['shape'], window: Window): boolean {
  return window.size > 1 && windowCountOf(imagesShape, window) < imagesShape[3] && hasOneDnn();
}

/** N * H' * W'. */
function windowCountOf([count, height, width]: Tensor4D['shape'], window: Window): number {
  return count * outputSide(window, height) * outputSide(window, width);
}

/**
 * Lays out every window's pixels as one row: [N, H, W, I] to [N * H' * W', k * k * I], in the order of the filter's
 * axes.
 */
function patchRows(images: Tensor4D, window: Window): Tensor2D {
  const plan = planPadding(window, images.shape[1], images.shape[2]);
  const padded = plan.kind === 'PAD_FIRST' ? padImages(images, plan.pixels) : undefined;
  const square = (side: number): number[] => [1, side, side, 1];
  const attrs = [
    typeOf(images),
    intsAttr('ksizes', square(window.size)),
    intsAttr('strides', square(window.stride)),
    intsAttr('rates', square(1)),
    stringAttr('padding', plan.kind === 'NAMED' ? plan.name : 'VALID'),
  ];
  const patches = runOp('ExtractImagePatches', attrs, [padded ?? images]);
  padded?.dispose();
  const rows = reshape(patches, [-1, window.size * window.size * images.shape[3]]);
  patches.dispose();
  return asRank2(rows);
}

function convolveByPatches(images: Tensor4D, filter: Tensor, window: Window): Tensor4D {
  const [count, height, width] = images.shape;
  return scoped(() => {
    const rows = patchRows(images, window);
    const outputChannels = filter.shape[3] ?? 0;
    const product = multiplyMatrices(rows, reshape(filter, [-1, outputChannels]));
    return asRank4(reshape(product, [count, outputSide(window, height), outputSide(window, width), outputChannels]));
  });
}

function filterGradientByPatches(
  images: Tensor4D,
  filterShape: readonly number[],
  outputGradient: Tensor4D,
  window: Window,
): Tensor4D {
  return scoped(() => {
    const rows = patchRows(images, window);
    const product = multiplyMatrices(rows, reshape(outputGradient, [-1, outputGradient.shape[3]]), {
      transposeLeft: true,
    });
    return asRank4(reshape(product, [...filterShape]));
  });
}

/**
 * A 1x1 convolution is a matrix product over pixels, and runs as one on every device: oneDNN's own kernel for it
 * divides by the size of the processor's caches, which some virtual machines do not report, so that the process ends
 * with SIGFPE (ResNet-50 and 101, oneDNN 3.7).
 */
function isPointwise(window: Window): boolean {
  return window.size === 1 && window.padding === 0;
}

function pixelRows(images: Tensor4D): Tensor2D {
  return asRank2(reshape(images, [-1, images.shape[3]]));
}

/** The pixels that a 1x1 window reads: [N, H, W, I] to [N, H', W', I]. */
function strided(images: Tensor4D, { stride }: Window): Tensor4D {
  if (stride === 1) return images;
  const none = integers([0, 0, 0, 0]);
  return asRank4(
    runOp('StridedSlice', sliceAttrs(images), [images, none, integers(images.shape), integers([1, stride, stride, 1])]),
  );
}

function convolvePointwise(images: Tensor4D, filter: Tensor, window: Window): Tensor4D {
  return scoped(() => {
    const seen = strided(images, window);
    const [count, height, width, channels] = seen.shape;
    const outputChannels = filter.shape[3] ?? 0;
    return asRank4(
      reshape(multiplyMatrices(pixelRows(seen), reshape(filter, [channels, outputChannels])), [
        count,
        height,
        width,
        outputChannels,
      ]),
    );
  });
}

function pointwiseInputGradient(
  imagesShape: Tensor4D['shape'],
  filter: Tensor,
  outputGradient: Tensor4D,
  window: Window,
): Tensor4D {
  return scoped(() => {
    const [count, height, width, outputChannels] = outputGradient.shape;
    const [, , , channels] = imagesShape;
    const product = multiplyMatrices(pixelRows(outputGradient), reshape(filter, [channels, outputChannels]), {
      transposeRight: true,
    });
    const seen = asRank4(reshape(product, [count, height, width, channels]));
    return window.stride === 1 ? seen : insertZeros(seen, imagesShape, window);
  });
}

/** The adjoint of `strided`: zero for pixels that no window reads. */
function insertZeros(seen: Tensor4D, imagesShape: Tensor4D['shape'], { stride }: Window): Tensor4D {
  const none = integers([0, 0, 0, 0]);
  return asRank4(
    runOp('StridedSliceGrad', sliceAttrs(seen), [
      integers(imagesShape),
      none,
      integers(imagesShape),
      integers([1, stride, stride, 1]),
      seen,
    ]),
  );
}

function integers(values: readonly number[]): Tensor {
  return tf.tensor1d([...values], 'int32');
}

function sliceAttrs(images: Tensor4D): OpAttr[] {
  return [
    typeOf(images),
    typeAttr('Index', 'int32'),
    ...['begin_mask', 'end_mask', 'ellipsis_mask', 'new_axis_mask', 'shrink_axis_mask'].map((name) => intAttr(name, 0)),
  ];
}

function pointwiseFilterGradient(
  images: Tensor4D,
  filterShape: readonly number[],
  outputGradient: Tensor4D,
  window: Window,
): Tensor4D {
  return scoped(() => {
    const product = multiplyMatrices(pixelRows(strided(images, window)), pixelRows(outputGradient), {
      transposeLeft: true,
    });
    return asRank4(reshape(product, [...filterShape]));
  });
}

/**
 * oneDNN 3.7's bfloat16 convolution of three channels is wrong by 40 %: it multiplies channels in pairs, and the fourth
 * is the next pixel's first. The first layer is therefore computed in float32 and its result rounded.
 */
function hasOddChannelBug(images: Tensor4D): boolean {
  return floatDtypeOf(images) === 'bfloat16' && images.shape[3] % 2 === 1 && hasOneDnn();
}

/** [N, H, W, I] with filter [k, k, I, O] to [N, H', W', O]. */
export function convolve(images: Tensor4D, filter: Tensor, window: Window): Tensor4D {
  if (hasOddChannelBug(images)) {
    return scoped(() =>
      asRank4(castTo(convolve(asRank4(castTo(images, 'float32')), castTo(filter, 'float32'), window), 'bfloat16')),
    );
  }
  if (areOwnOpsFaster() && hasOwnConvolution(images, filter.shape)) return ownConvolution(images, filter, window);
  if (isPointwise(window)) return convolvePointwise(images, filter, window);
  if (isPatchProductFaster(images.shape, window)) return convolveByPatches(images, filter, window);
  const padding: Padding = window.padding === 0 ? { name: 'VALID' } : { name: 'EXPLICIT', pixels: window.padding };
  return asRank4(runOp('Conv2D', convolutionAttrs(typeOf(images), window.stride, padding), [images, filter]));
}

/** The layout of patches: all taps of one window together, or all windows at one tap of the filter. */
type PatchOrder = 'BY_WINDOW' | 'BY_TAP';

/**
 * The index in images [N, H, W] of each window's pixels, -1 for padding: [N * H' * W', k * k] in the order of
 * `patchRows`, or its transpose. The table is small, depends only on shapes, and is cached for each shape that a
 * network uses.
 */
function patchPixels(imagesShape: Tensor4D['shape'], window: Window, order: PatchOrder): Int32Array {
  const [count, height, width] = imagesShape;
  const key = [order, count, height, width, window.size, window.stride, window.padding].join(' ');
  const kept = keptPatchPixels.get(key);
  if (kept !== undefined) return kept;
  const windowCount = windowCountOf(imagesShape, window);
  const tapCount = window.size ** 2;
  const [windowStep, tapStep] = order === 'BY_WINDOW' ? [tapCount, 1] : [1, windowCount];
  const pixels = new Int32Array(windowCount * tapCount);
  const [outputHeight, outputWidth] = [outputSide(window, height), outputSide(window, width)];
  let windowStart = 0;
  for (let image = 0; image < count; image += 1) {
    for (let y = 0; y < outputHeight; y += 1) {
      for (let x = 0; x < outputWidth; x += 1) {
        let place = windowStart;
        for (let row = y * window.stride - window.padding, rowEnd = row + window.size; row < rowEnd; row += 1) {
          for (
            let column = x * window.stride - window.padding, columnEnd = column + window.size;
            column < columnEnd;
            column += 1
          ) {
            const isInside = row >= 0 && row < height && column >= 0 && column < width;
            pixels[place] = isInside ? (image * height + row) * width + column : -1;
            place += tapStep;
          }
        }
        windowStart += windowStep;
      }
    }
  }
  keptPatchPixels.set(key, pixels);
  return pixels;
}

const keptPatchPixels = new Map<string, Int32Array>();

/** Sums the rows of all windows that belong to the same pixel. */
function inputGradientByPatches(
  imagesShape: Tensor4D['shape'],
  filter: Tensor,
  outputGradient: Tensor4D,
  window: Window,
): Tensor4D {
  const [count, height, width, channels] = imagesShape;
  return scoped(() => {
    const outputChannels = outputGradient.shape[3];
    const [taps, gradients] = [reshape(filter, [-1, outputChannels]), reshape(outputGradient, [-1, outputChannels])];
    // Transposing the larger factor of a product costs as much as the product. With few windows the filter is the
    // larger one, so the result is transposed instead.
    const order: PatchOrder = windowCountOf(imagesShape, window) < outputChannels ? 'BY_TAP' : 'BY_WINDOW';
    const rows =
      order === 'BY_WINDOW'
        ? multiplyMatrices(gradients, taps, { transposeRight: true })
        : tf.transpose(
            reshape(castTo(multiplyMatrices(taps, gradients, { transposeRight: true }), 'float32'), [
              window.size ** 2,
              channels,
              -1,
            ]),
            [0, 2, 1],
          );
    const attrs = [T_FLOAT, typeAttr('Tindices', 'int32'), typeAttr('Tnumsegments', 'int32')];
    // Summed in float32: k * k roundings to bfloat16, one after another, would lose a bit.
    const summed = runOp('UnsortedSegmentSum', attrs, [
      castTo(reshape(rows, [-1, channels]), 'float32'),
      tf.tensor1d(patchPixels(imagesShape, window, order), 'int32'),
      tf.scalar(count * height * width, 'int32'),
    ]);
    return asRank4(castTo(reshape(summed, imagesShape), floatDtypeOf(outputGradient)));
  });
}

/** The gradient with respect to the images, of shape `imagesShape`. */
export function convolutionInputGradient(
  imagesShape: Tensor4D['shape'],
  filter: Tensor,
  outputGradient: Tensor4D,
  window: Window,
): Tensor4D {
  if (areOwnOpsFaster() && hasOwnInputGradient(outputGradient, filter.shape))
    return ownInputGradient(imagesShape, filter, outputGradient, window);
  if (isPointwise(window)) return pointwiseInputGradient(imagesShape, filter, outputGradient, window);
  const [count, height, width, channels] = imagesShape;
  if (isPatchProductFaster(imagesShape, window))
    return inputGradientByPatches(imagesShape, filter, outputGradient, window);
  const plan = planPadding(window, height, width);
  const run = (shape: Tensor4D['shape'], padding: Padding): Tensor4D => {
    const sizes = tf.tensor1d(shape, 'int32');
    const gradient = runOp('Conv2DBackpropInput', convolutionAttrs(typeOf(outputGradient), window.stride, padding), [
      sizes,
      filter,
      outputGradient,
    ]);
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
export function convolutionFilterGradient(
  images: Tensor4D,
  filterShape: readonly number[],
  outputGradient: Tensor4D,
  window: Window,
): Tensor4D {
  if (areOwnOpsFaster() && hasOwnConvolution(images, filterShape))
    return ownFilterGradient(images, outputGradient, window);
  if (isPointwise(window)) return pointwiseFilterGradient(images, filterShape, outputGradient, window);
  if (isPatchProductFaster(images.shape, window))
    return filterGradientByPatches(images, filterShape, outputGradient, window);
  const plan = planPadding(window, images.shape[1], images.shape[2]);
  const sizes = tf.tensor1d([...filterShape], 'int32');
  const run = (input: Tensor4D, padding: Padding): Tensor4D =>
    asRank4(
      runOp('Conv2DBackpropFilter', convolutionAttrs(typeOf(images), window.stride, padding), [
        input,
        sizes,
        outputGradient,
      ]),
    );
  const padded = plan.kind === 'PAD_FIRST' ? padImages(images, plan.pixels) : undefined;
  const gradient = run(padded ?? images, { name: plan.kind === 'NAMED' ? plan.name : 'VALID' });
  padded?.dispose();
  sizes.dispose();
  return gradient;
}
