/** Files of weights as other programs write them. */
import type { SafetensorsTensor } from '../../src/formats/safetensors.ts';
import { resnetTensorSpecs, type ResnetName } from '../../src/formats/encoders/resnet/specification.ts';
import { layOutSafetensors } from '../../src/formats/safetensors.ts';
import { archive, op, pickle, storage, tensor } from '../fixtures/hostile/torch-files.ts';

/** Every tensor of an encoder, its numbers drawn from a seed. */
export function someEncoder(architecture: ResnetName, seed = 1): SafetensorsTensor[] {
  let state = seed;
  return resnetTensorSpecs(architecture).map(({ name, shape, kind }): SafetensorsTensor => {
    if (kind === 'BATCH_COUNT') return { name, shape, dtype: 'I64', data: BigInt64Array.of(7n) };
    const count = shape.reduce((product, size) => product * size, 1);
    const reach = shape.length === 1 ? 1 : Math.sqrt(6 / (count / (shape[0] ?? 1)));
    const data = new Float32Array(count);
    for (let index = 0; index < count; index += 1) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      const share = state / 2 ** 32;
      data[index] = shape.length === 1 ? 0.5 + share : reach * (2 * share - 1);
    }
    return { name, shape, dtype: 'F32', data };
  });
}

export function renamed(tensors: readonly SafetensorsTensor[], prefix: string): SafetensorsTensor[] {
  return tensors.map((each) => ({ ...each, name: `${prefix}${each.name}` }));
}

/** The bits of the nearest values in half precision, rounded to even. */
export function halves(dtype: 'F16' | 'BF16', values: Float32Array): Uint16Array<ArrayBuffer> {
  if (dtype === 'F16') return new Uint16Array(new Float16Array(values).buffer);
  const bits = new Uint32Array(values.slice().buffer);
  return Uint16Array.from(bits, (each) => (each + 0x7fff + ((each >>> 16) & 1)) >>> 16);
}

/** A safetensors file whose floating-point tensors are in half precision where `isHalf` says so. */
export function halfFile(
  dtype: 'F16' | 'BF16',
  tensors: readonly SafetensorsTensor[],
  isHalf: (name: string) => boolean = () => true,
): Buffer {
  const stored = tensors.map(({ name, shape, ...values }) =>
    values.dtype === 'F32' && isHalf(name)
      ? { name, shape, dtype, data: halves(dtype, values.data) }
      : { name, shape, ...values },
  );
  const { beginning, places, byteSize } = layOutSafetensors(stored);
  const file = Buffer.alloc(byteSize);
  file.set(beginning);
  for (const { name, data } of stored)
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), places.get(name)?.begin);
  return file;
}

/** A Lightning checkpoint whose callback would run a command in Python. */
export function lightningFile(tensors: readonly SafetensorsTensor[], prefix: string): Buffer {
  const states = tensors.flatMap(({ name, dtype, shape, data }, index) => {
    const type = op.global('torch', dtype === 'I64' ? 'LongStorage' : 'FloatStorage');
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
    return [
      op.text(`${prefix}${name}`),
      tensor({ storage: storage({ type, key: String(index), elementCount: data.length }), shape, strides }),
    ];
  });
  const callback = op.reduce(op.global('posix', 'system'), op.text('echo this must never be printed'));
  const top = pickle(
    op.dict(
      op.text('epoch'),
      op.int(9),
      op.text('state_dict'),
      op.dict(...states),
      op.text('callbacks'),
      op.dict(op.text('harm'), callback),
    ),
  );
  return archive(
    top,
    Object.fromEntries(
      tensors.map(({ data }, index) => [String(index), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]),
    ),
  );
}
