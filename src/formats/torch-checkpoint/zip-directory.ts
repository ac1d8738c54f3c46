/**
 * Reads the directory of a zip, strictly in the form that PyTorch writes: stored entries only, one disk, no comment;
 * everything that two readers could interpret differently is refused. APPNOTE.TXT 6.3, sections 4.3 and 4.4; zip64
 * included.
 */
import type { RandomAccess } from '../random-access.ts';
import { quoted, TorchCheckpointError } from './fault.ts';
import type { TorchCheckpointFault } from './fault.ts';
import type { TorchCheckpointLimits } from './limits.ts';
import { readExactly } from './read.ts';

export interface ZipEntry {
  readonly name: string;
  /** Offset of the content's first byte in the file. */
  readonly offset: number;
  readonly byteSize: number;
  /** 0 when the writer did not compute it, as PyTorch does on request. */
  readonly crc32: number;
}

interface CentralEntry {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly flags: number;
  readonly crc32: number;
  readonly byteSize: number;
  readonly headerOffset: number;
}

interface DirectoryPlace {
  readonly offset: number;
  readonly byteSize: number;
  readonly entryCount: number;
}

const END_BYTES = 22;
const LOCATOR_BYTES = 20;
const END64_BYTES = 56;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;
const UNKNOWN_16 = 0xffff;
const UNKNOWN_32 = 0xffffffff;
const FLAG_ENCRYPTED = 0x2041;
const FLAG_DESCRIPTOR = 0x0008;
const MAX_DIRECTORY_BYTES = 64 * 1024 * 1024;

/**
 * The entries by name, each checked against its local header; none overlaps another or the directory.
 * @throws TorchCheckpointError `ZIP_...`, `ENTRY_...`, TOO_MANY_ENTRIES or READ_SHORT.
 */
export async function readZipDirectory(
  source: RandomAccess,
  limits: TorchCheckpointLimits,
): Promise<Map<string, ZipEntry>> {
  const directory = await findDirectory(source);
  if (directory.entryCount > limits.maxEntries)
    throw fault(
      'TOO_MANY_ENTRIES',
      'zip',
      `The zip has ${directory.entryCount} entries, more than ${limits.maxEntries}.`,
    );
  if (directory.byteSize > MAX_DIRECTORY_BYTES)
    throw fault(
      'ZIP_INVALID',
      'zip',
      `The zip's directory takes ${directory.byteSize} bytes, more than ${MAX_DIRECTORY_BYTES}.`,
    );
  const central = parseDirectory(
    await readExactly(source, directory.offset, directory.byteSize, 'zip directory'),
    directory.entryCount,
  );
  const entries = new Map<string, ZipEntry>();
  let end = 0;
  let previous = '';
  for (const entry of central.toSorted((a, b) => a.headerOffset - b.headerOffset)) {
    if (entry.headerOffset < end)
      throw fault('ENTRY_OVERLAP', entry.name, `${quoted(entry.name)} begins inside ${quoted(previous)}.`);
    const offset = await contentOffset(source, entry, directory.offset);
    end = offset + entry.byteSize;
    previous = entry.name;
    entries.set(entry.name, { name: entry.name, offset, byteSize: entry.byteSize, crc32: entry.crc32 });
  }
  return entries;
}

