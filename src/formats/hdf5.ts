/**
 * A writer of HDF5 for a few arrays with attributes, in the layout that every HDF5 library since 1.6 reads: superblock
 * 0, one group with a symbol table, contiguous data (HDF5 File Format Specification, version 3.0, the "classic"
 * structures).
 *
 * It is our own because the one maintained library for Node, h5wasm, writes through the C library compiled to
 * WebAssembly: it stamps files with the time, and holds an array in its own heap. Here the same arrays give the same
 * bytes, and an array streams through. The golden test holds the bytes to what h5py reads from them.
 */

/** A text is stored as UTF-8, a bigint as int64 and a number as float64: what h5py returns as str, int and float. */
export type Hdf5Attribute = string | bigint | number;

export interface Hdf5Array {
  /** ASCII. */
  readonly name: string;
  readonly type: 'FLOAT32' | 'INT64';
  /** `[rows, columns]`, both at least 1. */
  readonly shape: readonly [number, number];
  /** Names are ASCII; in this order. */
  readonly attributes: Readonly<Record<string, Hdf5Attribute>>;
}

/** The address of nothing. */
const UNDEFINED_ADDRESS = 0xffff_ffff_ffff_ffffn;
const SUPERBLOCK_BYTES = 96;
/** Rank of a group's B-tree nodes and of its symbol nodes, as the HDF5 library writes them. */
const [INTERNAL_K, LEAF_K] = [16, 4];
const SYMBOL_ENTRY_BYTES = 40;
const BTREE_BYTES = 24 + (2 * INTERNAL_K + 1) * 8 + 2 * INTERNAL_K * 8;
const SYMBOL_NODE_BYTES = 8 + 2 * LEAF_K * SYMBOL_ENTRY_BYTES;
const ROOT_HEADER_BYTES = 16 + 8 + 16;
const LOCAL_HEAP_HEADER_BYTES = 32;
/** The least size of a global heap, which holds the texts of attributes. */
const GLOBAL_HEAP_BYTES = 4096;

const MESSAGE = { DATASPACE: 1, DATATYPE: 3, FILL_VALUE: 5, LAYOUT: 8, ATTRIBUTE: 12, SYMBOL_TABLE: 17 } as const;

export function hdf5ByteSizeOf({ type, shape: [rows, columns] }: Pick<Hdf5Array, 'type' | 'shape'>): number {
  return rows * columns * (type === 'FLOAT32' ? 4 : 8);
}

/**
 * The bytes of a file before its arrays, which follow one behind the other in the given order, row by row,
 * little-endian. The file ends with the last one.
 * @throws RangeError for more arrays than a symbol node holds, names that are not ASCII or not ascending, an empty
 * array, and an array before the last whose size is not a multiple of 8 bytes.
 */
export function hdf5Head(arrays: readonly Hdf5Array[]): Buffer {
  check(arrays);
  const names = localHeapOf(arrays);
  const texts = globalHeapOf(arrays);
  const btreeAt = SUPERBLOCK_BYTES + ROOT_HEADER_BYTES;
  const nodeAt = btreeAt + BTREE_BYTES;
  const localHeapAt = nodeAt + SYMBOL_NODE_BYTES;
  const namesAt = localHeapAt + LOCAL_HEAP_HEADER_BYTES;
  const globalHeapAt = namesAt + names.data.length;
  let at = globalHeapAt + texts.data.length;
  // The length of a header does not depend on where its array lies.
  const headersAt = arrays.map((array) => {
    const headerAt = at;
    at += arrayHeader(array, 0, globalHeapAt, texts.indexOf).length;
    return headerAt;
  });
  const headers = arrays.map((array) => {
    const header = arrayHeader(array, at, globalHeapAt, texts.indexOf);
    at += hdf5ByteSizeOf(array);
    return header;
  });
  return Buffer.concat([
    superblock(at, btreeAt, localHeapAt),
    objectHeader([message(MESSAGE.SYMBOL_TABLE, Buffer.concat([u64(btreeAt), u64(localHeapAt)]))]),
    btreeNode(nodeAt, names.offsets.at(-1) ?? 0),
    symbolNode(names.offsets, headersAt),
    // A free list of 1 is none.
    Buffer.concat([Buffer.from('HEAP\0\0\0\0', 'latin1'), u64(names.data.length), u64(1), u64(namesAt)]),
    names.data,
    texts.data,
    ...headers,
  ]);
}

