/**
 * Writes the subset of protocol buffers that an ONNX model needs. See https://protobuf.dev/programming-guides/encoding.
 *
 * A message references its byte fields and copies them only once, in `toBytes`, because weights are large. This is our
 * own writer because protobufjs and @bufbuild/protobuf produce the same bytes but hold them in memory twice.
 */
const WIRE = { varint: 0, lengthDelimited: 2, fixed32: 5 } as const;

export class ProtobufMessage {
  readonly #parts: Uint8Array[] = [];
  #byteLength = 0;

  /**
   * An int32, int64 or enum that is not negative. @throws RangeError for anything that is not a non-negative integer
   * below 2^53.
   */
  natural(field: number, value: number): this {
    return this.#push(varint(field * 8 + WIRE.varint), varint(value));
  }

  /** One field per element, not packed, as proto2 encodes `repeated int64`. */
  naturals(field: number, values: readonly number[]): this {
    for (const value of values) this.natural(field, value);
    return this;
  }

  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.#push(varint(field * 8 + WIRE.fixed32), bytes);
  }

  string(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  strings(field: number, values: readonly string[]): this {
    for (const value of values) this.string(field, value);
    return this;
  }

  /** The bytes must not change until `toBytes`. */
  bytes(field: number, value: Uint8Array): this {
    return this.#push(varint(field * 8 + WIRE.lengthDelimited), varint(value.byteLength), value);
  }

  /** Appends the current content of the other message. */
  message(field: number, value: ProtobufMessage): this {
    return this.#push(varint(field * 8 + WIRE.lengthDelimited), varint(value.#byteLength), ...value.#parts);
  }

  messages(field: number, values: readonly ProtobufMessage[]): this {
    for (const value of values) this.message(field, value);
    return this;
  }

  toBytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#byteLength);
    let position = 0;
    for (const part of this.#parts) {
      bytes.set(part, position);
      position += part.byteLength;
    }
    return bytes;
  }

  #push(...parts: readonly Uint8Array[]): this {
    for (const part of parts) {
      this.#parts.push(part);
      this.#byteLength += part.byteLength;
    }
    return this;
  }
}

function varint(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`${value} is not a non-negative integer below 2^53.`);
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) + 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Uint8Array.from([...bytes, rest]);
}
