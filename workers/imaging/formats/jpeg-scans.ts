/**
 * Finds where the scans of a JPEG end (ITU-T T.81, annexes B, F and G, Huffman coding). Bytes between that end and the
 * next marker are stray, and every viewer skips them; they can be distinguished from image data only by decoding the
 * scan. Of the coefficients it stores only which are nonzero, because refinement scans have one bit for each of those.
 */
import {
  END_OF_IMAGE,
  isFrame,
  nextMarker,
  nextSegment,
  PROGRESSIVE_FRAMES,
  SEQUENTIAL_FRAMES,
  START_OF_SCAN,
  type ByteRange,
} from './jpeg-markers.ts';

const HUFFMAN_TABLES = 0xc4;
const RESTART_INTERVAL = 0xdd;
const FIRST_RESTART = 0xd0;
/** The same limit as in libvips: a small file with more scans would keep a decoder busy for hours. */
const SCANS_MAX = 100;
const STRAY_RANGES_MAX = 10_000;
const COEFFICIENTS = 64;
const BLOCK_BYTES = COEFFICIENTS / 8;
const CODE_BITS_MAX = 16;

/** The scans cannot be decoded. */
class BrokenScan extends Error {}

/**
 * The ranges of bytes that belong to no segment, scan or restart interval.
 * @returns null if the scans cannot be decoded up to the end mark: damaged, cut off, arithmetic-coded or lossless.
 */
export function strayRangesOf(bytes: Buffer): readonly ByteRange[] | null {
  try {
    return followSegments(bytes);
  } catch (error) {
    // A RangeError is a read beyond the end.
    if (error instanceof BrokenScan || error instanceof RangeError) return null;
    throw error;
  }
}

function followSegments(bytes: Buffer): ByteRange[] {
  const strayRanges: ByteRange[] = [];
  const tables = new Map<number, HuffmanTable>();
  let frame: Frame | undefined;
  let restartInterval = 0;
  let scanCount = 0;
  for (let offset = 2; ;) {
    const marker = required(nextSegment(bytes, offset));
    if (marker.startOffset > offset) strayRanges.push([offset, marker.startOffset]);
    if (strayRanges.length > STRAY_RANGES_MAX) throw new BrokenScan();
    if (marker.code === END_OF_IMAGE) return strayRanges;
    const segmentBytes = bytes.readUInt16BE(marker.endOffset);
    const body = bytes.subarray(marker.endOffset + 2, marker.endOffset + segmentBytes);
    offset = marker.endOffset + Math.max(2, segmentBytes);
    if (isFrame(marker.code)) frame ??= frameOf(marker.code, body);
    if (marker.code === HUFFMAN_TABLES) readTables(body, tables);
    if (marker.code === RESTART_INTERVAL) restartInterval = body.readUInt16BE(0);
    if (marker.code !== START_OF_SCAN) continue;
    scanCount += 1;
    if (scanCount > SCANS_MAX) throw new BrokenScan();
    offset = followScan(bytes, offset, scanOf(body, required(frame), tables), restartInterval, strayRanges);
  }
}

interface Component {
  readonly id: number;
  /** Blocks of one MCU, across and down. */
  readonly across: number;
  readonly down: number;
  /** The blocks that contain image, as in a scan with only this component. */
  readonly blocksPerLine: number;
  readonly blocksPerColumn: number;
  /** Blocks per line, with those that only complete the last MCU. */
  readonly storedPerLine: number;
  /** For a progressive frame, 8 bytes per block: bit k is 1 if coefficient k is nonzero. */
  readonly nonzeroBits: Uint8Array;
}

interface Frame {
  readonly isProgressive: boolean;
  readonly mcusPerLine: number;
  readonly mcuCount: number;
  readonly components: readonly Component[];
}

