/** The markers of JPEG (ITU-T T.81, B.1.1): how to find one, and which of them begin a frame. */

/** Half-open. */
export type ByteRange = readonly [start: number, end: number];

export interface Marker {
  /** The byte after the last 0xff. */
  readonly code: number;
  /** The offset of the first 0xff: several of them may precede the code. */
  readonly startOffset: number;
  /** The offset after the code. */
  readonly endOffset: number;
}

/** Baseline and extended, Huffman-coded. */
export const SEQUENTIAL_FRAMES: readonly number[] = [0xc0, 0xc1];
/** Huffman-coded and arithmetic-coded. */
export const PROGRESSIVE_FRAMES: readonly number[] = [0xc2, 0xca];
export const LOSSLESS_FRAME = 0xc3;
export const END_OF_IMAGE = 0xd9;
export const START_OF_SCAN = 0xda;

/** The first marker at or after an offset, found as libjpeg does it: all other bytes are skipped. */
export function nextMarker(bytes: Buffer, offset: number): Marker | null {
  for (let startOffset = bytes.indexOf(0xff, offset); startOffset >= 0;) {
    let codeOffset = startOffset + 1;
    while (bytes[codeOffset] === 0xff) codeOffset += 1;
    const code = bytes[codeOffset];
    if (code === undefined) return null;
    // 0xff00 is an escaped 0xff within data.
    if (code !== 0) return { code, startOffset, endOffset: codeOffset + 1 };
    startOffset = bytes.indexOf(0xff, codeOffset);
  }
  return null;
}

/** The first marker that begins a segment: restart markers and TEM have no segment, and mean nothing outside a scan. */
export function nextSegment(bytes: Buffer, offset: number): Marker | null {
  let marker = nextMarker(bytes, offset);
  while (marker !== null && (isRestart(marker.code) || marker.code === 0x01))
    marker = nextMarker(bytes, marker.endOffset);
  return marker;
}

export function isFrame(code: number): boolean {
  // DHT, JPG and DAC are in the range of the frame markers.
  return code >= 0xc0 && code <= 0xcf && code !== 0xc4 && code !== 0xc8 && code !== 0xcc;
}

export function isRestart(code: number): boolean {
  return code >= 0xd0 && code <= 0xd7;
}
