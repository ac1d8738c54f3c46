/** Runs `prepareImage` in this process, for tests of its results; in an import it runs in a sandbox. */
import { prepareImage } from '../../workers/imaging/decoder/prepare.ts';
import type { PreparedFile } from '../../workers/imaging/decoder/image-decoders.ts';
import type { PreparedImage } from '../../workers/imaging/decoder/prepare.ts';

/** Of an import. */
const DECODING_BYTES_MAX = 1536 * 1024 * 1024;

export interface PrepareOptions {
  readonly sampleBits?: number | null;
  /** Called with the amount of memory that is requested. */
  readonly onReserve?: (byteCount: number) => void;
}

export async function prepare(
  bytes: Buffer,
  patchSizePx: number | null = null,
  { sampleBits = null, onReserve = () => undefined }: PrepareOptions = {},
): Promise<PreparedFile> {
  const images: PreparedImage[] = [];
  const outcome = await prepareImage(bytes, {
    ...{ patchSizePx, sampleBits, measuresFlatness: false, decodingBytesMax: DECODING_BYTES_MAX },
    reserve: async (byteCount) => onReserve(byteCount),
    emit: async (image) => void images.push(image),
  });
  return { ...outcome, images };
}