/** SOFn (B.2.2). The caller has checked that the picture is not too large. */
function frameOf(code: number, body: Buffer): Frame {
  const isProgressive = PROGRESSIVE_FRAMES.includes(code);
  if (code !== 0xc2 && !SEQUENTIAL_FRAMES.includes(code)) throw new BrokenScan();
  const height = body.readUInt16BE(1);
  const width = body.readUInt16BE(3);
  const factors = Array.from({ length: body.readUInt8(5) }, (_, index) => {
    const [across, down] = nibblesOf(body.readUInt8(7 + index * 3));
    if (across < 1 || across > 4 || down < 1 || down > 4) throw new BrokenScan();
    return { id: body.readUInt8(6 + index * 3), across, down };
  });
  const acrossMax = Math.max(...factors.map(({ across }) => across));
  const downMax = Math.max(...factors.map(({ down }) => down));
  const mcusPerLine = Math.ceil(width / (8 * acrossMax));
  const mcusPerColumn = Math.ceil(height / (8 * downMax));
  const components = factors.map(({ id, across, down }) => ({
    ...{ id, across, down },
    blocksPerLine: Math.ceil(Math.ceil((width * across) / acrossMax) / 8),
    blocksPerColumn: Math.ceil(Math.ceil((height * down) / downMax) / 8),
    storedPerLine: mcusPerLine * across,
    nonzeroBits: new Uint8Array(isProgressive ? mcusPerLine * across * mcusPerColumn * down * BLOCK_BYTES : 0),
  }));
  return { isProgressive, mcusPerLine, mcuCount: mcusPerLine * mcusPerColumn, components };
}

/**
 * Canonical codes (C.2): the codes with `length` bits begin at `firstCode[length]`, and their symbols at `firstSymbol`.
 */
interface HuffmanTable {
  readonly firstCode: readonly number[];
  readonly firstSymbol: readonly number[];
  readonly countOfLength: readonly number[];
  readonly symbols: Buffer;
}

/** DHT (B.2.4.2), into a map by class (0 DC, 16 AC) plus destination. */
function readTables(body: Buffer, tables: Map<number, HuffmanTable>): void {
  for (let offset = 0; offset < body.length;) {
    const countOfLength = [0, ...body.subarray(offset + 1, offset + 1 + CODE_BITS_MAX)];
    const firstCode: number[] = [0];
    const firstSymbol: number[] = [0];
    let code = 0;
    let symbol = 0;
    for (let length = 1; length <= CODE_BITS_MAX; length += 1) {
      code = (code + (countOfLength[length - 1] ?? 0)) << 1;
      symbol += countOfLength[length - 1] ?? 0;
      firstCode.push(code);
      firstSymbol.push(symbol);
    }
    const symbolsAt = offset + 1 + CODE_BITS_MAX;
    const endOffset = symbolsAt + symbol + (countOfLength[CODE_BITS_MAX] ?? 0);
    if (endOffset > body.length) throw new BrokenScan();
    const table = { firstCode, firstSymbol, countOfLength, symbols: body.subarray(symbolsAt, endOffset) };
    tables.set(body.readUInt8(offset), table);
    offset = endOffset;
  }
}

interface ScanComponent extends Component {
  readonly dc: HuffmanTable | undefined;
  readonly ac: HuffmanTable | undefined;
}

interface Scan {
  readonly frame: Frame;
  readonly components: readonly ScanComponent[];
  readonly isFirst: boolean;
  readonly spectralStart: number;
  readonly spectralEnd: number;
}

