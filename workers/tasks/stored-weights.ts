/** The stored weights of a checkpoint, as the engine loads them. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { RandomAccess } from '../../src/formats/random-access.ts';
import { placesInSafetensors, type SafetensorsPlace } from '../../src/formats/safetensors.ts';
import {
  BYTES_PER_ELEMENT,
  elementsOf,
  toFloat32,
  type TorchDtype,
  type TorchTensorData,
} from '../../src/formats/torch-checkpoint/dtype.ts';
import type { HalfPrecision, NamedTensor } from '../engine/named-tensor.ts';
import type { TaskContext } from './task.ts';

/**
 * Calls `use` with tensors whose values are read from the verified file whenever `data` is asked for, so that an
 * encoder of several gigabytes is in memory once, on the device, and not a second time beside it. Half precision is
 * widened to float32 and also given as it is. The tensors must not be used after `use` has ended.
 *
 * @throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT.
 */
export async function withStoredWeights<Result>(
  { localFile }: Pick<TaskContext, 'localFile'>,
  sha256: string,
  use: (tensors: readonly NamedTensor[]) => Result | Promise<Result>,
): Promise<Result> {
  const { path, release } = await localFile(sha256);
  try {
    return await withWeightsOf(path, use);
  } finally {
    await release();
  }
}

/** `withStoredWeights` for a file on the disk. */
export async function withWeightsOf<Result>(
  file: string,
  use: (tensors: readonly NamedTensor[]) => Result | Promise<Result>,
): Promise<Result> {
  const fd = openSync(file, 'r');
  try {
    const { places } = await placesInSafetensors(accessOf(fd));
    return await use(places.map((place) => tensorAt(fd, place)));
  } finally {
    closeSync(fd);
  }
}

function accessOf(fd: number): RandomAccess {
  const { size } = fstatSync(fd);
  return {
    byteSize: size,
    read: async (offset, length) => readAt(fd, offset, Math.min(length, size - offset)),
  };
}

/** The engine's loading is synchronous, and so is the reading of each tensor. */
function tensorAt(fd: number, { name, dtype, shape, begin, end }: SafetensorsPlace): NamedTensor {
  const values = (): TorchTensorData => elementsOf(dtype, readAt(fd, begin, end - begin));
  // Batch counts, of which each has one number.
  if (dtype === 'I64') return { name, dtype, shape, data: integersOf(values()) };
  const half = halfOf(dtype, values);
  return {
    ...{ name, dtype: 'F32', shape, elementCount: (end - begin) / BYTES_PER_ELEMENT[dtype] },
    get data() {
      return toFloat32(values());
    },
    ...(half === undefined ? {} : { half }),
  };
}

function halfOf(dtype: TorchDtype, values: () => TorchTensorData): HalfPrecision | undefined {
  const half = dtype === 'F16' ? 'float16' : dtype === 'BF16' ? 'bfloat16' : undefined;
  if (half === undefined) return undefined;
  return {
    dtype: half,
    get bits() {
      const { data } = values();
      if (!(data instanceof Uint16Array)) throw new TypeError(`Numbers of 16 bits are expected, not ${dtype}.`);
      return data;
    },
  };
}

function integersOf(values: TorchTensorData): BigInt64Array {
  if (values.dtype !== 'I64') throw new TypeError(`Integers of 64 bits are expected, not ${values.dtype}.`);
  return values.data;
}

/** @throws Error for a file that has become shorter. */
function readAt(fd: number, offset: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length;) {
    const count = readSync(fd, bytes, filled, length - filled, offset + filled);
    if (count === 0) throw new Error(`The file of weights ends before byte ${offset + length}.`);
    filled += count;
  }
  return bytes;
}
