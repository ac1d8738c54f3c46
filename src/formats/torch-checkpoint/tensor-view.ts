/** A tensor as a view of a storage: the bytes that it reads, and their conversion to values in row-major order. */
import { BYTES_PER_ELEMENT, elementsOf } from './dtype.ts';
import type { TorchDtype, TorchTensorData } from './dtype.ts';
import { TorchCheckpointError } from './fault.ts';
import type { TorchCheckpointLimits } from './limits.ts';
import type { PickleValue, StorageView, TensorView } from './pickle-values.ts';

interface Layout {
  readonly dtype: TorchDtype;
  /** Offset of the first element, in elements. */
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/**
 * A checked view: every element lies in the storage.
 * @throws TorchCheckpointError TENSOR_INVALID, TENSOR_TOO_LARGE or VIEW_OUT_OF_RANGE.
 */
export function tensorView(
  storage: StorageView,
  { dtype, offset, shape, strides }: Layout,
  place: string,
  limits: TorchCheckpointLimits,
): TensorView {
  const description = `A tensor ${dtype} [${shape.join(', ')}]`;
  if (shape.length !== strides.length)
    throw new TorchCheckpointError('TENSOR_INVALID', place, `${description} has ${strides.length} strides.`);
  const elementBytes = BYTES_PER_ELEMENT[dtype];
  let byteSize: number = elementBytes;
  for (const size of shape) {
    byteSize *= size;
    // Checked after each factor, because a zero at the end would hide an earlier overflow.
    if (byteSize > limits.maxTensorBytes)
      throw new TorchCheckpointError(
        'TENSOR_TOO_LARGE',
        place,
        `${description} is larger than ${limits.maxTensorBytes} bytes.`,
      );
  }
  const view: TensorView = {
    kind: 'TENSOR',
    storageKey: storage.key,
    dtype,
    shape,
    strides,
    byteOffset: storage.byteOffset + offset * elementBytes,
  };
  const end = offset * elementBytes + spanBytes(view);
  if (byteSize > 0 && !(end <= storage.byteSize)) {
    throw new TorchCheckpointError(
      'VIEW_OUT_OF_RANGE',
      place,
      `${description} reads up to byte ${end} of a storage of ${storage.byteSize}.`,
    );
  }
  return view;
}

export function elementCountOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** From the first byte that the view reads to the last, inclusive. */
export function spanBytes({ dtype, shape, strides }: TensorView): number {
  if (elementCountOf(shape) === 0) return 0;
  const lastElement = shape.reduce((sum, size, axis) => sum + (size - 1) * (strides[axis] ?? 0), 0);
  return (lastElement + 1) * BYTES_PER_ELEMENT[dtype];
}

/** The view's values in row-major order, from the bytes that it spans; without a copy if they are contiguous. */
export function materialised(view: TensorView, span: Uint8Array<ArrayBuffer>): TorchTensorData {
  const elementBytes = BYTES_PER_ELEMENT[view.dtype];
  const aligned = span.byteOffset % elementBytes === 0 ? span : new Uint8Array(span);
  if (isRowMajor(view)) return elementsOf(view.dtype, aligned);
  const ordered = new Uint8Array(elementCountOf(view.shape) * elementBytes);
  const count = ordered.length / elementBytes;
  const units = <T>(make: (buffer: ArrayBuffer, byteOffset: number, length: number) => T): [T, T] => [
    make(aligned.buffer, aligned.byteOffset, aligned.length / elementBytes),
    make(ordered.buffer, 0, count),
  ];
  switch (elementBytes) {
    case 1:
      gather(...units((buffer, at, length) => new Uint8Array(buffer, at, length)), view);
      break;
    case 2:
      gather(...units((buffer, at, length) => new Uint16Array(buffer, at, length)), view);
      break;
    case 4:
      gather(...units((buffer, at, length) => new Uint32Array(buffer, at, length)), view);
      break;
    case 8:
      gather(...units((buffer, at, length) => new BigUint64Array(buffer, at, length)), view);
      break;
  }
  return elementsOf(view.dtype, ordered);
}

/** Whether the view is contiguous: its values are in order and without gaps. */
export function isRowMajor({ shape, strides }: TensorView): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
    const size = shape[axis] ?? 0;
    if (size === 0) return true;
    // The stride of an axis of one element is never used.
    if (size !== 1 && strides[axis] !== expected) return false;
    expected *= size;
  }
  return true;
}

interface Elements<E> {
  readonly length: number;
  [index: number]: E;
}

/** Walks the last axis in a plain loop, and the others like an odometer. */
function gather<E>(source: Elements<E>, target: Elements<E>, { shape, strides }: TensorView): void {
  const rowLength = shape.at(-1) ?? 1;
  const rowStride = strides.at(-1) ?? 0;
  const counters = new Array<number>(Math.max(shape.length - 1, 0)).fill(0);
  let rowStart = 0;
  for (let written = 0; written < target.length;) {
    for (let index = 0, from = rowStart; index < rowLength; index += 1, from += rowStride, written += 1) {
      const element = source[from];
      if (element !== undefined) target[written] = element;
    }
    for (let axis = counters.length - 1; axis >= 0; axis -= 1) {
      const stride = strides[axis] ?? 0;
      const counter = (counters[axis] ?? 0) + 1;
      rowStart += stride;
      if (counter < (shape[axis] ?? 0)) {
        counters[axis] = counter;
        break;
      }
      rowStart -= stride * counter;
      counters[axis] = 0;
    }
  }
}

export function isNatural(value: PickleValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
