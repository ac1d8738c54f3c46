/** PNG (W3C, third edition): reads the chunks, and verifies their checksums. */
import { crc32 } from 'node:zlib';
import { counted, GREY_8, RGB_8, UINT16_MAX, withAlpha, type Finding, type ImageHeader } from './image-header.ts';

const SIGNATURE_BYTES = 8;
/** Length, type and checksum around the data. */
const FRAME_BYTES = 12;
/** A bit of the colour type (IHDR): an alpha channel. */
const ALPHA = 4;
const GREY_TYPES: readonly number[] = [0, 4];
const TYPES: readonly number[] = [0, 2, 3, 4, 6];
/** Code points of H.273 in cICP: BT.709 primaries, the sRGB curve, RGB, full range. */
const SRGB_CODE_POINTS = Buffer.from([1, 13, 0, 1]);

/** @returns null if the header does not parse, and a finding for an unsupported kind. */
export function readPngHeader(bytes: Buffer): ImageHeader | Finding | null {
  if (bytes.length < 33 || bytes.toString('latin1', 12, 16) !== 'IHDR') return null;
  const bitDepth = bytes.readUInt8(24);
  const colourType = bytes.readUInt8(25);
  if (!TYPES.includes(colourType)) return null;
  let isPlain = bitDepth <= 8 && (colourType & ALPHA) === 0;
  let hasTransparency = (colourType & ALPHA) !== 0;
  let hasProfile = false;
  let hasSixteenSignificantBits = false;
  let isUpright = true;
  let frameCount = 1;
  let endsAt = 0;
  for (const { type, data, hasValidChecksum, endOffset } of chunksOf(bytes)) {
    // Some readers stop at an ancillary chunk (a lower-case first letter) with a wrong checksum, others do not.
    if (!hasValidChecksum) isPlain = false;
    switch (type) {
      case 'tRNS':
        hasTransparency = true;
        break;
      case 'iCCP':
        hasProfile = true;
        break;
      case 'sBIT':
        // Fewer bits do not limit the range: a writer should have scaled the samples up to all 16.
        hasSixteenSignificantBits = data.length > 0 && data.every((bits) => bits === 16);
        break;
      case 'eXIf':
        isPlain = false;
        isUpright = false;
        break;
      case 'acTL':
        if (data.length >= 4) frameCount = data.readUInt32BE(0);
        isPlain = false;
        break;
      case 'cICP':
        if (!data.equals(SRGB_CODE_POINTS)) return { issue: 'COLOUR_SPACE_NOT_READ', reason: cicpReason(data) };
        break;
      case 'IEND':
        endsAt = endOffset;
        break;
    }
  }
  if (endsAt !== bytes.length || hasTransparency) isPlain = false;
  const colour = GREY_TYPES.includes(colourType) ? GREY_8 : RGB_8;
  const white = hasSixteenSignificantBits ? UINT16_MAX : null;
  const opaque = bitDepth === 16 ? { ...colour, depth: 'UINT16' as const, white } : colour;
  return {
    format: 'PNG',
    width: bytes.readUInt32BE(16),
    height: bytes.readUInt32BE(20),
    ...{ isPlain, hasProfile, isUpright, page: 0, subIfd: null },
    samples: hasTransparency ? withAlpha(opaque) : opaque,
    notes:
      frameCount > 1
        ? [
            {
              issue: 'PAGES_LEFT_OUT',
              reason: `An animated PNG: its still image is imported and ${counted(frameCount - 1, 'frame')} left out.`,
            },
          ]
        : [],
  };
}

/** The same picture without its colour profile. */
export function pngWithoutProfile(bytes: Buffer): Buffer {
  const parts = [bytes.subarray(0, SIGNATURE_BYTES)];
  for (const { type, startOffset, endOffset } of chunksOf(bytes))
    if (type !== 'iCCP') parts.push(bytes.subarray(startOffset, endOffset));
  return Buffer.concat(parts);
}

interface Chunk {
  readonly type: string;
  readonly data: Buffer;
  readonly hasValidChecksum: boolean;
  readonly startOffset: number;
  readonly endOffset: number;
}

/** The chunks up to IEND, or to the point where the file ends too early. */
function* chunksOf(bytes: Buffer): Generator<Chunk> {
  for (let startOffset = SIGNATURE_BYTES; startOffset + FRAME_BYTES <= bytes.length;) {
    const dataBytes = bytes.readUInt32BE(startOffset);
    const endOffset = startOffset + FRAME_BYTES + dataBytes;
    if (endOffset > bytes.length) return;
    const type = bytes.toString('latin1', startOffset + 4, startOffset + 8);
    const data = bytes.subarray(startOffset + 8, endOffset - 4);
    // The decoder checks the pixel chunks itself, and refuses damaged ones.
    const hasValidChecksum =
      type === 'IDAT' || crc32(bytes.subarray(startOffset + 4, endOffset - 4)) === bytes.readUInt32BE(endOffset - 4);
    yield { type, data, hasValidChecksum, startOffset, endOffset };
    if (type === 'IEND') return;
    startOffset = endOffset;
  }
}

function cicpReason(data: Buffer): string {
  return `A PNG whose cICP chunk states the colour space ${[...data].join('-')} (H.273), not sRGB (1-13-0-1). Convert it to sRGB.`;
}
