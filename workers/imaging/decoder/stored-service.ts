/** The request loop of the decoder of sealed images: answers one request at a time until its input ends. */
import { read, write } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';
import { FIRST_FILE } from './decoder-limits.ts';
import { createFrameReader, FramesEndedError, writeFrame } from './frames.ts';
import type { StoredDecoderReply, StoredDecoderRequest } from './stored-protocol.ts';

/** Images decoded at once. They share the threads of libuv's pool; more would only take memory. */
const DECODES_AT_ONCE = 8;
const PIXEL_FILE = FIRST_FILE;
const FIRST_SLOT = FIRST_FILE + 1;
const REASON_LENGTH_MAX = 2_000;

const readBytes = promisify(read);
const writeBytes = promisify(write);

/**
 * Decodes an image from one open file into another.
 * @returns false if it leaves the image to `decode`.
 */
export type DecodeInPlace = (
  encodedFile: number,
  byteOffset: number,
  byteSize: number,
  pixelFile: number,
  position: number,
) => Promise<boolean>;

/**
 * The pixel file is descriptor FIRST_FILE, and the slots with encoded images follow it.
 * @param decode decodes the bytes of one image; the message of its error becomes the reason in the reply.
 * @param decodeInPlace is tried first.
 */
export async function serveStoredDecoder(
  input: Readable,
  output: Writable,
  decode: (bytes: Buffer) => Promise<Uint8Array>,
  decodeInPlace?: DecodeInPlace,
): Promise<void> {
  // The request comes from our own reader, which is trusted.
  const requests = createFrameReader(input, (text): StoredDecoderRequest => JSON.parse(text));
  const reply = (message: StoredDecoderReply): Promise<void> => writeFrame(output, message);
  const decodeOne = async (slot: number, byteOffset: number, byteSize: number, position: number): Promise<void> => {
    if ((await decodeInPlace?.(FIRST_SLOT + slot, byteOffset, byteSize, PIXEL_FILE, position)) === true) return;
    const bytes = Buffer.allocUnsafeSlow(byteSize);
    for (let filled = 0; filled < byteSize;) {
      const { bytesRead } = await readBytes(FIRST_SLOT + slot, bytes, filled, byteSize - filled, byteOffset + filled);
      if (bytesRead === 0) throw new Error('its bytes did not arrive');
      filled += bytesRead;
    }
    const pixels = await decode(bytes);
    for (let written = 0; written < pixels.length;) {
      const { bytesWritten } = await writeBytes(
        ...([PIXEL_FILE, pixels, written, pixels.length - written, position + written] as const),
      );
      written += bytesWritten;
    }
  };
  await reply({ kind: 'READY', bodyByteSize: 0 });
  for (;;) {
    try {
      const { head } = await requests.next(0);
      await reply(await answerTo(head, decodeOne));
    } catch (error) {
      // The reader has closed the pipe.
      if (error instanceof FramesEndedError) return;
      throw error;
    }
  }
}

async function answerTo(
  { images }: StoredDecoderRequest,
  decodeOne: (...image: StoredDecoderRequest['images'][number]) => Promise<void>,
): Promise<StoredDecoderReply> {
  const pending = images.values();
  const failures: unknown[] = [];
  const decodePending = async (): Promise<void> => {
    for (const image of pending) {
      if (failures.length > 0) return;
      await decodeOne(...image).catch((error: unknown) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: Math.min(DECODES_AT_ONCE, images.length) }, decodePending));
  const [failure] = failures;
  if (failure === undefined) return { kind: 'DECODED', bodyByteSize: 0 };
  const reason = failure instanceof Error ? failure.message : String(failure);
  return { kind: 'FAILED', bodyByteSize: 0, reason: reason.slice(0, REASON_LENGTH_MAX) };
}
