/** NumPy's file format for one array (numpy.lib.format, version 1.0), which `numpy.load` reads. */

const MAGIC = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0);
/** NumPy aligns the data to this many bytes. */
const ALIGNMENT = 64;
const PREFIX_BYTES = MAGIC.length + 2;

/** An array in C order. */
export interface NpyArray {
  readonly shape: readonly number[];
  readonly data: Float32Array | Uint8Array;
}

/** Thrown for bytes that are not an array of a supported kind. */
export class NpyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'NpyError';
  }
}

/**
 * The bytes that `numpy.save` writes for the same array. Throws RangeError if the shape does not match the length of
 * the data.
 */
export function writeNpy({ shape, data }: NpyArray): Buffer {
  if (shape.length === 0 || countOf(shape) !== data.length)
    throw new RangeError(`An array of ${data.length} numbers does not have the shape [${shape.join(', ')}].`);
  const header = npyHeader(shape, data instanceof Float32Array ? '<f4' : '|u1');
  return Buffer.concat([header, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]);
}

/** The bytes before the data of an array in C order, for a file that is written piece by piece. */
export function npyHeader(shape: readonly number[], type: '<f4' | '<i8' | '|u1'): Buffer {
  const sides = shape.length === 1 ? `${shape.join('')},` : shape.join(', ');
  const dictionary = `{'descr': '${type}', 'fortran_order': False, 'shape': (${sides}), }`;
  // NumPy pads the header so that the first dimension can grow in place to 21 digits, then adds spaces and a newline up
  // to the alignment.
  const room = ' '.repeat(Math.max(0, 21 - String(shape[0]).length));
  const unpadded = PREFIX_BYTES + dictionary.length + room.length + 1;
  const header = `${dictionary}${room}${' '.repeat(ALIGNMENT - (unpadded % ALIGNMENT))}\n`;
  const length = Buffer.alloc(2);
  length.writeUInt16LE(header.length);
  return Buffer.concat([MAGIC, length, Buffer.from(header, 'latin1')]);
}

/** Reads a float32 or uint8 array in C order, version 1.0. Throws NpyError for everything else. */
export function readNpy(bytes: Uint8Array): NpyArray {
  const { shape, type, dataStart } = parseHeader(bytes);
  const itemBytes = type === '<f4' ? 4 : 1;
  requireByteCount(bytes.length - dataStart, countOf(shape) * itemBytes, shape);
  // A copy, because floats must be aligned to four bytes.
  const data = new Uint8Array(bytes.subarray(dataStart));
  return { shape, data: itemBytes === 1 ? data : new Float32Array(data.buffer, data.byteOffset, data.length / 4) };
}

export interface NpyRowReader {
  /** Takes the next bytes of the file, in pieces of any length. Throws NpyError for another type or shape. */
  take(bytes: Uint8Array): void;
  /** The rows, `[rows.length, D]`. Throws NpyError if the file was cut off. */
  finish(): Float32Array<ArrayBuffer>;
}

/**
 * Picks rows of a float32 array `[N, D]` while its file streams past, so that memory holds only these rows.
 * @param shape the `[N, D]` that the file must have.
 * @param rows ascending, each below N.
 */
export function createNpyRowReader(shape: readonly [number, number], rows: Int32Array): NpyRowReader {
  const rowBytes = shape[1] * 4;
  const values = new Float32Array(rows.length * shape[1]);
  const into = new Uint8Array(values.buffer);
  /** The beginning of the file until its header is whole. */
  let start: Uint8Array | undefined = new Uint8Array(0);
  /** Bytes of data that were taken. */
  let position = 0;
  /** Rows that are complete. */
  let done = 0;

  const takeData = (bytes: Uint8Array): void => {
    const end = position + bytes.length;
    for (let row = rows[done]; row !== undefined && row * rowBytes < end; row = rows[done]) {
      const from = Math.max(row * rowBytes, position);
      const to = Math.min((row + 1) * rowBytes, end);
      into.set(bytes.subarray(from - position, to - position), done * rowBytes + (from - row * rowBytes));
      if (to < (row + 1) * rowBytes) break;
      done += 1;
    }
    position = end;
  };
  return {
    take: (bytes) => {
      if (start === undefined) {
        takeData(bytes);
        return;
      }
      start = Buffer.concat([start, bytes]);
      if (start.length < PREFIX_BYTES || start.length < dataStartOf(start)) return;
      const header = parseHeader(start);
      if (header.type !== '<f4' || header.shape.join() !== shape.join())
        throw new NpyError(
          `The array is ${header.type} of shape [${header.shape.join(', ')}], not float32 [${shape.join(', ')}].`,
        );
      const data = start.subarray(header.dataStart);
      start = undefined;
      takeData(data);
    },
    finish: () => {
      if (start !== undefined) throw new NpyError('The file ends within its header.');
      requireByteCount(position, countOf(shape) * 4, shape);
      return values;
    },
  };
}

/** @throws NpyError for bytes that do not begin with the whole header of a supported array. */
function parseHeader(bytes: Uint8Array): {
  readonly shape: number[];
  readonly type: string;
  readonly dataStart: number;
} {
  if (bytes.length < PREFIX_BYTES || MAGIC.some((byte, index) => bytes[index] !== byte))
    throw new NpyError('The bytes are not a .npy file of version 1.0.');
  const dataStart = dataStartOf(bytes);
  const header = Buffer.from(bytes.subarray(PREFIX_BYTES, dataStart)).toString('latin1');
  const found = /^\{'descr': '(<f4|\|u1)', 'fortran_order': False, 'shape': \((\d[\d, ]*)\), \} *\n$/.exec(header);
  if (found === null) throw new NpyError('The array is not float32 or uint8 in C order.');
  const shape = (found[2] ?? '').split(',').flatMap((side) => (side.trim() === '' ? [] : [Number(side)]));
  return { shape, type: found[1] ?? '', dataStart };
}

function dataStartOf(bytes: Uint8Array): number {
  return PREFIX_BYTES + new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint16(MAGIC.length, true);
}

function requireByteCount(found: number, expected: number, shape: readonly number[]): void {
  if (found !== expected)
    throw new NpyError(`The file holds ${found} bytes of data, which do not fit the shape [${shape.join(', ')}].`);
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}
