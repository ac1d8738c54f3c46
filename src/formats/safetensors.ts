/**
 * Safetensors: the format in which weights are stored and served. Reading executes no code and validates everything.
 *
 * File: a little-endian u64 with the length of the header; the header, JSON that begins with `{`, padded with spaces;
 * then the tensors' bytes, little-endian and row-major, which must cover the rest of the file without hole or overlap.
 * See https://github.com/huggingface/safetensors, "Format", and `validate` of its tensor.rs.
 */

import type { RandomAccess } from './random-access.ts';
import {
  BYTES_PER_ELEMENT,
  elementsOf,
  TORCH_DTYPES,
  type TorchDtype,
  type TorchTensorData,
} from './torch-checkpoint/dtype.ts';

interface TensorFacts {
  readonly name: string;
  /** Sizes of the axes; `[]` is a scalar. */
  readonly shape: readonly number[];
}
export type SafetensorsTensor = TensorFacts &
  (
    | { readonly dtype: 'F32'; readonly data: Float32Array }
    | { readonly dtype: 'I64'; readonly data: BigInt64Array }
    | { readonly dtype: 'U8'; readonly data: Uint8Array }
  );
export type SafetensorsDtype = SafetensorsTensor['dtype'];

export interface SafetensorsFile {
  /** In the order of their bytes. */
  readonly tensors: readonly SafetensorsTensor[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** A tensor of any dtype that PyTorch shares with the format: external files also contain half and double precision. */
export type ForeignTensor = TensorFacts & TorchTensorData;

export interface ForeignFile {
  /** In the order of their bytes. */
  readonly tensors: readonly ForeignTensor[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** The faults of an invalid safetensors file, and of tensors that cannot be written as one. */
export type SafetensorsFault =
  | 'TOO_SHORT'
  | 'HEADER_TOO_LARGE'
  | 'HEADER_BEYOND_END'
  | 'HEADER_NOT_UTF8'
  | 'HEADER_NOT_OBJECT'
  | 'HEADER_NOT_JSON'
  | 'NUMBER_NOT_NATURAL'
  | 'DUPLICATE_KEY'
  | 'METADATA_INVALID'
  | 'TENSOR_INFO_INVALID'
  | 'DTYPE_UNSUPPORTED'
  | 'SHAPE_TOO_LARGE'
  | 'OFFSETS_REVERSED'
  | 'HOLE_OR_OVERLAP'
  | 'SIZE_MISMATCH'
  | 'END_MISMATCH'
  | 'NAME_INVALID'
  | 'SHARD_INDEX_INVALID';

export class SafetensorsError extends Error {
  readonly fault: SafetensorsFault;

  constructor(fault: SafetensorsFault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SafetensorsError';
    this.fault = fault;
  }
}

/** The format's own limit, so that a forged length cannot make us allocate much memory. */
export const MAX_HEADER_BYTES = 100_000_000;

const LENGTH_BYTES = 8;
const METADATA_KEY = '__metadata__';
const DTYPES: ReadonlyMap<string, TorchDtype> = new Map(TORCH_DTYPES.map((dtype) => [dtype, dtype]));

/** Name, dtype and shape of a tensor that is about to be written. */
export type SafetensorsPlan = TensorFacts & { readonly dtype: TorchDtype };

/** A file that is not written yet: its beginning, and where each tensor's bytes go. */
export interface SafetensorsLayout {
  /** The length of the header and the header itself. */
  readonly beginning: Uint8Array<ArrayBuffer>;
  /** Positions in the file by name, in their order. */
  readonly places: ReadonlyMap<string, { readonly begin: number; readonly end: number }>;
  readonly byteSize: number;
}

export interface AllocatedSafetensors {
  /** The whole file, with its header written and its values 0. */
  readonly file: Uint8Array<ArrayBuffer>;
  /** The part of the file for each tensor's bytes, aligned to its elements. */
  readonly places: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/**
 * Writes a file: the same tensors and metadata give the same bytes, whatever their order.
 * @throws SafetensorsError NAME_INVALID, DUPLICATE_KEY, TENSOR_INFO_INVALID, SHAPE_TOO_LARGE, SIZE_MISMATCH,
 * METADATA_INVALID or HEADER_TOO_LARGE.
 */
export function writeSafetensors(
  tensors: readonly SafetensorsTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  for (const { name, dtype, shape, data } of tensors)
    checkSize(name, dtype, checkedShape(name, shape), data.byteLength);
  const { file, places } = allocateSafetensors(tensors, metadata);
  for (const { name, data } of tensors)
    places.get(name)?.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return file;
}

/**
 * Creates a file without values in memory, so that they can be read directly into their place.
 * @throws SafetensorsError as `writeSafetensors`, except SIZE_MISMATCH.
 */
export function allocateSafetensors(
  tensors: readonly SafetensorsPlan[],
  metadata: Readonly<Record<string, string>> = {},
): AllocatedSafetensors {
  const { beginning, places, byteSize } = layOutSafetensors(tensors, metadata);
  const file = new Uint8Array(byteSize);
  file.set(beginning);
  return { file, places: new Map([...places].map(([name, { begin, end }]) => [name, file.subarray(begin, end)])) };
}

/**
 * Plans a file that is written tensor by tensor, because it may be larger than the memory.
 *
 * Tensors are sorted by element size (largest first, so that each is aligned to its elements), then by name.
 * @throws SafetensorsError as `writeSafetensors`, except SIZE_MISMATCH.
 */
export function layOutSafetensors(
  tensors: readonly SafetensorsPlan[],
  metadata: Readonly<Record<string, string>> = {},
): SafetensorsLayout {
  const sorted = tensors.toSorted(
    (a, b) => BYTES_PER_ELEMENT[b.dtype] - BYTES_PER_ELEMENT[a.dtype] || compareNames(a.name, b.name),
  );
  const ranges = new Map<string, readonly [begin: number, end: number]>();
  const entries: string[] = [];
  let end = 0;
  for (const { name, dtype, shape } of sorted) {
    if (name === METADATA_KEY || !name.isWellFormed())
      throw new SafetensorsError('NAME_INVALID', `A tensor cannot be named ${JSON.stringify(name)}.`);
    if (ranges.has(name)) throw new SafetensorsError('DUPLICATE_KEY', `Two tensors are named ${JSON.stringify(name)}.`);
    const begin = end;
    end += byteSizeOf(name, dtype, checkedShape(name, shape));
    ranges.set(name, [begin, end]);
    entries.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":${JSON.stringify(shape)},"data_offsets":[${begin},${end}]}`,
    );
  }
  const beginning = safetensorsBeginning(entries, metadata);
  return {
    beginning,
    places: new Map(
      [...ranges].map(([name, [first, last]]) => [
        name,
        { begin: beginning.length + first, end: beginning.length + last },
      ]),
    ),
    byteSize: beginning.length + end,
  };
}

/**
 * The length of the header and the header, padded to a multiple of 8 bytes.
 * @param entries members of its JSON, in the order of the tensors' bytes. They are text, because an object would put
 * integer-like names first and lose `__proto__`.
 * @throws SafetensorsError METADATA_INVALID or HEADER_TOO_LARGE.
 */
export function safetensorsBeginning(
  entries: readonly string[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  const header = new TextEncoder().encode(`{${[...metadataEntry(metadata), ...entries].join(',')}}`);
  const paddedLength = Math.ceil(header.length / 8) * 8;
  if (paddedLength > MAX_HEADER_BYTES)
    throw new SafetensorsError(
      'HEADER_TOO_LARGE',
      `The header would have ${paddedLength} bytes; at most ${MAX_HEADER_BYTES} are allowed.`,
    );

  const dataStart = LENGTH_BYTES + paddedLength;
  const beginning = new Uint8Array(dataStart);
  new DataView(beginning.buffer).setBigUint64(0, BigInt(paddedLength), true);
  beginning.set(header, LENGTH_BYTES);
  beginning.fill(0x20, LENGTH_BYTES + header.length);
  return beginning;
}

/**
 * Reads a whole file of our own. The tensors are views of the bytes, which must not change; tensors that are not
 * aligned to their elements, as some writers produce, are copied.
 * @throws SafetensorsError with the first fault; see `SafetensorsFault`. DTYPE_UNSUPPORTED for all but F32, I64 and U8.
 */
export function readSafetensors(bytes: Uint8Array): SafetensorsFile {
  const { tensors, metadata } = readForeignSafetensors(bytes);
  return { tensors: tensors.map(ourTensor), metadata };
}

function ourTensor(tensor: ForeignTensor): SafetensorsTensor {
  const { name, shape, dtype } = tensor;
  if (dtype === 'F32') return { name, shape, dtype, data: tensor.data };
  if (dtype === 'I64') return { name, shape, dtype, data: tensor.data };
  if (dtype === 'U8') return { name, shape, dtype, data: tensor.data };
  throw new SafetensorsError('DTYPE_UNSUPPORTED', `"${name}" has dtype ${dtype}; only F32, I64 and U8 can be stored.`);
}

/**
 * Reads a whole external file, as `readSafetensors`, with every dtype of `TORCH_DTYPES`; the format's other dtypes
 * (8-bit floats, unsigned and complex numbers) are not supported.
 * @throws SafetensorsError with the first fault; see `SafetensorsFault`.
 */
export function readForeignSafetensors(bytes: Uint8Array): ForeignFile {
  const dataStart = dataStartOf(bytes.subarray(0, LENGTH_BYTES), bytes.length);
  const { infos, metadata } = tensorInfos(bytes.subarray(LENGTH_BYTES, dataStart), dataStart, bytes.length);
  return {
    tensors: infos.map((info) => tensorOf(info, bytes.subarray(dataStart + info.begin, dataStart + info.end))),
    metadata,
  };
}

/** A tensor whose values are still in the file. */
export type UnreadTensor = TensorFacts & {
  readonly dtype: TorchDtype;
  /** @param into of the tensor's byte size; it receives the values. */
  load(into: Uint8Array<ArrayBuffer>): Promise<TorchTensorData>;
};

/** A tensor of a file by its position there. */
export interface SafetensorsPlace extends TensorFacts {
  readonly dtype: TorchDtype;
  /** Of the whole file, in bytes. */
  readonly begin: number;
  readonly end: number;
}

/**
 * Where the tensors of a file are, in the order of their bytes.
 * @throws SafetensorsError with the first fault; see `SafetensorsFault`.
 */
export async function placesInSafetensors(
  source: RandomAccess,
): Promise<{ readonly places: readonly SafetensorsPlace[]; readonly metadata: Readonly<Record<string, string>> }> {
  const dataStart = dataStartOf(await source.read(0, Math.min(LENGTH_BYTES, source.byteSize)), source.byteSize);
  const header = await source.read(LENGTH_BYTES, dataStart - LENGTH_BYTES);
  const { infos, metadata } = tensorInfos(header, dataStart, source.byteSize);
  return {
    places: infos.map((info) => ({ ...info, begin: dataStart + info.begin, end: dataStart + info.end })),
    metadata,
  };
}

/**
 * As `readForeignSafetensors`, but reads only the header: the values of each tensor are read when they are needed, so
 * that a file of several gigabytes is not in memory.
 * @throws SafetensorsError with the first fault; see `SafetensorsFault`.
 */
export async function openForeignSafetensors(
  source: RandomAccess,
): Promise<{ readonly tensors: readonly UnreadTensor[]; readonly metadata: Readonly<Record<string, string>> }> {
  const { places, metadata } = await placesInSafetensors(source);
  return {
    tensors: places.map(({ name, dtype, shape, begin, end }) => ({
      name,
      dtype,
      shape,
      load: async (into) => {
        const length = end - begin;
        const isOwnPlace = into.length === length && into.byteOffset % BYTES_PER_ELEMENT[dtype] === 0;
        const bytes = await source.read(begin, length, isOwnPlace ? into : undefined);
        checkSize(name, dtype, shape, bytes.length);
        return elementsOf(dtype, bytes);
      },
    })),
    metadata,
  };
}

/** What a header says of the tensors, in the order of their bytes, which must cover the rest of the file. */
function tensorInfos(
  headerBytes: Uint8Array,
  dataStart: number,
  byteSize: number,
): { readonly infos: readonly TensorInfo[]; readonly metadata: Readonly<Record<string, string>> } {
  const header = parseHeader(headerBytes);
  const infos: TensorInfo[] = [];
  let metadata: Readonly<Record<string, string>> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === METADATA_KEY) metadata = checkedMetadata(value);
    else infos.push(tensorInfo(name, value));
  }
  infos.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  for (const info of infos) {
    if (info.begin !== end)
      throw new SafetensorsError(
        'HOLE_OR_OVERLAP',
        `"${info.name}" begins at byte ${info.begin} of the data, not at ${end} where the previous tensor ends.`,
      );
    checkSize(info.name, info.dtype, info.shape, info.end - info.begin);
    end = info.end;
  }
  if (dataStart + end !== byteSize)
    throw new SafetensorsError(
      'END_MISMATCH',
      `The file has ${byteSize} bytes, its header describes ${dataStart + end}.`,
    );
  return { infos, metadata };
}

interface TensorInfo extends TensorFacts {
  readonly dtype: TorchDtype;
  readonly begin: number;
  readonly end: number;
}

/** The position of the first tensor's bytes, by the length with which the file begins. */
function dataStartOf(length: Uint8Array, byteSize: number): number {
  if (length.length < LENGTH_BYTES)
    throw new SafetensorsError(
      'TOO_SHORT',
      `A safetensors file has at least ${LENGTH_BYTES} bytes; this file has ${length.length}.`,
    );
  const headerBytes = new DataView(length.buffer, length.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (headerBytes > BigInt(MAX_HEADER_BYTES))
    throw new SafetensorsError(
      'HEADER_TOO_LARGE',
      `The header claims ${headerBytes} bytes; the format allows ${MAX_HEADER_BYTES}.`,
    );
  const dataStart = LENGTH_BYTES + Number(headerBytes);
  if (dataStart > byteSize)
    throw new SafetensorsError(
      'HEADER_BEYOND_END',
      `The header claims ${headerBytes} bytes; the file ends before that.`,
    );
  return dataStart;
}

function parseHeader(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  const text = decodeUtf8(bytes);
  if (!text.startsWith('{')) throw new SafetensorsError('HEADER_NOT_OBJECT', 'The header does not begin with "{".');
  const header = parseJson(text);
  if (!isObject(header)) throw new SafetensorsError('HEADER_NOT_OBJECT', 'The header is not a JSON object.');
  checkTokens(text);
  return header;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new SafetensorsError('HEADER_NOT_UTF8', 'The header is not UTF-8.', { cause });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SafetensorsError('HEADER_NOT_JSON', 'The header is not JSON.', { cause });
  }
}

/**
 * Rejects JSON that JSON.parse accepts: duplicate keys in one object (two readers could then interpret the file
 * differently), and integers written as 4.0 or 1e3. `text` must be valid JSON.
 */
function checkTokens(text: string): void {
  const openObjects: Set<string>[] = [];
  for (const [token, string, colon] of text.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}]|-?\d[\d.eE+-]*/g)) {
    if (token === '{') openObjects.push(new Set());
    else if (token === '}') openObjects.pop();
    else if (string === undefined) {
      if (!/^\d+$/.test(token) || !Number.isSafeInteger(Number(token)))
        throw new SafetensorsError(
          'NUMBER_NOT_NATURAL',
          `The header holds ${token.slice(0, 40)} where only non-negative integers are allowed.`,
        );
    } else if (colon !== undefined) {
      const key = String(JSON.parse(string));
      const seen = openObjects.at(-1);
      if (seen?.has(key) === true)
        throw new SafetensorsError('DUPLICATE_KEY', `The header holds the key ${JSON.stringify(key)} twice.`);
      seen?.add(key);
    }
  }
}

