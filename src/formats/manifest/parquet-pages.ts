/**
 * Checks the pages of one column before they are decoded. The decoder trusts the counts in page headers and in
 * run-length encoding: a run of 2^30 values takes five bytes in a file, and eight gigabytes in memory.
 */
import { snappyUncompress } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { ManifestError } from './errors.ts';

export interface PageLimits {
  /** Rows of the row group. */
  readonly rowCount: number;
  readonly nullable: boolean;
  readonly isCompressed: boolean;
  readonly isBoolean: boolean;
}

/** The writer makes pages of 1 MB, plus one value. */
const PAGE_BYTES_MAX = 16 * 1024 * 1024;

/**
 * @throws ManifestError MANIFEST_UNREADABLE or MANIFEST_TOO_LARGE; whatever the decoder of headers throws for bytes
 * that are not a header.
 */
export function checkPages(
  bytes: Uint8Array<ArrayBuffer>,
  { rowCount, nullable, isCompressed, isBoolean }: PageLimits,
): void {
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length), offset: 0 };
  let rowsSeen = 0;
  while (rowsSeen < rowCount) {
    const header = parquetHeader(reader);
    const { compressed_page_size: storedBytes, uncompressed_page_size: fullBytes } = header;
    const start = reader.offset;
    const end = start + storedBytes;
    if (!(storedBytes >= 0 && end <= bytes.length && fullBytes >= 0)) throw damaged('a page lies outside its column');
    if (fullBytes > PAGE_BYTES_MAX)
      throw new ManifestError('MANIFEST_TOO_LARGE', `A page of the manifest states ${fullBytes} bytes.`);
    reader.offset = end;
    if (header.type === 'DICTIONARY_PAGE') {
      const count = header.dictionary_page_header?.num_values ?? -1;
      if (!(count >= 0 && count <= rowCount)) throw damaged(`a dictionary of ${count} values for ${rowCount} rows`);
      continue;
    }
    const page = header.data_page_header_v2;
    if (header.type !== 'DATA_PAGE_V2' || page === undefined) throw damaged(`a page of type ${header.type}`);
    const { num_values: count, num_nulls: nullCount, encoding } = page;
    const levelBytes = page.definition_levels_byte_length;
    if (!(count > 0 && count <= rowCount - rowsSeen && page.num_rows === count && nullCount >= 0 && nullCount <= count))
      throw damaged(`a page of ${count} values, ${nullCount} of them null, where ${rowCount - rowsSeen} rows are left`);
    if (
      page.repetition_levels_byte_length !== 0 ||
      !(levelBytes >= 0 && levelBytes <= Math.min(storedBytes, fullBytes))
    )
      throw damaged('a page whose levels lie outside it');
    if (nullable ? levelBytes === 0 : levelBytes !== 0 || nullCount !== 0) throw damaged('a page with wrong levels');
    if (nullable) checkRuns(bytes.subarray(start, start + levelBytes), 1, count);
    if (encoding === 'RLE_DICTIONARY' || (encoding === 'RLE' && isBoolean)) {
      const stored = bytes.subarray(start + levelBytes, end);
      const values = isCompressed && page.is_compressed !== false ? uncompress(stored, fullBytes - levelBytes) : stored;
      if (encoding === 'RLE') checkRuns(values.subarray(4), 1, count - nullCount);
      else if (count > nullCount) checkRuns(values.subarray(1), values[0] ?? 0, count - nullCount);
    } else if (encoding !== 'PLAIN') {
      throw damaged(`a page encoded as ${encoding}`);
    }
    rowsSeen += count;
  }
}

function uncompress(bytes: Uint8Array, byteSize: number): Uint8Array {
  const uncompressed = new Uint8Array(byteSize);
  snappyUncompress(bytes, uncompressed);
  return uncompressed;
}

/** Runs of the hybrid of run-length encoding and bit packing: together they have as many values as expected. */
function checkRuns(bytes: Uint8Array, bitWidth: number, valueCount: number): void {
  if (bitWidth > 32) throw damaged(`indexes of ${bitWidth} bits`);
  let offset = 0;
  let seen = 0;
  while (seen < valueCount) {
    let header = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[offset++];
      if (byte === undefined || shift > 28) throw damaged('a run that is cut short');
      header += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    const isBitPacked = header % 2 === 1;
    const count = Math.floor(header / 2);
    if (count === 0) throw damaged('a run without values');
    if (!isBitPacked && count > valueCount - seen)
      throw damaged(`a run of ${count} values where ${valueCount - seen} are left`);
    if (isBitPacked && count > Math.ceil((valueCount - seen) / 8))
      throw damaged(`${8 * count} packed values where ${valueCount - seen} are left`);
    seen += isBitPacked ? 8 * count : count;
    offset += isBitPacked ? count * bitWidth : Math.ceil(bitWidth / 8);
    // The last packed values of a page may lack the bytes that only padding would fill.
    if (offset > bytes.length + (isBitPacked ? bitWidth : 0)) throw damaged('a run that is cut short');
  }
}

function damaged(what: string): ManifestError {
  return new ManifestError('MANIFEST_UNREADABLE', `The manifest cannot be read: it has ${what}.`);
}