/** SOS (B.2.3). */
function scanOf(body: Buffer, frame: Frame, tables: ReadonlyMap<number, HuffmanTable>): Scan {
  const componentCount = body.readUInt8(0);
  const components = Array.from({ length: componentCount }, (_, index) => {
    const id = body.readUInt8(1 + index * 2);
    const [dc, ac] = nibblesOf(body.readUInt8(2 + index * 2));
    const component = required(frame.components.find((each) => each.id === id));
    return { ...component, dc: tables.get(dc), ac: tables.get(16 + ac) };
  });
  const spectralStart = frame.isProgressive ? body.readUInt8(1 + componentCount * 2) : 0;
  const spectralEnd = frame.isProgressive ? body.readUInt8(2 + componentCount * 2) : COEFFICIENTS - 1;
  const [approximationHigh] = nibblesOf(body.readUInt8(3 + componentCount * 2));
  if (componentCount === 0 || spectralEnd >= COEFFICIENTS) throw new BrokenScan();
  const isFirst = !frame.isProgressive || approximationHigh === 0;
  return { frame, components, isFirst, spectralStart, spectralEnd };
}

/**
 * @returns the offset after the data of the scan.
 * @param strayRanges receives the stray bytes before restart markers.
 */
function followScan(
  bytes: Buffer,
  offset: number,
  scan: Scan,
  restartInterval: number,
  strayRanges: ByteRange[],
): number {
  const [first, ...others] = scan.components;
  // A scan of one component stores its blocks one by one, without those that only complete an MCU (A.2.2).
  const alone = others.length === 0 ? required(first) : null;
  const unitCount = alone === null ? scan.frame.mcuCount : alone.blocksPerLine * alone.blocksPerColumn;
  const bits = new BitReader(bytes, offset);
  let followBlock = blockFollowerOf(scan, bits);
  for (let unit = 0; unit < unitCount; unit += 1) {
    if (restartInterval > 0 && unit > 0 && unit % restartInterval === 0) {
      const marker = required(nextMarker(bytes, bits.offset));
      if (marker.code !== FIRST_RESTART + ((unit / restartInterval - 1) % 8)) throw new BrokenScan();
      if (marker.startOffset > bits.offset) strayRanges.push([bits.offset, marker.startOffset]);
      bits.continueAt(marker.endOffset);
      followBlock = blockFollowerOf(scan, bits);
    }
    if (alone !== null) {
      const line = Math.floor(unit / alone.blocksPerLine);
      followBlock(alone, line * alone.storedPerLine + (unit % alone.blocksPerLine));
      continue;
    }
    const mcuLine = Math.floor(unit / scan.frame.mcusPerLine);
    const mcuColumn = unit % scan.frame.mcusPerLine;
    for (const component of scan.components) {
      const { across, down, storedPerLine } = component;
      for (let y = 0; y < down; y += 1)
        for (let x = 0; x < across; x += 1)
          followBlock(component, (mcuLine * down + y) * storedPerLine + mcuColumn * across + x);
    }
  }
  return bits.offset;
}

type BlockFollower = (component: ScanComponent, block: number) => void;

/** The state within one restart interval: reads the bits of a block as this kind of scan stores them. */
function blockFollowerOf({ frame, isFirst, spectralStart, spectralEnd }: Scan, bits: BitReader): BlockFollower {
  const followDc: BlockFollower = ({ dc }) => bits.skip(bits.symbolOf(dc));
  if (!frame.isProgressive) {
    return (component, block) => {
      followDc(component, block);
      for (let k = 1; k < COEFFICIENTS; k += 1) {
        const [run, size] = nibblesOf(bits.symbolOf(component.ac));
        if (size === 0 && run < 15) return;
        k += run;
        bits.skip(size);
      }
    };
  }
  if (spectralStart === 0) return isFirst ? followDc : () => bits.skip(1);
  /** The number of blocks, including this one, that have no new coefficients (the end-of-band run). */
  let endOfBandRun = 0;
  if (isFirst) {
    return ({ ac, nonzeroBits }, block) => {
      if (endOfBandRun > 0) {
        endOfBandRun -= 1;
        return;
      }
      for (let k = spectralStart; k <= spectralEnd; k += 1) {
        const [run, size] = nibblesOf(bits.symbolOf(ac));
        if (size === 0 && run < 15) {
          endOfBandRun = (1 << run) + bits.read(run) - 1;
          return;
        }
        k += run;
        bits.skip(size);
        if (size > 0) setNonzero(nonzeroBits, block, k);
      }
    };
  }
  return ({ ac, nonzeroBits }, block) => {
    let k = spectralStart;
    while (endOfBandRun === 0 && k <= spectralEnd) {
      const [run, size] = nibblesOf(bits.symbolOf(ac));
      if (size === 0 && run < 15) {
        endOfBandRun = (1 << run) + bits.read(run);
        break;
      }
      bits.skip(size);
      // Skips to the place of the new coefficient, past `run` zeros: each nonzero coefficient on the way has a
      // correction bit.
      for (let zeros = 0; k <= spectralEnd; k += 1) {
        if (isNonzero(nonzeroBits, block, k)) bits.skip(1);
        else if (zeros === run) break;
        else zeros += 1;
      }
      if (size > 0 && k <= spectralEnd) setNonzero(nonzeroBits, block, k);
      k += 1;
    }
    if (endOfBandRun === 0) return;
    for (; k <= spectralEnd; k += 1) if (isNonzero(nonzeroBits, block, k)) bits.skip(1);
    endOfBandRun -= 1;
  };
}

