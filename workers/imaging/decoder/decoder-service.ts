/** The loop inside a decoder process: answers requests one after another until its input ends. */
import { readSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { FIRST_FILE, FREE_DECODING_BYTES } from './decoder-limits.ts';
import type { DecoderReply, DecoderRequest, SharedBytes } from './decoder-protocol.ts';
import { createFrameReader, FramesEndedError, writeFrame, type Frame } from './frames.ts';
import type { Prepared, Preparation } from './prepare.ts';

export interface DecoderWork {
  /** See `prepareImage`. */
  prepare(bytes: Buffer, preparation: Preparation): Promise<Prepared>;
  /** See `makeThumbnail`. */
  makeThumbnail(bytes: Buffer): Promise<Buffer>;
}

/** Garbage of an image above this size is collected at once, because the next image's reservation does not count it. */
const COLLECT_ABOVE_BYTES = 32 * 1024 * 1024;

/** The shared file is descriptor FIRST_FILE. */
export async function serveDecoder(input: Readable, output: Writable, work: DecoderWork): Promise<void> {
  // The request comes from our own import, which is trusted.
  const requests = createFrameReader(input, (text): DecoderRequest => JSON.parse(text));
  /** Requests that arrived before the answer to a reservation. */
  const postponed: Frame<DecoderRequest>[] = [];
  const arrived = () => requests.next(Number.MAX_SAFE_INTEGER);
  const reply = (message: DecoderReply, body?: Buffer): Promise<void> =>
    writeFrame(output, message, body === undefined ? [] : [body]);

  let reservedBytes = 0;
  const reserve = async (byteCount: number): Promise<void> => {
    reservedBytes = byteCount;
    if (byteCount <= FREE_DECODING_BYTES) return;
    await reply({ kind: 'RESERVE', bodyByteSize: 0, byteCount });
    for (;;) {
      const request = await arrived();
      if (request.head.kind === 'GRANT') return;
      postponed.push(request);
    }
  };

  const prepare = async (
    bytes: Buffer,
    { keepsFile, ...wanted }: Omit<Preparation, 'reserve' | 'emit'> & { readonly keepsFile: boolean },
  ) => {
    const prepared = await work.prepare(bytes, {
      ...{ ...wanted, reserve },
      emit: ({ bytes: stored, pixelDigest, perceptualHash, ...facts }) => {
        const isFile = keepsFile && stored === bytes;
        const body = isFile ? undefined : stored;
        return reply(
          {
            ...{ kind: 'IMAGE', bodyByteSize: body?.length ?? 0, isFile, ...facts },
            pixelDigest: pixelDigest.toString('hex'),
            perceptualHash: Buffer.from(perceptualHash).toString('hex'),
          },
          body,
        );
      },
    });
    if (prepared.outcome === 'REFUSED') return reply({ kind: 'REFUSED', bodyByteSize: 0, finding: prepared.finding });
    const { blankCount, notes } = prepared;
    return reply({ kind: 'PREPARED', bodyByteSize: 0, blankCount, notes: [...notes] });
  };

  const serveNext = async (): Promise<void> => {
    const { head, body } = postponed.shift() ?? (await arrived());
    switch (head.kind) {
      case 'PREPARE':
        await prepare(head.shared === null ? body : readShared(head.shared), head);
        break;
      case 'THUMBNAIL': {
        const thumbnail = await work.makeThumbnail(body);
        await reply({ kind: 'THUMBNAIL', bodyByteSize: thumbnail.length }, thumbnail);
        break;
      }
      case 'GRANT':
        throw new Error('No image was requested.');
    }
  };

  await reply({ kind: 'READY', bodyByteSize: 0 });
  for (;;) {
    try {
      await serveNext();
    } catch (error) {
      // The import has closed the pipe.
      if (error instanceof FramesEndedError) return;
      throw error;
    }
    if (reservedBytes > COLLECT_ABOVE_BYTES) globalThis.gc?.();
    reservedBytes = 0;
  }
}

/** A copy, because a later image takes its place. */
function readShared({ byteOffset, byteSize }: SharedBytes): Buffer {
  const bytes = Buffer.allocUnsafeSlow(byteSize);
  for (let filled = 0; filled < byteSize;) {
    const count = readSync(FIRST_FILE, bytes, filled, byteSize - filled, byteOffset + filled);
    if (count === 0) throw new Error('The shared file is shorter than the image.');
    filled += count;
  }
  return bytes;
}
