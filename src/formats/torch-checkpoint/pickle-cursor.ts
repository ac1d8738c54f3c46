/** Reads the operands of a pickle's opcodes: every length is checked against its limit before memory is allocated. */
import { quoted, TorchCheckpointError } from './fault.ts';
import type { TorchCheckpointFault } from './fault.ts';
import type { TorchCheckpointLimits } from './limits.ts';

const NEWLINE = 0x0a;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class PickleCursor {
  /** Offset of the next byte. */
  offset = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #limits: TorchCheckpointLimits;
  readonly #place: string;

  constructor(bytes: Uint8Array, place: string, limits: TorchCheckpointLimits) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#place = place;
    this.#limits = limits;
  }

  get remainingBytes(): number {
    return this.#bytes.length - this.offset;
  }

  fault(code: TorchCheckpointFault, message: string, options?: ErrorOptions): TorchCheckpointError {
    return new TorchCheckpointError(code, `${this.#place} byte ${this.offset}`, message, options);
  }

  #advance(length: number): number {
    const at = this.offset;
    if (length > this.#bytes.length - at) throw this.fault('PICKLE_TRUNCATED', 'The pickle ends in the middle.');
    this.offset = at + length;
    return at;
  }

  uint8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  uint16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  int32(): number {
    return this.#view.getInt32(this.#advance(4), true);
  }

  /** Infinity stands for an impossible length. */
  uint64(): number {
    const value = this.#view.getBigUint64(this.#advance(8), true);
    return value > BigInt(Number.MAX_SAFE_INTEGER) ? Infinity : Number(value);
  }

  /** Big-endian, as the format requires. */
  float64(): number {
    return this.#view.getFloat64(this.#advance(8), false);
  }

  #text(length: number): Uint8Array {
    if (length < 0 || length > this.#limits.maxTextBytes)
      throw this.fault(
        'TEXT_TOO_LONG',
        `The pickle holds a text of ${length} bytes; at most ${this.#limits.maxTextBytes} are read.`,
      );
    const at = this.#advance(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** Skips a bytes object. */
  skipText(length: number): void {
    this.#text(length);
  }

  utf8(length: number): string {
    const bytes = this.#text(length);
    try {
      return utf8.decode(bytes);
    } catch (cause) {
      throw this.fault('TEXT_INVALID', 'The pickle holds a text that is not UTF-8.', { cause });
    }
  }

  /** A `str` of Python 2: text where it is UTF-8, undefined where it can only have been bytes. */
  utf8OrBytes(length: number): string | undefined {
    const bytes = this.#text(length);
    try {
      return utf8.decode(bytes);
    } catch {
      return undefined;
    }
  }

  /** Reads up to the next newline, which is skipped; each byte becomes one character. */
  line(): string {
    const cap = this.#limits.maxTextBytes;
    const end = this.#bytes.indexOf(NEWLINE, this.offset);
    const length = end < 0 ? this.remainingBytes : end - this.offset;
    if (length > cap) throw this.fault('TEXT_TOO_LONG', `The pickle holds a line of more than ${cap} bytes.`);
    if (end < 0) throw this.fault('PICKLE_TRUNCATED', 'The pickle ends in the middle of a line.');
    const at = this.#advance(length + 1);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + at, length).toString('latin1');
  }

  /** A natural number as decimal text on a line: the key of a memo entry. */
  naturalLine(): number {
    const text = this.line();
    if (!/^\d{1,15}$/.test(text)) throw this.fault('NUMBER_INVALID', `${quoted(text)} is not a non-negative integer.`);
    return Number(text);
  }

  /** A two's complement integer of `length` bytes, least significant first. */
  integer(length: number): number | bigint {
    this.#checkInteger(length);
    const at = this.#advance(length);
    if (length === 0) return 0;
    const hex = Buffer.from(this.#bytes.subarray(at, at + length))
      .reverse()
      .toString('hex');
    return narrowed(BigInt.asIntN(length * 8, BigInt(`0x${hex}`)));
  }

  /** Decimal text on a line; protocol 0 writes true and false as `01` and `00`. */
  integerLine(suffix: '' | 'L'): number | bigint | boolean {
    const text = this.line();
    if (suffix === '' && (text === '00' || text === '01')) return text === '01';
    const digits = text.endsWith(suffix) ? text.slice(0, text.length - suffix.length) : text;
    // A byte is 2.4 decimal digits.
    this.#checkInteger(Math.floor(digits.length / 2.5));
    if (!/^[+-]?\d+$/.test(digits)) throw this.fault('NUMBER_INVALID', `${quoted(text)} is not an integer.`);
    return narrowed(BigInt(digits.replace(/^\+/, '')));
  }

  floatLine(): number {
    const text = this.line();
    const special = /^([+-]?)(inf|nan)$/.exec(text);
    if (special !== null) return special[2] === 'nan' ? NaN : special[1] === '-' ? -Infinity : Infinity;
    if (text.length > 400 || !/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text))
      throw this.fault('NUMBER_INVALID', `${quoted(text)} is not a number.`);
    return Number(text);
  }

  /** Python's `repr` of a str, quotes included. */
  reprLine(): string {
    const text = this.line();
    const inner = /^(?:'(.*)'|"(.*)")$/s.exec(text);
    if (inner === null) throw this.fault('TEXT_INVALID', `${quoted(text)} has no quotes around it.`);
    return (inner[1] ?? inner[2] ?? '').replace(/\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|[^])/g, (whole, code: string) => {
      if (/^x./.test(code)) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
      if (/^[0-7]/.test(code)) return String.fromCharCode(Number.parseInt(code, 8) & 0xff);
      return REPR_ESCAPES[code] ?? whole;
    });
  }

  /** Text in Python's raw-unicode-escape. */
  rawUnicodeLine(): string {
    return this.line().replace(
      /\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g,
      (_whole, short: string | undefined, long: string | undefined) => {
        const point = Number.parseInt(short ?? long ?? '', 16);
        if (point > 0x10ffff) throw this.fault('TEXT_INVALID', 'The pickle holds a character that does not exist.');
        return String.fromCodePoint(point);
      },
    );
  }

  #checkInteger(length: number): void {
    if (length < 0 || length > this.#limits.maxIntegerBytes)
      throw this.fault(
        'NUMBER_TOO_LONG',
        `The pickle holds an integer of ${length} bytes; at most ${this.#limits.maxIntegerBytes} are read.`,
      );
  }
}

const REPR_ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\',
  "'": "'",
  '"': '"',
  n: '\n',
  r: '\r',
  t: '\t',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\n': '',
};

function narrowed(value: bigint): number | bigint {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}