async function findDirectory(source: RandomAccess): Promise<DirectoryPlace> {
  const tailBytes = Math.min(source.byteSize, END_BYTES + LOCATOR_BYTES + END64_BYTES);
  const tail = await readExactly(source, source.byteSize - tailBytes, tailBytes, 'end of the zip');
  const end = viewOf(tail, tailBytes - END_BYTES);
  if (end === undefined || end.getUint32(0, true) !== 0x06054b50)
    throw fault(
      'ZIP_END_MISSING',
      'end of the zip',
      'The zip does not end with its end record: it is truncated, or other bytes follow it.',
    );
  const invalid = (what: string): TorchCheckpointError =>
    fault('ZIP_INVALID', 'end of the zip', `The end of the zip ${what}.`);
  if (end.getUint16(20, true) !== 0) throw invalid('has a comment');
  if (end.getUint16(4, true) !== 0 || end.getUint16(6, true) !== 0) throw invalid('refers to more than one disk');
  const short = {
    entryCount: end.getUint16(10, true),
    byteSize: end.getUint32(12, true),
    offset: end.getUint32(16, true),
  };
  if (end.getUint16(8, true) !== short.entryCount) throw invalid('gives two different counts of its entries');

  const locator = viewOf(tail, tailBytes - END_BYTES - LOCATOR_BYTES);
  const hasLocator = locator !== undefined && locator.getUint32(0, true) === 0x07064b50;
  let place: DirectoryPlace = short;
  let placeEnd = source.byteSize - END_BYTES;
  if (hasLocator) {
    const record = viewOf(tail, tailBytes - END_BYTES - LOCATOR_BYTES - END64_BYTES);
    placeEnd = source.byteSize - END_BYTES - LOCATOR_BYTES - END64_BYTES;
    if (
      record === undefined ||
      record.getUint32(0, true) !== 0x06064b50 ||
      natural64(locator, 8) !== placeEnd ||
      natural64(record, 4) !== END64_BYTES - 12
    ) {
      throw invalid('has a zip64 locator without a zip64 record');
    }
    if (
      locator.getUint32(4, true) !== 0 ||
      locator.getUint32(16, true) !== 1 ||
      record.getUint32(16, true) !== 0 ||
      record.getUint32(20, true) !== 0
    )
      throw invalid('refers to more than one disk');
    place = { entryCount: natural64(record, 32), byteSize: natural64(record, 40), offset: natural64(record, 48) };
    if (natural64(record, 24) !== place.entryCount) throw invalid('gives two different counts of its entries');
    const agree = (small: number, unknown: number, large: number): boolean => small === unknown || small === large;
    if (
      !agree(short.entryCount, UNKNOWN_16, place.entryCount) ||
      !agree(short.byteSize, UNKNOWN_32, place.byteSize) ||
      !agree(short.offset, UNKNOWN_32, place.offset)
    ) {
      throw invalid('has different values in its 32-bit and 64-bit fields');
    }
  } else if (short.entryCount === UNKNOWN_16 || short.byteSize === UNKNOWN_32 || short.offset === UNKNOWN_32)
    throw invalid('needs a zip64 record but has none');
  if (place.offset + place.byteSize !== placeEnd)
    throw invalid(
      `puts the directory at ${place.offset} to ${place.offset + place.byteSize}, but it must end at ${placeEnd}`,
    );
  return place;
}

function parseDirectory(bytes: Uint8Array, entryCount: number): CentralEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries: CentralEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  for (let index = 0; index < entryCount; index += 1) {
    const invalid = (what: string): TorchCheckpointError =>
      fault('ZIP_INVALID', `zip directory, entry ${index}`, `Entry ${index} of the zip's directory ${what}.`);
    if (at + CENTRAL_BYTES > bytes.length || view.getUint32(at, true) !== 0x02014b50) throw invalid('is not there');
    const nameLength = view.getUint16(at + 28, true);
    const extraLength = view.getUint16(at + 30, true);
    const commentLength = view.getUint16(at + 32, true);
    const extraStart = at + CENTRAL_BYTES + nameLength;
    const next = extraStart + extraLength + commentLength;
    if (next > bytes.length) throw invalid('reaches past the directory');
    const nameBytes = bytes.subarray(at + CENTRAL_BYTES, extraStart);
    const name = entryName(nameBytes, index);
    if (names.has(name)) throw fault('ENTRY_DUPLICATE', name, `Two entries are named ${quoted(name)}.`);
    names.add(name);
    const flags = view.getUint16(at + 8, true);
    if ((flags & FLAG_ENCRYPTED) !== 0) throw fault('ENTRY_ENCRYPTED', name, `${quoted(name)} is encrypted.`);
    if (view.getUint16(at + 10, true) !== 0) throw compressedEntry(name);
    if (view.getUint16(at + 34, true) !== 0) throw invalid('is on another disk');
    const wide = zip64Fields(view, extraStart, extraLength, [
      view.getUint32(at + 24, true),
      view.getUint32(at + 20, true),
      view.getUint32(at + 42, true),
    ]);
    if (wide === undefined) throw invalid('needs a zip64 field but has none');
    const [byteSize, storedByteSize, headerOffset] = wide;
    if (byteSize !== storedByteSize)
      throw fault(
        'ENTRY_SIZES_DIFFER',
        name,
        `${quoted(name)} is not compressed, but takes ${storedByteSize} bytes instead of ${byteSize}.`,
      );
    entries.push({ name, nameBytes, flags, crc32: view.getUint32(at + 16, true), byteSize, headerOffset });
    at = next;
  }
  if (at !== bytes.length)
    throw fault(
      'ZIP_INVALID',
      'zip directory',
      `The zip's directory has ${bytes.length - at} bytes after its last entry.`,
    );
  return entries;
}

