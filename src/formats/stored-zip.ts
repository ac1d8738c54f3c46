/**
 * A zip archive without compression: weights do not compress, and readers can map stored bytes into memory. The same
 * entries give the same bytes. See APPNOTE.TXT 6.3.10 of PKWARE.
 *
 * This is our own writer because yazl, fflate and archiver cannot align an entry's data to 64 bytes, which PyTorch does
 * so that it can map its files.
 */
import { crc32 } from 'node:zlib';

export interface StoredZipEntry {
  /** ASCII, with `/` between folders. */
  readonly name: string;
  readonly data: Uint8Array;
}

const LOCAL_HEADER_BYTES = 30;
const CENTRAL_HEADER_BYTES = 46;
const END_BYTES = 22;
const EXTRA_HEADER_BYTES = 4;
/** PyTorch's own padding field: "FB". */
const PADDING_FIELD_ID = 0x4246;
/** 1980-01-01, the first day of zip's calendar. */
const DOS_DATE = 0x0021;
const MAX_BYTES = 0xffff_ffff;
const MAX_ENTRIES = 0xffff;

/**
 * @param alignment each entry's data begins at a multiple of this many bytes; 1 adds no padding.
 * @throws RangeError for a name that is duplicated or not a plain relative ASCII path, and if the archive would need
 * zip64 (4 GiB, 65,535 entries).
 */
export function writeStoredZip(entries: readonly StoredZipEntry[], alignment: number): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(alignment) || alignment < 1 || alignment > 4096)
    throw new RangeError(`Data cannot be aligned to ${alignment} bytes.`);
  if (entries.length > MAX_ENTRIES)
    throw new RangeError(`A zip without zip64 holds at most ${MAX_ENTRIES} entries, not ${entries.length}.`);
  const names = new Set<string>();
  let position = 0;
  const placed = entries.map(({ name, data }) => {
    if (!/^[\w.-]+(\/[\w.-]+)*$/.test(name) || name.split('/').includes('..'))
      throw new RangeError(`${JSON.stringify(name.slice(0, 100))} is not a plain relative path.`);
    if (names.has(name)) throw new RangeError(`Two entries are named ${name}.`);
    names.add(name);
    const headerOffset = position;
    const unpadded = headerOffset + LOCAL_HEADER_BYTES + name.length;
    const isAligned = unpadded % alignment === 0;
    // The padding is an extra field, which has its own header.
    const extraBytes = isAligned
      ? 0
      : EXTRA_HEADER_BYTES + ((alignment - ((unpadded + EXTRA_HEADER_BYTES) % alignment)) % alignment);
    const dataOffset = unpadded + extraBytes;
    position = dataOffset + data.byteLength;
    return { name, data, headerOffset, dataOffset, extraBytes };
  });
  const centralOffset = position;
  const centralBytes = placed.reduce((sum, { name }) => sum + CENTRAL_HEADER_BYTES + name.length, 0);
  if (centralOffset + centralBytes + END_BYTES > MAX_BYTES)
    throw new RangeError('A zip without zip64 must be smaller than 4 GiB.');

  const file = new Uint8Array(centralOffset + centralBytes + END_BYTES);
  const view = new DataView(file.buffer);
  const ascii = new TextEncoder();
  for (const place of placed) {
    const entry = { ...place, checksum: crc32(place.data) };
    const { headerOffset, extraBytes, name, data } = entry;
    view.setUint32(headerOffset, 0x04034b50, true);
    commonFields(view, headerOffset + 4, entry);
    view.setUint16(headerOffset + 28, extraBytes, true);
    ascii.encodeInto(name, file.subarray(headerOffset + LOCAL_HEADER_BYTES));
    if (extraBytes > 0) {
      const extraOffset = headerOffset + LOCAL_HEADER_BYTES + name.length;
      view.setUint16(extraOffset, PADDING_FIELD_ID, true);
      view.setUint16(extraOffset + 2, extraBytes - EXTRA_HEADER_BYTES, true);
      file.fill(0x5a, extraOffset + EXTRA_HEADER_BYTES, entry.dataOffset);
    }
    file.set(data, entry.dataOffset);
    view.setUint32(position, 0x02014b50, true);
    view.setUint16(position + 4, 20, true);
    commonFields(view, position + 6, entry);
    view.setUint32(position + 42, headerOffset, true);
    ascii.encodeInto(name, file.subarray(position + CENTRAL_HEADER_BYTES));
    position += CENTRAL_HEADER_BYTES + name.length;
  }
  view.setUint32(position, 0x06054b50, true);
  view.setUint16(position + 8, placed.length, true);
  view.setUint16(position + 10, placed.length, true);
  view.setUint32(position + 12, centralBytes, true);
  view.setUint32(position + 16, centralOffset, true);
  return file;
}

/** From "version needed" to "file name length": the same in the local and the central header. */
function commonFields(
  view: DataView,
  at: number,
  { name, data, checksum }: { name: string; data: Uint8Array; checksum: number },
): void {
  view.setUint16(at, 20, true);
  view.setUint16(at + 8, DOS_DATE, true);
  view.setUint32(at + 10, checksum, true);
  view.setUint32(at + 14, data.byteLength, true);
  view.setUint32(at + 18, data.byteLength, true);
  view.setUint16(at + 22, name.length, true);
}
