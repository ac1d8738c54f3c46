/**
 * Reads TensorFlow's list of registered kernels: a `KernelList` of tensorflow/core/framework/kernel_def.proto, in the
 * encoding of https://protobuf.dev/programming-guides/encoding.
 */
export interface RegisteredKernel {
  /** CPU, GPU, XLA_GPU_JIT and others; DEFAULT serves every device. */
  readonly device: string;
  /** Empty unless an op must ask for this kernel by name. */
  readonly label: string;
  /** By type attribute: TensorFlow's numbers of the types that this kernel takes. */
  readonly allowedTypes: ReadonlyMap<string, readonly number[]>;
}

/** The numbers of the fields in kernel_def.proto and attr_value.proto. */
const FIELD = {
  list: { kernel: 1 },
  kernel: { device: 2, constraint: 3, label: 5 },
  constraint: { name: 1, allowed: 2 },
  value: { list: 1 },
  values: { type: 6 },
} as const;

/** @throws RangeError for bytes that are not of this format. */
export function parseKernels(bytes: Uint8Array): RegisteredKernel[] {
  return lengthDelimited(bytes, FIELD.list.kernel).map((kernel) => ({
    device: textOf(kernel, FIELD.kernel.device),
    label: textOf(kernel, FIELD.kernel.label),
    allowedTypes: new Map(
      lengthDelimited(kernel, FIELD.kernel.constraint).map((constraint) => [
        textOf(constraint, FIELD.constraint.name),
        lengthDelimited(constraint, FIELD.constraint.allowed)
          .flatMap((value) => lengthDelimited(value, FIELD.value.list))
          .flatMap((values) => numbersOf(values, FIELD.values.type)),
      ]),
    ),
  }));
}

interface Field {
  readonly number: number;
  readonly value: number | Uint8Array;
}

function lengthDelimited(message: Uint8Array, number: number): Uint8Array[] {
  return fieldsOf(message).flatMap((field) =>
    field.number === number && typeof field.value !== 'number' ? [field.value] : [],
  );
}

function textOf(message: Uint8Array, number: number): string {
  return new TextDecoder().decode(lengthDelimited(message, number).at(-1) ?? new Uint8Array());
}

/** A repeated enum, packed or not. */
function numbersOf(message: Uint8Array, number: number): number[] {
  return fieldsOf(message).flatMap((field) => {
    if (field.number !== number) return [];
    if (typeof field.value === 'number') return [field.value];
    const numbers: number[] = [];
    for (let at = 0; at < field.value.length;) {
      const read = varintAt(field.value, at);
      numbers.push(read.value);
      at = read.end;
    }
    return numbers;
  });
}

function fieldsOf(message: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  while (at < message.length) {
    const key = varintAt(message, at);
    const [number, wire] = [Math.floor(key.value / 8), key.value % 8];
    if (wire === 0) {
      const { value, end } = varintAt(message, key.end);
      fields.push({ number, value });
      at = end;
    } else if (wire === 2) {
      const { value: length, end } = varintAt(message, key.end);
      if (end + length > message.length) throw new RangeError('A field is longer than its message.');
      fields.push({ number, value: message.subarray(end, end + length) });
      at = end + length;
    } else if (wire === 1 || wire === 5) {
      at = key.end + (wire === 1 ? 8 : 4);
    } else {
      throw new RangeError(`A field has the wire type ${wire}.`);
    }
  }
  return fields;
}

function varintAt(bytes: Uint8Array, start: number): { readonly value: number; readonly end: number } {
  let value = 0;
  let scale = 1;
  for (let at = start; at < bytes.length && at < start + 10; at += 1) {
    const byte = bytes[at] ?? 0;
    value += (byte & 127) * scale;
    scale *= 128;
    if (byte < 128) return { value, end: at + 1 };
  }
  throw new RangeError('A number does not end.');
}
