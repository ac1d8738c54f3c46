/**
 * The format in which an import and its decoders exchange messages through pipes: frames of a head (JSON in UTF-8) and
 * a body of bytes. `[uint32 little-endian: bytes of the head][head][body of head.bodyByteSize bytes]`.
 */
import type { Readable, Writable } from 'node:stream';
import { once } from 'node:events';

export interface FrameHead {
  readonly bodyByteSize: number;
}

export interface Frame<Head extends FrameHead> {
  readonly head: Head;
  readonly body: Buffer;
}

export interface FrameReader<Head extends FrameHead> {
  /** @throws FramesEndedError if the stream ends; FrameError if the bytes are not a frame, or a frame is too large. */
  next(maxBodyBytes: number): Promise<Frame<Head>>;
}

export class FrameError extends Error {
  override readonly name = 'FrameError';
}

export class FramesEndedError extends Error {
  override readonly name = 'FramesEndedError';
}

const LENGTH_BYTES = 4;
const HEAD_BYTES_MAX = 256 * 1024;
/** A pipe's own buffer is smaller, and waiting for each small frame would cost more than sending it. */
const BUFFERED_BYTES_MAX = 4 * 1024 * 1024;

/** @param parse validates a head; `next` throws the errors that it throws. */
export function createFrameReader<Head extends FrameHead>(
  stream: Readable,
  parse: (text: string) => Head,
): FrameReader<Head> {
  const chunks: AsyncIterator<Buffer> = stream[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);
  const exactly = async (byteCount: number): Promise<Buffer> => {
    if (rest.length >= byteCount) {
      const bytes = rest.subarray(0, byteCount);
      rest = rest.subarray(byteCount);
      return bytes;
    }
    const bytes = Buffer.allocUnsafe(byteCount);
    let filled = rest.copy(bytes);
    while (filled < byteCount) {
      const chunk = await chunks.next();
      if (chunk.done === true) throw new FramesEndedError(`The stream ends after ${filled} of ${byteCount} bytes.`);
      const taken = chunk.value.copy(bytes, filled);
      filled += taken;
      rest = chunk.value.subarray(taken);
    }
    return bytes;
  };
  return {
    next: async (maxBodyBytes) => {
      const headByteSize = (await exactly(LENGTH_BYTES)).readUInt32LE(0);
      if (headByteSize > HEAD_BYTES_MAX) throw new FrameError(`A head of ${headByteSize} bytes.`);
      const head = parse((await exactly(headByteSize)).toString('utf8'));
      const { bodyByteSize } = head;
      if (bodyByteSize > maxBodyBytes) throw new FrameError(`A body of ${bodyByteSize} bytes, of ${maxBodyBytes}.`);
      const body = await exactly(bodyByteSize);
      // A separate buffer, because a slice would keep the larger buffer in memory.
      return { head, body: body.byteLength === body.buffer.byteLength ? body : Buffer.from(body) };
    },
  };
}

/**
 * Everything written in one turn of the event loop is sent at once. Resolves once the stream has room for more.
 * @param body chunks of `head.bodyByteSize` bytes in total.
 */
export async function writeFrame(
  stream: Writable,
  head: FrameHead,
  body: Iterable<Buffer> | AsyncIterable<Buffer> = [],
): Promise<void> {
  const text = Buffer.from(JSON.stringify(head));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(text.length, 0);
  if (Array.isArray(body) && body.length === 0) {
    // It goes out before this returns, although the caller may compute for seconds before its next turn.
    stream.write(Buffer.concat([length, text]));
    return;
  }
  stream.cork();
  process.nextTick(() => stream.uncork());
  stream.write(length);
  stream.write(text);
  for await (const chunk of body) {
    stream.write(chunk);
    if (stream.writableLength > BUFFERED_BYTES_MAX) await once(stream, 'drain');
  }
}
