/**
 * oneDNN's kernels on x86 CPUs, which TensorFlow selects by a label: some ops (above all the gradient of max-pool) have
 * no other fast kernel there.
 *
 * On devices without them (GPUs, other CPUs) the callers run TensorFlow's ordinary op, with the same result.
 */
import { engineInfo, intsAttr, runOps, stringAttr, T_FLOAT, boolAttr, tf } from '../tensorflow.ts';

/** Selects the labelled kernel of an op whose name begins with `_MklNative`. */
export const ONEDNN_KERNEL = stringAttr('_kernel', 'MklNameChangeOp');

let available: boolean | undefined;

/** True when the labelled kernels run on this machine; tested once with a 2x2 image. */
export function hasOneDnn(): boolean {
  available ??= engineInfo().device === 'CPU' && canRunLabelledPool();
  return available;
}

function canRunLabelledPool(): boolean {
  const image = tf.zeros([1, 2, 2, 1]);
  try {
    tf.dispose(
      runOps(
        '_MklNativeMaxPool',
        [
          T_FLOAT,
          intsAttr('ksize', [1, 2, 2, 1]),
          intsAttr('strides', [1, 2, 2, 1]),
          stringAttr('padding', 'VALID'),
          stringAttr('data_format', 'NHWC'),
          boolAttr('workspace_enabled', true),
          ONEDNN_KERNEL,
        ],
        [image],
        2,
      ),
    );
    return true;
  } catch {
    // TensorFlow reports "no registered OpKernel": the kernel is missing here.
    return false;
  } finally {
    image.dispose();
  }
}