function isNonzero(nonzeroBits: Uint8Array, block: number, coefficient: number): boolean {
  return ((nonzeroBits[block * BLOCK_BYTES + (coefficient >> 3)] ?? 0) & (1 << (coefficient & 7))) !== 0;
}

function setNonzero(nonzeroBits: Uint8Array, block: number, coefficient: number): void {
  if (coefficient >= COEFFICIENTS) throw new BrokenScan();
  const place = block * BLOCK_BYTES + (coefficient >> 3);
  nonzeroBits[place] = (nonzeroBits[place] ?? 0) | (1 << (coefficient & 7));
}

/** Reads the bits of entropy-coded data (F.2.2.5), in which 0xff00 means 0xff and any other 0xff ends the data. */
class BitReader {
  readonly #bytes: Buffer;
  #offset: number;
  #current = 0;
  #bitsLeft = 0;

  constructor(bytes: Buffer, offset: number) {
    this.#bytes = bytes;
    this.#offset = offset;
  }

  /** The offset after the byte of the last bit. */
  get offset(): number {
    return this.#offset;
  }

  continueAt(offset: number): void {
    this.#offset = offset;
    this.#bitsLeft = 0;
  }

  read(count: number): number {
    let value = 0;
    for (let index = 0; index < count; index += 1) value = value * 2 + this.#bit();
    return value;
  }

  skip(count: number): void {
    for (let index = 0; index < count; index += 1) this.#bit();
  }

  symbolOf(table: HuffmanTable | undefined): number {
    const { firstCode, firstSymbol, countOfLength, symbols } = required(table);
    let code = 0;
    for (let length = 1; length <= CODE_BITS_MAX; length += 1) {
      code = code * 2 + this.#bit();
      const place = code - (firstCode[length] ?? 0);
      if (place < (countOfLength[length] ?? 0)) return symbols.readUInt8((firstSymbol[length] ?? 0) + place);
    }
    throw new BrokenScan();
  }

  #bit(): number {
    if (this.#bitsLeft === 0) this.#nextByte();
    this.#bitsLeft -= 1;
    return (this.#current >> this.#bitsLeft) & 1;
  }

  #nextByte(): void {
    this.#current = required(this.#bytes[this.#offset]);
    this.#offset += 1;
    this.#bitsLeft = 8;
    if (this.#current !== 0xff) return;
    while (this.#bytes[this.#offset] === 0xff) this.#offset += 1;
    if (this.#bytes[this.#offset] !== 0) throw new BrokenScan();
    this.#offset += 1;
  }
}

/** The high and the low four bits of a byte. */
function nibblesOf(byte: number): readonly [high: number, low: number] {
  return [byte >> 4, byte & 15];
}

function required<Value>(value: Value | null | undefined): Value {
  if (value === null || value === undefined) throw new BrokenScan();
  return value;
}