/** The error for a compressed entry: PyTorch stores a checkpoint's entries uncompressed. */
function compressedEntry(name: string): TorchCheckpointError {
  if (/^[^/]+\/code\//.test(name)) return torchScript(name);
  if (/^[^/]+\/(?:data\.pkl|version|byteorder|\.data\/.*|data\/.*)$/.test(name))
    return fault('ENTRY_COMPRESSED', name, `${quoted(name)} is compressed, but PyTorch does not compress its entries.`);
  return fault(
    'NOT_A_CHECKPOINT',
    name,
    `The file is a zip that holds ${quoted(name)}, not a checkpoint of PyTorch: unpack it and import the file of weights.`,
  );
}

export function torchScript(place: string): TorchCheckpointError {
  return fault(
    'TORCHSCRIPT_UNSUPPORTED',
    place,
    'The file is a TorchScript program, not a checkpoint: save its state_dict() instead.',
  );
}

/** Size, stored size and header offset, each from the zip64 field if its 32-bit value requires it. */
function zip64Fields(
  view: DataView,
  start: number,
  length: number,
  short: readonly [number, number, number],
): [number, number, number] | undefined {
  const end = start + length;
  let wideAt = -1;
  let wideEnd = -1;
  for (let at = start; at + 4 <= end; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) !== 1) continue;
    wideAt = at + 4;
    wideEnd = Math.min(end, wideAt + view.getUint16(at + 2, true));
    break;
  }
  const fields: [number, number, number] = [...short];
  for (let index = 0; index < 3; index += 1) {
    if (fields[index] !== UNKNOWN_32) continue;
    if (wideAt < 0 || wideAt + 8 > wideEnd) return undefined;
    fields[index] = natural64(view, wideAt);
    wideAt += 8;
  }
  return fields;
}

function entryName(bytes: Uint8Array, index: number): string {
  const place = `zip directory, entry ${index}`;
  let name: string;
  try {
    name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw fault('ENTRY_NAME_INVALID', place, `The name of entry ${index} is not UTF-8.`, { cause });
  }
  const odd = name === '' || name.startsWith('/') || /[\0\\]/.test(name) || name.split('/').includes('..');
  if (odd) throw fault('ENTRY_NAME_INVALID', place, `An entry cannot be named ${quoted(name)}.`);
  return name;
}

/** The offset of the content, from the local header, which must agree with the directory. */
async function contentOffset(source: RandomAccess, entry: CentralEntry, directoryOffset: number): Promise<number> {
  const { name, nameBytes, headerOffset } = entry;
  const outside = (): TorchCheckpointError =>
    fault('ENTRY_OUT_OF_RANGE', name, `${quoted(name)} reaches past the content of the zip.`);
  const headerBytes = LOCAL_BYTES + nameBytes.length;
  if (headerOffset + headerBytes > directoryOffset) throw outside();
  const header = await readExactly(source, headerOffset, headerBytes, name);
  const view = new DataView(header.buffer, header.byteOffset, header.length);
  const differs = (what: string): TorchCheckpointError =>
    fault(
      'ENTRY_HEADERS_DIFFER',
      name,
      `The ${what} of ${quoted(name)} differs between its header and the zip's directory.`,
    );
  if (view.getUint32(0, true) !== 0x04034b50) throw differs('beginning');
  if (view.getUint16(6, true) !== entry.flags) throw differs('set of flags');
  if (view.getUint16(8, true) !== 0) throw differs('compression');
  if (
    view.getUint16(26, true) !== nameBytes.length ||
    !nameBytes.every((byte, index) => byte === header[LOCAL_BYTES + index])
  )
    throw differs('name');
  const follows = (entry.flags & FLAG_DESCRIPTOR) !== 0;
  const agrees = (value: number, declared: number, mayBeWide: boolean): boolean =>
    value === declared || (follows && value === 0) || (mayBeWide && value === UNKNOWN_32);
  if (!agrees(view.getUint32(14, true), entry.crc32, false)) throw differs('checksum');
  if (
    !agrees(view.getUint32(18, true), entry.byteSize, true) ||
    !agrees(view.getUint32(22, true), entry.byteSize, true)
  )
    throw differs('size');
  const offset = headerOffset + headerBytes + view.getUint16(28, true);
  if (offset + entry.byteSize > directoryOffset) throw outside();
  return offset;
}

function viewOf(bytes: Uint8Array, offset: number): DataView | undefined {
  return offset < 0 ? undefined : new DataView(bytes.buffer, bytes.byteOffset + offset, bytes.length - offset);
}

/** A u64; a value too large for an exact number is still larger than any file, so the bounds check refuses it. */
function natural64(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

function fault(
  code: TorchCheckpointFault,
  place: string,
  message: string,
  options?: ErrorOptions,
): TorchCheckpointError {
  return new TorchCheckpointError(code, place, message, options);
}
