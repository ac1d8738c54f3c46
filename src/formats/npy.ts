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
  const sides = shape.length === 1 ? `${shape.join('')},` : shape.join(', ');
  const dictionary = `{'descr': '${data instanceof Float32Array ? '<f4' : '|u1'}', 'fortran_order': False, 'shape': (${sides}), }`;
  // NumPy pads the header so that the first dimension can grow in place to 21 digits, then adds spaces and a newline up
  // to the alignment.
  const room = ' '.repeat(Math.max(0, 21 - String(shape[0]).length));
  const unpadded = PREFIX_BYTES + dictionary.length + room.length + 1;
  const header = `${dictionary}${room}${' '.repeat(ALIGNMENT - (unpadded % ALIGNMENT))}\n`;
  const length = Buffer.alloc(2);
  length.writeUInt16LE(header.length);
  return Buffer.concat([
    MAGIC,
    length,
    Buffer.from(header, 'latin1'),
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  ]);
}

/** Reads a float32 or uint8 array in C order, version 1.0. Throws NpyError for everything else. */
export function readNpy(bytes: Uint8Array): NpyArray {
  if (bytes.length < PREFIX_BYTES || MAGIC.some((byte, index) => bytes[index] !== byte))
    throw new NpyError('The bytes are not a .npy file of version 1.0.');
  const dataStart =
    PREFIX_BYTES + new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint16(MAGIC.length, true);
  const header = Buffer.from(bytes.subarray(PREFIX_BYTES, dataStart)).toString('latin1');
  const found = /^\{'descr': '(<f4|\|u1)', 'fortran_order': False, 'shape': \((\d[\d, ]*)\), \} *\n$/.exec(header);
  if (found === null) throw new NpyError('The array is not float32 or uint8 in C order.');
  const shape = (found[2] ?? '').split(',').flatMap((side) => (side.trim() === '' ? [] : [Number(side)]));
  const itemBytes = found[1] === '<f4' ? 4 : 1;
  if (bytes.length - dataStart !== countOf(shape) * itemBytes)
    throw new NpyError(
      `The file holds ${bytes.length - dataStart} bytes of data, which do not fit the shape [${shape.join(', ')}].`,
    );
  // A copy, because floats must be aligned to four bytes.
  const data = new Uint8Array(bytes.subarray(dataStart));
  return { shape, data: itemBytes === 1 ? data : new Float32Array(data.buffer, data.byteOffset, data.length / 4) };
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}
