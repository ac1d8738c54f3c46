/** The supported element types of PyTorch, under their names in safetensors. */

export const TORCH_DTYPES = ['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8', 'U8', 'BOOL'] as const;
export type TorchDtype = (typeof TORCH_DTYPES)[number];

/** A tensor's values, row-major. F16 and BF16 are raw bits; BOOL is zero or non-zero. */
export type TorchTensorData =
  | { readonly dtype: 'F64'; readonly data: Float64Array<ArrayBuffer> }
  | { readonly dtype: 'F32'; readonly data: Float32Array<ArrayBuffer> }
  | { readonly dtype: 'F16' | 'BF16'; readonly data: Uint16Array<ArrayBuffer> }
  | { readonly dtype: 'I64'; readonly data: BigInt64Array<ArrayBuffer> }
  | { readonly dtype: 'I32'; readonly data: Int32Array<ArrayBuffer> }
  | { readonly dtype: 'I16'; readonly data: Int16Array<ArrayBuffer> }
  | { readonly dtype: 'I8'; readonly data: Int8Array<ArrayBuffer> }
  | { readonly dtype: 'U8' | 'BOOL'; readonly data: Uint8Array<ArrayBuffer> };

export const BYTES_PER_ELEMENT: Readonly<Record<TorchDtype, 1 | 2 | 4 | 8>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/**
 * Views little-endian bytes as values of a dtype, without a copy. The offset of the bytes must be a multiple of the
 * element size.
 */
export function elementsOf(dtype: TorchDtype, bytes: Uint8Array<ArrayBuffer>): TorchTensorData {
  const { buffer, byteOffset } = bytes;
  const count = bytes.length / BYTES_PER_ELEMENT[dtype];
  switch (dtype) {
    case 'F64':
      return { dtype, data: new Float64Array(buffer, byteOffset, count) };
    case 'F32':
      return { dtype, data: new Float32Array(buffer, byteOffset, count) };
    case 'F16':
    case 'BF16':
      return { dtype, data: new Uint16Array(buffer, byteOffset, count) };
    case 'I64':
      return { dtype, data: new BigInt64Array(buffer, byteOffset, count) };
    case 'I32':
      return { dtype, data: new Int32Array(buffer, byteOffset, count) };
    case 'I16':
      return { dtype, data: new Int16Array(buffer, byteOffset, count) };
    case 'I8':
      return { dtype, data: new Int8Array(buffer, byteOffset, count) };
    case 'U8':
    case 'BOOL':
      return { dtype, data: bytes };
  }
}

/**
 * The values as float32: F32 unchanged (the same array), F16, BF16 and integers up to 16 bits exactly, F64 and longer
 * integers to the nearest float32, BOOL as 0 and 1.
 */
export function toFloat32(tensor: TorchTensorData): Float32Array<ArrayBuffer> {
  switch (tensor.dtype) {
    case 'F32':
      return tensor.data;
    case 'F16':
      return float16ToFloat32(tensor.data);
    case 'BF16':
      return bfloat16ToFloat32(tensor.data);
    case 'I64':
      return roundedIntegers(tensor.data);
    case 'BOOL':
      return Float32Array.from(tensor.data, (value) => (value === 0 ? 0 : 1));
    case 'F64':
    case 'I32':
    case 'I16':
    case 'I8':
    case 'U8':
      return new Float32Array(tensor.data);
  }
}

/**
 * The value of a float16's last bit by its exponent field; computed once, because a power per value costs more than
 * reading the value.
 */
const FLOAT16_UNITS = Float64Array.from({ length: 31 }, (_none, exponent) => 2 ** (exponent - 25));
const SUBNORMAL_UNIT = 2 ** -24;

/** IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. Every value, infinity and NaN included, is a float32. */
function float16ToFloat32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const floats = new Float32Array(halves.length);
  for (let index = 0; index < halves.length; index += 1) {
    const bits = halves[index] ?? 0;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    const magnitude =
      exponent === 0
        ? fraction * SUBNORMAL_UNIT
        : exponent === 0x1f
          ? fraction === 0
            ? Infinity
            : NaN
          : (1024 + fraction) * (FLOAT16_UNITS[exponent] ?? 0);
    floats[index] = bits >= 0x8000 ? -magnitude : magnitude;
  }
  return floats;
}

/** bfloat16 is the upper half of a float32. */
function bfloat16ToFloat32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(halves.length);
  for (let index = 0; index < halves.length; index += 1) bits[index] = (halves[index] ?? 0) * 0x10000;
  return new Float32Array(bits.buffer);
}

/**
 * Converting a long integer through float64 would round twice; above 2^53 the lower bits are therefore first combined
 * into one sticky bit.
 */
function roundedIntegers(integers: BigInt64Array): Float32Array<ArrayBuffer> {
  const floats = new Float32Array(integers.length);
  for (let index = 0; index < integers.length; index += 1) {
    const value = integers[index] ?? 0n;
    const magnitude = value < 0n ? -value : value;
    const folded =
      magnitude < 1n << 53n ? magnitude : ((magnitude >> 16n) | ((magnitude & 0xffffn) === 0n ? 0n : 1n)) << 16n;
    floats[index] = Number(value < 0n ? -folded : folded);
  }
  return floats;
}