function tensorInfo(name: string, value: unknown): TensorInfo {
  const invalid = (what: string): SafetensorsError => new SafetensorsError('TENSOR_INFO_INVALID', `"${name}" ${what}.`);
  if (!name.isWellFormed())
    throw new SafetensorsError('NAME_INVALID', `${JSON.stringify(name)} holds half a surrogate pair.`);
  if (!isObject(value)) throw invalid('is not an object');
  const unknownKey = Object.keys(value).find((key) => key !== 'dtype' && key !== 'shape' && key !== 'data_offsets');
  if (unknownKey !== undefined) throw invalid(`has an unknown field "${unknownKey}"`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string') throw invalid('has no dtype');
  const known = DTYPES.get(dtype);
  if (known === undefined)
    throw new SafetensorsError(
      'DTYPE_UNSUPPORTED',
      `"${name}" has dtype ${dtype.slice(0, 40)}; supported are ${TORCH_DTYPES.join(', ')}.`,
    );
  if (!Array.isArray(shape) || !shape.every(isNatural)) throw invalid('has no shape');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isNatural))
    throw invalid('has no pair of data_offsets');
  const [begin = 0, end = 0] = offsets;
  if (end < begin)
    throw new SafetensorsError('OFFSETS_REVERSED', `"${name}" ends at byte ${end}, before it begins at ${begin}.`);
  return { name, dtype: known, shape, begin, end };
}

