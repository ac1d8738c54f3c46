/** WebP (RFC 9649): reads the container. */
import { counted, RGB_8, withAlpha, type ImageHeader } from './image-header.ts';

const RIFF_HEADER_BYTES = 12;
const CHUNK_HEADER_BYTES = 8;
/** Flags of VP8X. */
const HAS_ANIMATION = 0b10;
const HAS_EXIF = 0b1000;
const HAS_ALPHA = 0b1_0000;
const HAS_PROFILE = 0b10_0000;
const FLAGS_OFFSET = 20;

/** @returns null if the header does not parse. */
export function readWebpHeader(bytes: Buffer): ImageHeader | null {
  const still = { format: 'WEBP', samples: RGB_8, isUpright: true, page: 0, subIfd: null, notes: [] } as const;
  const chunk = bytes.toString('latin1', 12, 16);
  if (chunk === 'VP8 ') {
    const [width, height] = [bytes.readUInt16LE(26) & 0x3fff, bytes.readUInt16LE(28) & 0x3fff];
    return { ...still, width, height, isPlain: true, hasProfile: false };
  }
  if (chunk === 'VP8L') {
    const word = bytes.readUInt32LE(21);
    const isOpaque = ((word >>> 28) & 1) === 0;
    return {
      ...still,
      width: (word & 0x3fff) + 1,
      height: ((word >>> 14) & 0x3fff) + 1,
      ...{ isPlain: isOpaque, hasProfile: false, samples: isOpaque ? RGB_8 : withAlpha(RGB_8) },
    };
  }
  if (chunk !== 'VP8X') return null;
  const flags = bytes.readUInt8(FLAGS_OFFSET);
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const frameCount = has(HAS_ANIMATION) ? [...chunksOf(bytes)].filter(({ type }) => type === 'ANMF').length : 1;
  const reason = `An animated WebP: its first frame is imported and ${counted(frameCount - 1, 'frame')} left out.`;
  return {
    ...still,
    width: bytes.readUIntLE(24, 3) + 1,
    height: bytes.readUIntLE(27, 3) + 1,
    isPlain: !has(HAS_ANIMATION | HAS_EXIF | HAS_ALPHA),
    hasProfile: has(HAS_PROFILE),
    isUpright: !has(HAS_EXIF),
    samples: has(HAS_ALPHA) ? withAlpha(RGB_8) : RGB_8,
    notes: frameCount > 1 ? [{ issue: 'PAGES_LEFT_OUT', reason }] : [],
  };
}

/** The same picture without its colour profile. */
export function webpWithoutProfile(bytes: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.from(bytes.subarray(0, RIFF_HEADER_BYTES))];
  for (const { type, startOffset, endOffset } of chunksOf(bytes))
    if (type !== 'ICCP') parts.push(bytes.subarray(startOffset, endOffset));
  const stripped = Buffer.concat(parts);
  stripped.writeUInt32LE(stripped.length - 8, 4);
  stripped.writeUInt8(stripped.readUInt8(FLAGS_OFFSET) & ~HAS_PROFILE, FLAGS_OFFSET);
  return stripped;
}

function* chunksOf(bytes: Buffer): Generator<{ type: string; startOffset: number; endOffset: number }> {
  for (let startOffset = RIFF_HEADER_BYTES; startOffset + CHUNK_HEADER_BYTES <= bytes.length;) {
    const dataBytes = bytes.readUInt32LE(startOffset + 4);
    const endOffset = Math.min(bytes.length, startOffset + CHUNK_HEADER_BYTES + dataBytes + (dataBytes & 1));
    yield { type: bytes.toString('latin1', startOffset, startOffset + 4), startOffset, endOffset };
    startOffset = endOffset;
  }
}
