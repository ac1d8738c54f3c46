/** The one form in which the registry stores an encoder: float32 safetensors under the names of its ecosystem. */
import { DomainError } from '../../errors.ts';
import { allocateSafetensors, type SafetensorsPlan } from '../../formats/safetensors.ts';
import { toFloat32, type TorchTensorData } from '../../formats/torch-checkpoint/index.ts';
import type { EncoderDescription } from '../../formats/encoders/index.ts';
import type { MappableTensor } from '../../formats/encoders/mapping.ts';

export interface SourceTensor extends MappableTensor {
  /** The tensor's values; values that are contiguous in the file may be read directly into the given buffer. */
  load(into: Uint8Array<ArrayBuffer>): Promise<TorchTensorData>;
}

/**
 * Several tensors of a file as one, concatenated along the first axis: queries, keys and values, which some libraries
 * store apart.
 */
export function joinedTensor(name: string, parts: readonly SourceTensor[]): SourceTensor {
  const [first] = parts;
  if (first === undefined) throw new RangeError(`${name} has no parts.`);
  const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  return {
    name,
    dtype: first.dtype,
    shape: [rows, ...first.shape.slice(1)],
    load: async () => {
      const values: Float32Array[] = [];
      for (const part of parts) {
        const elementCount = part.shape.reduce((product, side) => product * side, 1);
        values.push(toFloat32(await part.load(new Uint8Array(elementCount * BYTES_OF_FLOAT64))));
      }
      const data = new Float32Array(values.reduce((sum, { length }) => sum + length, 0));
      let position = 0;
      for (const each of values) {
        data.set(each, position);
        position += each.length;
      }
      return { dtype: 'F32', data };
    },
  };
}

/** Room for the values of any dtype that a file may have. */
const BYTES_OF_FLOAT64 = 8;

/**
 * Safetensors of the whole encoder. Each tensor is read directly into its place, so that none is in memory twice. Batch
 * counts that an old file lacks are 0.
 * @throws DomainError FORMAT_INVALID for numbers that are not finite as float32, and for batch counts that are not
 * whole numbers.
 */
export async function storedEncoder(
  { tensors }: Pick<EncoderDescription, 'tensors'>,
  found: ReadonlyMap<string, SourceTensor>,
  metadata: Readonly<Record<string, string>>,
): Promise<Uint8Array<ArrayBuffer>> {
  const plan = tensors.map(({ name, shape, kind }): SafetensorsPlan => ({
    name,
    shape,
    dtype: kind === 'BATCH_COUNT' ? 'I64' : 'F32',
  }));
  const { file, places } = allocateSafetensors(plan, metadata);
  for (const { name, dtype } of plan) {
    const tensor = found.get(name);
    const place = places.get(name);
    if (tensor === undefined || place === undefined) continue;
    const numbers = await tensor.load(place);
    const data = dtype === 'I64' ? wholeNumbers(tensor.name, numbers) : toFloat32(numbers);
    if (data instanceof Float32Array && !areFinite(data))
      throw new DomainError({
        code: 'FORMAT_INVALID',
        message: `${name} contains numbers that are not finite as float32.`,
        hint: 'The training has diverged, or the file is damaged.',
      });
    if (data.buffer !== file.buffer) place.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return file;
}

/** Batch counts, read exactly from any type in the file. */
function wholeNumbers(name: string, numbers: TorchTensorData): BigInt64Array {
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