function checkedShape(name: string, shape: readonly number[]): readonly number[] {
  if (shape.every((size) => isNatural(size))) return shape;
  throw new SafetensorsError(
    'TENSOR_INFO_INVALID',
    `"${name}" has a shape that is not a list of non-negative integers: [${shape.join(', ')}].`,
  );
}

function byteSizeOf(name: string, dtype: TorchDtype, shape: readonly number[]): number {
  let needed: number = BYTES_PER_ELEMENT[dtype];
  for (const size of shape) {
    needed *= size;
    // Checked after each factor, because a zero at the end would hide an earlier overflow.
    if (!Number.isSafeInteger(needed))
      throw new SafetensorsError('SHAPE_TOO_LARGE', `"${name}" has a shape whose byte size overflows.`);
  }
  return needed;
}

function checkSize(name: string, dtype: TorchDtype, shape: readonly number[], byteLength: number): void {
  const needed = byteSizeOf(name, dtype, shape);
  if (needed !== byteLength)
    throw new SafetensorsError(
      'SIZE_MISMATCH',
      `"${name}" needs ${needed} bytes for ${dtype} [${shape.join(', ')}], but has ${byteLength}.`,
    );
}

function tensorOf({ name, dtype, shape }: TensorInfo, bytes: Uint8Array): ForeignTensor {
  const { buffer, byteOffset, length } = bytes;
  const isAligned = buffer instanceof ArrayBuffer && byteOffset % BYTES_PER_ELEMENT[dtype] === 0;
  // `new Uint8Array(bytes)` makes a copy; a slice of a Buffer would be a view.
  return {
    name,
    shape,
    ...elementsOf(dtype, isAligned ? new Uint8Array(buffer, byteOffset, length) : new Uint8Array(bytes)),
  };
}

function metadataEntry(metadata: Readonly<Record<string, string>>): string[] {
  const pairs = Object.entries(checkedMetadata(metadata)).sort(([a], [b]) => compareNames(a, b));
  if (pairs.length === 0) return [];
  return [
    `"${METADATA_KEY}":{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`,
  ];
}

function checkedMetadata(value: unknown): Readonly<Record<string, string>> {
  if (!isObject(value)) throw new SafetensorsError('METADATA_INVALID', `${METADATA_KEY} is not an object.`);
  const pairs = Object.entries(value).map(([key, text]): [string, string] => {
    if (typeof text !== 'string')
      throw new SafetensorsError('METADATA_INVALID', `${METADATA_KEY} holds "${key}", which is not text.`);
    if (!key.isWellFormed() || !text.isWellFormed())
      throw new SafetensorsError(
        'METADATA_INVALID',
        `${METADATA_KEY} holds half a surrogate pair at ${JSON.stringify(key)}.`,
      );
    return [key, text];
  });
  return Object.fromEntries(pairs);
}

/** Compares by UTF-16 code unit, which does not depend on the locale. */
function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isNatural(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
