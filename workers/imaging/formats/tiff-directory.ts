/**
 * The directories of a TIFF or BigTIFF (TIFF 6.0; Adobe's Technical Notes; the BigTIFF proposal): tags, without pixels.
 */

/** The content of one image file directory. Its fields have the names of the specification. */
export interface TiffDirectory {
  readonly imageWidth: number;
  readonly imageLength: number;
  /** One value per sample. */
  readonly bitsPerSample: readonly number[];
  readonly compression: number;
  readonly photometricInterpretation: number | null;
  readonly samplesPerPixel: number;
  /** One value per sample: 1 unsigned, 2 signed, 3 IEEE floating point, 4 undefined, 5 and 6 complex. */
  readonly sampleFormat: readonly number[];
  /** 0 unspecified, 1 associated alpha, 2 unassociated alpha. */
  readonly extraSamples: readonly number[];
  readonly sMinSampleValue: readonly number[];
  readonly sMaxSampleValue: readonly number[];
  /** Bit flags: 1 reduced resolution, 2 page of several, 4 transparency mask. */
  readonly newSubfileType: number;
  readonly orientation: number;
  /** 1: the samples of a pixel are together; 2: separate planes. */
  readonly planarConfiguration: number;
  readonly isTiled: boolean;
  readonly inkSet: number;
  readonly imageDescription: string;
  readonly hasProfile: boolean;
  /** The first byte of the first strip or tile, and the end of the last; 0 if the file does not say. */
  readonly dataStart: number;
  readonly dataEnd: number;
  /** The index of the page among the directories of the file. */
  readonly page: number;
  /** The index of the SubIFD in that page; null for the page itself. */
  readonly subIfd: number | null;
}

/** A slide has dozens of directories, and a stack thousands; a chain with a loop has no end. */
const DIRECTORIES_MAX = 10_000;
const ENTRIES_MAX = 4096;
const VALUES_MAX = 64;
/** One strip per row, or tiles of 16 px, of the largest image. */
const STRIPS_MAX = 1024 * 1024;
const DESCRIPTION_BYTES_MAX = 1024 * 1024;

/** For each TIFF type its bytes and how to read one value; types that are not listed are skipped. */
const TYPE_BYTES: Readonly<Record<number, number>> = {
  ...{ 1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8 },
};

interface Reader {
  readonly bytes: Buffer;
  readonly isLittleEndian: boolean;
  readonly isBigTiff: boolean;
}

interface Entry {
  readonly type: number;
  readonly count: number;
  readonly valueOffset: number;
}

/**
 * Every directory of the chain, each followed by its SubIFDs.
 * @returns null if the header or the first directory does not parse, and TRUNCATED if that lies beyond the end; a chain
 * that breaks later ends there.
 */
