/** Random access to bytes, so that a file of hundreds of megabytes is never in memory twice. */

export interface RandomAccess {
  readonly byteSize: number;
  /**
   * `length` bytes from `offset`, in a buffer that the caller owns; fewer only if the source has shrunk meanwhile.
   * @param into a buffer of `length` bytes to fill instead of a new one.
   */
  read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
}

/** The part of node's `FileHandle` that is needed here. */
export interface PositionedReader {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
}

/** Bytes already in memory. Reads return copies. */
export function accessBytes(bytes: Uint8Array): RandomAccess {
  return {
    byteSize: bytes.length,
    read: async (offset, length, into = new Uint8Array(Math.max(0, Math.min(length, bytes.length - offset)))) => {
      into.set(bytes.subarray(offset, offset + length));
      return into;
    },
  };
}

/** An open file. The caller opens and closes it. */
export function accessFile(handle: PositionedReader, byteSize: number): RandomAccess {
  return {
    byteSize,
    read: async (offset, length, buffer = new Uint8Array(length)) => {
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await handle.read(buffer, filled, length - filled, offset + filled);
        if (bytesRead === 0) return buffer.slice(0, filled);
        filled += bytesRead;
      }
      return buffer;
    },
  };
}
