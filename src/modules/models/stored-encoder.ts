/**
 * The one form in which the registry stores an encoder: safetensors under the names of its ecosystem, each tensor in
 * the dtype in which it came (float32, float16 or bfloat16; all else as float32). Only one tensor at a time is in
 * memory, so that the size of an encoder is limited by the disk alone.
 */
import { DomainError } from '../../errors.ts';
import { layOutSafetensors, type SafetensorsPlan } from '../../formats/safetensors.ts';
import { byTensorName, createTensorDigest } from '../../formats/tensor-digest.ts';
import { BYTES_PER_ELEMENT, elementsOf } from '../../formats/torch-checkpoint/dtype.ts';
import { toFloat32, type TorchDtype, type TorchTensorData } from '../../formats/torch-checkpoint/index.ts';
import { WEIGHTS_DTYPES, type EncoderDescription, type WeightsDtype } from '../../formats/encoders/index.ts';
import type { MappableTensor } from '../../formats/encoders/mapping.ts';

export interface SourceTensor extends MappableTensor {
  readonly dtype: TorchDtype;
  /**
   * The tensor's values; values that are contiguous in the file may be read directly into the given buffer.
   * @param into of the tensor's byte size.
   */
  load(into: Uint8Array<ArrayBuffer>): Promise<TorchTensorData>;
}

/** Where a stored file is written. */
export interface WeightsSink {
  /** Called once, before the first bytes. @throws DomainError STORAGE_FULL if the file has no room. */
  begin(byteSize: number): void;
  write(bytes: Uint8Array, position: number): void;
}

/**
 * Several tensors of a file as one, concatenated along the first axis: queries, keys and values, which some libraries
 * store apart.
 * @param parts of one dtype.
 */
export function joinedTensor(name: string, parts: readonly SourceTensor[]): SourceTensor {
  const [first] = parts;
  if (first === undefined) throw new RangeError(`${name} has no parts.`);
  const { dtype } = first;
  const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  return {
    name,
    dtype,
    shape: [rows, ...first.shape.slice(1)],
    load: async (into) => {
      let position = 0;
      for (const part of parts) {
        const place = into.subarray(position, position + byteSizeOf(part));
        const { data } = await part.load(place);
        if (data.buffer !== into.buffer) place.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
        position += place.length;
      }
      return elementsOf(dtype, into);
    },
  };
}

/** The least precise dtype of the weights as they are stored. */
export function weightsDtypeOf(
  { tensors }: Pick<EncoderDescription, 'tensors'>,
  found: ReadonlyMap<string, SourceTensor>,
): WeightsDtype {
  const dtypes = new Set(
    tensors.flatMap(({ name, kind }) => {
      const tensor = found.get(name);
      return tensor === undefined || kind === 'BATCH_COUNT' ? [] : [WEIGHTS_DTYPE[storedDtype(tensor.dtype)]];
    }),
  );
  return WEIGHTS_DTYPES.findLast((dtype) => dtypes.has(dtype)) ?? 'FLOAT32';
}

type StoredDtype = 'F32' | 'F16' | 'BF16';
const WEIGHTS_DTYPE = { F32: 'FLOAT32', F16: 'FLOAT16', BF16: 'BFLOAT16' } as const;

function storedDtype(dtype: TorchDtype): StoredDtype {
  return dtype === 'F16' || dtype === 'BF16' ? dtype : 'F32';
}

/**
 * Writes the whole encoder as safetensors. Batch counts that an old file lacks are 0.
 * @returns the digest of the tensors, as `tensorDigestOf`, and the size of the file.
 * @throws DomainError FORMAT_INVALID for numbers that are not finite as float32, and for batch counts that are not
 * whole numbers.
 */
export async function storeEncoder(
  { tensors }: Pick<EncoderDescription, 'tensors'>,
  found: ReadonlyMap<string, SourceTensor>,
  metadata: Readonly<Record<string, string>>,
  sink: WeightsSink,
): Promise<{ readonly tensorDigest: string; readonly byteSize: number }> {
  const plan = tensors.map(({ name, shape, kind }): SafetensorsPlan => ({
    name,
    shape,
    dtype: kind === 'BATCH_COUNT' ? 'I64' : storedDtype(found.get(name)?.dtype ?? 'F32'),
  }));
  const { beginning, places, byteSize } = layOutSafetensors(plan, metadata);
  const digest = createTensorDigest();
  sink.begin(byteSize);
  sink.write(beginning, 0);
  // One buffer for all tensors: fresh memory for each would cost more in page faults than reading takes.
  const buffer = new ArrayBuffer(Math.max(0, ...[...found.values()].map(byteSizeOf)));
  for (const { name, shape, dtype } of plan.toSorted(byTensorName)) {
    const tensor = found.get(name);
    const begin = places.get(name)?.begin;
    if (begin === undefined) throw new Error(`${name} has no place in the file.`);
    if (tensor === undefined) {
      sink.write(new Uint8Array(BYTES_PER_ELEMENT[dtype]), begin);
      continue;
    }
    const values = await tensor.load(new Uint8Array(buffer, 0, byteSizeOf(tensor)));
    if (dtype === 'I64') {
      sink.write(bytesOf(wholeNumbers(tensor.name, values)), begin);
      continue;
    }
    const numbers = toFloat32(values);
    if (!areFinite(numbers))
      throw new DomainError({
        code: 'FORMAT_INVALID',
        message: `${name} contains numbers that are not finite as float32.`,
        hint: 'The training has diverged, or the file is damaged.',
      });
    digest.add({ name, dtype: 'F32', shape, data: numbers });
    sink.write(bytesOf(dtype === 'F32' ? numbers : values.data), begin);
  }
  return { tensorDigest: digest.hex(), byteSize };
}

function byteSizeOf({ dtype, shape }: Pick<SourceTensor, 'dtype' | 'shape'>): number {
  return shape.reduce((product, side) => product * side, BYTES_PER_ELEMENT[dtype]);
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Batch counts, read exactly from any type in the file. */
function wholeNumbers(name: string, numbers: TorchTensorData): BigInt64Array<ArrayBuffer> {
  if (numbers.dtype === 'I64') return numbers.data;
  // Half precision is raw bits until it is widened. All other types are checked in their own type, because float32
  // would round them.
  const values = numbers.dtype === 'F16' || numbers.dtype === 'BF16' ? toFloat32(numbers) : numbers.data;
  return BigInt64Array.from(values, (value) => {
    if (Number.isInteger(value)) return BigInt(value);
    throw new DomainError({
      code: 'FORMAT_INVALID',
      message: `${name} is ${value}, which is not a whole number.`,
      hint: 'Embeddings do not depend on this tensor. Set it to 0 and save the state dict again.',
    });
  });
}

/** A loop, because `every` would call a function for each of tens of millions of numbers. */
function areFinite(numbers: Float32Array): boolean {
  // A non-finite value times 0 is NaN, and NaN propagates through the sum.
  let sum = 0;
  for (let index = 0; index < numbers.length; index += 1) sum += (numbers[index] ?? 0) * 0;
  return sum === 0;
}