export function readTiffDirectories(bytes: Buffer): TiffDirectory[] | 'TRUNCATED' | null {
  try {
    const isLittleEndian = bytes.toString('latin1', 0, 2) === 'II';
    const reader = { bytes, isLittleEndian, isBigTiff: uint(bytes, isLittleEndian, 2, 2) === 43 };
    const directories: TiffDirectory[] = [];
    const seen = new Set<number>();
    let next = reader.isBigTiff ? uint(bytes, isLittleEndian, 8, 8) : uint(bytes, isLittleEndian, 4, 4);
    if (next >= bytes.length) return 'TRUNCATED';
    for (let page = 0; next !== 0 && !seen.has(next) && directories.length < DIRECTORIES_MAX; page += 1) {
      seen.add(next);
      const found = readDirectory(reader, next, page, null);
      if (found === null) break;
      directories.push(found.directory);
      for (const [subIfd, offset] of found.subIfdOffsets.entries()) {
        const sub = seen.has(offset) ? null : readDirectory(reader, offset, page, subIfd);
        seen.add(offset);
        if (sub !== null) directories.push(sub.directory);
      }
      next = found.next;
    }
    return directories.length === 0 ? null : directories;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function readDirectory(reader: Reader, offset: number, page: number, subIfd: number | null) {
  try {
    const { entries, next } = readEntries(reader, offset);
    return { ...directoryOf(reader, entries, page, subIfd), next };
  } catch (error) {
    // Reads beyond the end throw RangeError.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function readEntries({ bytes, isLittleEndian, isBigTiff }: Reader, offset: number) {
  const [countBytes, entryBytes, wordBytes] = isBigTiff ? [8, 20, 8] : [2, 12, 4];
  const count = uint(bytes, isLittleEndian, offset, countBytes);
  if (count < 1 || count > ENTRIES_MAX) throw new RangeError(`A directory of ${count} entries.`);
  const entries = new Map<number, Entry>();
  for (let index = 0; index < count; index += 1) {
    const at = offset + countBytes + index * entryBytes;
    const tag = uint(bytes, isLittleEndian, at, 2);
    const type = uint(bytes, isLittleEndian, at + 2, 2);
    const valueCount = uint(bytes, isLittleEndian, at + 4, wordBytes);
    const isInline = (TYPE_BYTES[type] ?? 0) * valueCount <= wordBytes;
    const place = at + 4 + wordBytes;
    // Of two entries with the same tag the first counts, as in libtiff.
    if (!entries.has(tag))
      entries.set(tag, {
        type,
        count: valueCount,
        valueOffset: isInline ? place : uint(bytes, isLittleEndian, place, wordBytes),
      });
  }
  const nextAt = offset + countBytes + count * entryBytes;
  // A file that is cut off here still has this directory.
  const next = nextAt + wordBytes <= bytes.length ? uint(bytes, isLittleEndian, nextAt, wordBytes) : 0;
  return { entries, next };
}

function directoryOf(reader: Reader, entries: ReadonlyMap<number, Entry>, page: number, subIfd: number | null) {
  const numbers = (tag: number): number[] => valuesOf(reader, entries.get(tag));
  const number = (tag: number, otherwise: number): number => numbers(tag)[0] ?? otherwise;
  const samplesPerPixel = number(277, 1);
  const ofEach = (tag: number, otherwise: number): number[] => {
    const given = numbers(tag);
    return Array.from(
      { length: Math.min(samplesPerPixel, VALUES_MAX) },
      (_, index) => given[index] ?? given[0] ?? otherwise,
    );
  };
  const oldSubfileType = number(255, 1);
  const directory: TiffDirectory = {
    imageWidth: number(256, 0),
    imageLength: number(257, 0),
    bitsPerSample: ofEach(258, 1),
    compression: number(259, 1),
    photometricInterpretation: numbers(262)[0] ?? null,
    samplesPerPixel,
    sampleFormat: ofEach(339, 1),
    extraSamples: numbers(338),
    sMinSampleValue: numbers(340),
    sMaxSampleValue: numbers(341),
    newSubfileType: number(254, oldSubfileType === 2 ? 1 : 0),
    orientation: number(274, 1),
    planarConfiguration: number(284, 1),
    isTiled: entries.has(322),
    inkSet: number(332, 1),
    imageDescription: textOf(reader, entries.get(270)),
    hasProfile: entries.has(34675),
    ...dataRangeOf(reader, entries),
    ...{ page, subIfd },
  };
  return { directory, subIfdOffsets: numbers(330) };
}

/** Strips (273, 279) or tiles (324, 325). */
function dataRangeOf(reader: Reader, entries: ReadonlyMap<number, Entry>) {
  const offsets = entries.get(324) ?? entries.get(273);
  const byteCounts = entries.get(325) ?? entries.get(279);
  let dataEnd = 0;
  const count = Math.min(offsets?.count ?? 0, byteCounts?.count ?? 0, STRIPS_MAX);
  for (let index = 0; index < count; index += 1)
    dataEnd = Math.max(dataEnd, valueAt(reader, offsets, index) + valueAt(reader, byteCounts, index));
  return { dataStart: valueAt(reader, offsets, 0), dataEnd };
}

/** An unsigned integer of an entry; 0 if it has none. */
function valueAt({ bytes, isLittleEndian }: Reader, entry: Entry | undefined, index: number): number {
  const size = TYPE_BYTES[entry?.type ?? 0];
  return entry === undefined || size === undefined
    ? 0
    : uint(bytes, isLittleEndian, entry.valueOffset + index * size, size);
}

function valuesOf({ bytes, isLittleEndian }: Reader, entry: Entry | undefined): number[] {
  const size = TYPE_BYTES[entry?.type ?? 0];
  if (entry === undefined || size === undefined) return [];
  return Array.from({ length: Math.min(entry.count, VALUES_MAX) }, (_, index) => {
    const at = entry.valueOffset + index * size;
    switch (entry.type) {
      case 6:
        return bytes.readInt8(at);
      case 8:
        return isLittleEndian ? bytes.readInt16LE(at) : bytes.readInt16BE(at);
      case 9:
        return isLittleEndian ? bytes.readInt32LE(at) : bytes.readInt32BE(at);
      case 11:
        return isLittleEndian ? bytes.readFloatLE(at) : bytes.readFloatBE(at);
      case 12:
        return isLittleEndian ? bytes.readDoubleLE(at) : bytes.readDoubleBE(at);
      default:
        return uint(bytes, isLittleEndian, at, size);
    }
  });
}

function textOf({ bytes }: Reader, entry: Entry | undefined): string {
  if (entry?.type !== 2) return '';
  const end = entry.valueOffset + Math.min(entry.count, DESCRIPTION_BYTES_MAX);
  return bytes.toString('utf8', entry.valueOffset, end).replace(/\0[^]*$/, '');
}

function uint(bytes: Buffer, isLittleEndian: boolean, offset: number, size: number): number {
  if (size === 8) {
    const value = Number(isLittleEndian ? bytes.readBigUInt64LE(offset) : bytes.readBigUInt64BE(offset));
    if (!Number.isSafeInteger(value)) throw new RangeError('An offset beyond any file.');
    return value;
  }
  return isLittleEndian ? bytes.readUIntLE(offset, size) : bytes.readUIntBE(offset, size);
}