function check(arrays: readonly Hdf5Array[]): void {
  if (arrays.length === 0 || arrays.length > 2 * LEAF_K)
    throw new RangeError(`A file holds 1 to ${2 * LEAF_K} arrays, not ${arrays.length}.`);
  for (const [index, array] of arrays.entries()) {
    const { name, shape, attributes } = array;
    for (const text of [name, ...Object.keys(attributes)])
      if (!/^[ -~]+$/.test(text)) throw new RangeError(`${JSON.stringify(text)} is not a name in ASCII.`);
    const before = arrays[index - 1]?.name;
    if (before !== undefined && before >= name) throw new RangeError(`${name} must stand before ${before}.`);
    if (shape.some((side) => !Number.isSafeInteger(side) || side < 1))
      throw new RangeError(`${name} has the shape [${shape.join(', ')}], and no side may be below 1.`);
    if (index < arrays.length - 1 && hdf5ByteSizeOf(array) % 8 !== 0)
      throw new RangeError(`${name} ends off a multiple of 8 bytes, and another array follows.`);
  }
}

function superblock(endAt: number, btreeAt: number, localHeapAt: number): Buffer {
  return Buffer.concat([
    Buffer.from('\x89HDF\r\n\x1a\n', 'latin1'),
    // Versions, and 8 bytes for an address and for a length.
    Buffer.from([0, 0, 0, 0, 0, 8, 8, 0]),
    u16(LEAF_K),
    u16(INTERNAL_K),
    u32(0),
    u64(0),
    u64(UNDEFINED_ADDRESS),
    u64(endAt),
    u64(UNDEFINED_ADDRESS),
    // The root group: without a name, with the addresses of its table in the scratch space (cache type 1).
    u64(0),
    u64(SUPERBLOCK_BYTES),
    u32(1),
    u32(0),
    u64(btreeAt),
    u64(localHeapAt),
  ]);
}

/** Names of a group, each ended by a zero and padded; the first is the empty one. */
function localHeapOf(arrays: readonly Hdf5Array[]) {
  const parts: Buffer[] = [Buffer.alloc(8)];
  const offsets: number[] = [];
  let offset = 8;
  for (const { name } of arrays) {
    const part = padded(Buffer.from(`${name}\0`, 'latin1'));
    offsets.push(offset);
    parts.push(part);
    offset += part.length;
  }
  return { data: Buffer.concat(parts), offsets };
}

/** One node above one symbol node: its keys are the empty name and the last name. */
function btreeNode(symbolNodeAt: number, lastNameOffset: number): Buffer {
  const node = Buffer.alloc(BTREE_BYTES);
  Buffer.concat([
    Buffer.from('TREE\0\0', 'latin1'),
    u16(1),
    u64(UNDEFINED_ADDRESS),
    u64(UNDEFINED_ADDRESS),
    u64(0),
    u64(symbolNodeAt),
    u64(lastNameOffset),
  ]).copy(node);
  return node;
}

function symbolNode(nameOffsets: readonly number[], headersAt: readonly number[]): Buffer {
  const node = Buffer.alloc(SYMBOL_NODE_BYTES);
  node.write('SNOD', 0, 'latin1');
  node.writeUInt8(1, 4);
  node.writeUInt16LE(nameOffsets.length, 6);
  for (const [index, offset] of nameOffsets.entries()) {
    const at = 8 + index * SYMBOL_ENTRY_BYTES;
    node.writeBigUInt64LE(BigInt(offset), at);
    node.writeBigUInt64LE(BigInt(headersAt[index] ?? 0), at + 8);
  }
  return node;
}

/** The texts of all attributes, numbered from 1. */
function globalHeapOf(arrays: readonly Hdf5Array[]) {
  const indexOf = new Map<string, number>();
  const parts: Buffer[] = [];
  for (const { attributes } of arrays)
    for (const value of Object.values(attributes)) {
      if (typeof value !== 'string' || indexOf.has(value)) continue;
      indexOf.set(value, indexOf.size + 1);
      const bytes = Buffer.from(value, 'utf8');
      parts.push(u16(indexOf.size), u16(0), u32(0), u64(bytes.length), padded(bytes));
    }
  if (indexOf.size === 0) return { data: Buffer.alloc(0), indexOf };
  const used = 16 + parts.reduce((sum, part) => sum + part.length, 0);
  // The rest is object 0, whose size counts its own header of 16 bytes.
  const size = GLOBAL_HEAP_BYTES * Math.ceil((used + 16) / GLOBAL_HEAP_BYTES);
  const data = Buffer.alloc(size);
  Buffer.concat([Buffer.from('GCOL\x01\0\0\0', 'latin1'), u64(size), ...parts, u64(0), u64(size - used)]).copy(data);
  return { data, indexOf };
}

