/** Max-pooling of images without negative values, and global average pooling. NHWC. */
import {
  asRank2,
  asRank4,
  boolAttr,
  castTo,
  intsAttr,
  runOp,
  runOps,
  scoped,
  stringAttr,
  T_FLOAT,
  tf,
  typeAttr,
  typeOf,
} from '../tensorflow.ts';
import type { FloatDtype, OpAttr, Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';
import { hasOneDnn, ONEDNN_KERNEL } from './onednn.ts';
import { padImages, planPadding, unpadImages } from './padding.ts';
import type { Window } from './padding.ts';

/** Tensors that the backward pass needs; their owner disposes them with `disposeMaxPool`. */
export interface MaxPoolTrace {
  readonly output: Tensor4D;
  /** The input with its border of zeros. */
  readonly padded: Tensor4D | undefined;
  /** Where oneDNN found each maximum. */
  readonly workspace: Tensor | undefined;
}

function poolAttrs(images: Tensor4D, window: Window, padding: 'SAME' | 'VALID'): OpAttr[] {
  return [
    typeOf(images),
    intsAttr('ksize', [1, window.size, window.size, 1]),
    intsAttr('strides', [1, window.stride, window.stride, 1]),
    stringAttr('padding', padding),
    intsAttr('explicit_paddings', []),
    stringAttr('data_format', 'NHWC'),
  ];
}

const ONEDNN_ATTRS = [boolAttr('workspace_enabled', true), ONEDNN_KERNEL];

/**
 * [N, H, W, C], none negative (as after a ReLU), to [N, H', W', C].
 *
 * The border is padded with zeros where PyTorch pads with minus infinity; the maximum is the same, because no value is
 * below zero.
 */
export function maxPool(images: Tensor4D, window: Window): MaxPoolTrace {
  const plan = planPadding(window, images.shape[1], images.shape[2]);
  const padded = plan.kind === 'PAD_FIRST' ? padImages(images, plan.pixels) : undefined;
  const input = padded ?? images;
  const attrs = poolAttrs(images, window, plan.kind === 'NAMED' ? plan.name : 'VALID');
  if (!hasOneDnn()) return { output: asRank4(runOp('MaxPool', attrs, [input])), padded, workspace: undefined };
  const [output, workspace] = runOps('_MklNativeMaxPool', [...attrs, ...ONEDNN_ATTRS], [input], 2);
  if (output === undefined) throw new Error('Max-pooling gave no output.');
  return { output: asRank4(output), padded, workspace };
}

/** The gradient with respect to `images`: each output's gradient goes to the pixel of its maximum. */
export function maxPoolGradient(
  images: Tensor4D,
  trace: MaxPoolTrace,
  outputGradient: Tensor4D,
  window: Window,
): Tensor4D {
  const plan = planPadding(window, images.shape[1], images.shape[2]);
  const input = trace.padded ?? images;
  const attrs = poolAttrs(images, window, plan.kind === 'NAMED' ? plan.name : 'VALID');
  const gradient = asRank4(
    trace.workspace === undefined
      ? runOp('MaxPoolGrad', attrs, [input, trace.output, outputGradient])
      : runOp(
          '_MklNativeMaxPoolGrad',
          [...attrs, ...ONEDNN_ATTRS],
          [input, trace.output, outputGradient, trace.workspace],
        ),
  );
  if (plan.kind === 'NAMED') return gradient;
  const cut = unpadImages(gradient, plan.pixels, images.shape);
  gradient.dispose();
  return cut;
}

export function disposeMaxPool(trace: MaxPoolTrace): void {
  tf.dispose([trace.output, trace.padded, trace.workspace].filter((tensor) => tensor !== undefined));
}

/** The mean over height and width, in float32 for images of any dtype: [N, H, W, C] to [N, C]. */
export function globalAveragePool(images: Tensor4D): Tensor2D {
  const axes = tf.tensor1d([1, 2], 'int32');
  const floats = castTo(images, 'float32');
  const mean = runOp('Mean', [T_FLOAT, typeAttr('Tidx', 'int32'), boolAttr('keep_dims', false)], [floats, axes]);
  tf.dispose([axes, floats]);
  return asRank2(mean);
}

/** The gradient of `globalAveragePool` for images of `shape` and `dtype`: every pixel gets an equal share. */
export function globalAveragePoolGradient(
  outputGradient: Tensor2D,
  shape: Tensor4D['shape'],
  dtype: FloatDtype,
): Tensor4D {
  const [count, height, width, channels] = shape;
  return scoped(() =>
    asRank4(
      castTo(
        tf.tile(tf.reshape(tf.div(outputGradient, height * width), [count, 1, 1, channels]), [1, height, width, 1]),
        dtype,
      ),
    ),
  );
}