function arrayHeader(
  { name: _, type, shape, attributes }: Hdf5Array,
  dataAt: number,
  globalHeapAt: number,
  indexOf: ReadonlyMap<string, number>,
): Buffer {
  return objectHeader([
    message(
      MESSAGE.DATASPACE,
      Buffer.concat([Buffer.from([1, 2, 0, 0, 0, 0, 0, 0]), ...shape.map((side) => u64(side))]),
    ),
    message(MESSAGE.DATATYPE, type === 'FLOAT32' ? FLOAT32 : INT64),
    // Version 2, space taken early, written if set, not set.
    message(MESSAGE.FILL_VALUE, Buffer.from([2, 1, 2, 0])),
    // Version 3, contiguous.
    message(MESSAGE.LAYOUT, Buffer.concat([Buffer.from([3, 1]), u64(dataAt), u64(hdf5ByteSizeOf({ type, shape }))])),
    ...Object.entries(attributes).map(([name, value]) =>
      message(MESSAGE.ATTRIBUTE, attributeOf(name, value, globalHeapAt, indexOf)),
    ),
  ]);
}

function attributeOf(
  name: string,
  value: Hdf5Attribute,
  globalHeapAt: number,
  indexOf: ReadonlyMap<string, number>,
): Buffer {
  const nameBytes = Buffer.from(`${name}\0`, 'latin1');
  const [type, data] = typedValueOf(value, globalHeapAt, indexOf);
  // Version 1, a scalar dataspace.
  const scalar = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);
  const sizes = [nameBytes, type, scalar].map(({ length }) => u16(length));
  return Buffer.concat([Buffer.from([1, 0]), ...sizes, padded(nameBytes), padded(type), scalar, data]);
}

function typedValueOf(
  value: Hdf5Attribute,
  globalHeapAt: number,
  indexOf: ReadonlyMap<string, number>,
): readonly [type: Buffer, data: Buffer] {
  if (typeof value === 'bigint') return [INT64, i64(value)];
  if (typeof value === 'number') return [FLOAT64, f64(value)];
  const text = Buffer.concat([u32(Buffer.byteLength(value)), u64(globalHeapAt), u32(indexOf.get(value) ?? 0)]);
  return [TEXT, text];
}

/** Version 1 of an object header: a count, the messages. */
function objectHeader(messages: readonly Buffer[]): Buffer {
  const body = Buffer.concat(messages);
  return Buffer.concat([Buffer.from([1, 0]), u16(messages.length), u32(1), u32(body.length), u32(0), body]);
}

function message(type: number, data: Buffer): Buffer {
  const body = padded(data);
  return Buffer.concat([u16(type), u16(body.length), u32(0), body]);
}

/** Class and version, bit field, size, then bit offset and precision: little-endian, signed. */
const INT64 = Buffer.concat([Buffer.from([0x10, 0x08, 0, 0]), u32(8), u16(0), u16(64)]);
/** The same of IEEE floats, with where exponent and mantissa lie, and the bias. */
const FLOAT32 = floatType({ bytes: 4, exponentBits: 8, mantissaBits: 23 });
const FLOAT64 = floatType({ bytes: 8, exponentBits: 11, mantissaBits: 52 });
/** A sequence of bytes of any length that is UTF-8; its parent type is an unsigned byte. */
const TEXT = Buffer.concat([
  Buffer.from([0x19, 0x01, 0x01, 0]),
  u32(16),
  Buffer.from([0x10, 0, 0, 0]),
  u32(1),
  u16(0),
  u16(8),
]);

function floatType({ bytes, exponentBits, mantissaBits }: FloatBits): Buffer {
  const bits = bytes * 8;
  return Buffer.concat([
    Buffer.from([0x11, 0x20, bits - 1, 0]),
    u32(bytes),
    u16(0),
    u16(bits),
    Buffer.from([mantissaBits, exponentBits, 0, mantissaBits]),
    u32(2 ** (exponentBits - 1) - 1),
  ]);
}

interface FloatBits {
  readonly bytes: number;
  readonly exponentBits: number;
  readonly mantissaBits: number;
}

/** With zeros up to a multiple of 8 bytes. */
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8)]);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function i64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(value);
  return bytes;
}

function f64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}
