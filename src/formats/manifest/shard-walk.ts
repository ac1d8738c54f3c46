/**
 * Lists the images of a shard: a plain tar file in WebDataset format, `{key}.jpg` beside `{key}.json`. Only headers are
 * read. tar-stream would read every byte of the archive, and accepts one without an end mark.
 */
import type { RandomAccess } from '../random-access.ts';
import { ManifestError } from './errors.ts';

/** Where the bytes of one image lie. */
export interface ShardImage {
  readonly key: string;
  readonly mediaType: string;
  readonly byteOffset: number;
  readonly byteLength: number;
}

const BLOCK_BYTES = 512;
/** Headers of small images lie close together, and are then read by one request. */
const WINDOW_BYTES = 32 * 1024;
/** A pax header holds a path and a few numbers; a larger one was not written by our packer. */
const PAX_BYTES_MAX = 64 * 1024;
const MEDIA_TYPES: ReadonlyMap<string, string> = new Map([
  ['jpg', 'image/jpeg'],
  ['jpeg', 'image/jpeg'],
  ['png', 'image/png'],
  ['webp', 'image/webp'],
]);

/**
 * The images in the order of the file. Members that are not images (`.json`) are left out.
 * @param name of the shard, for messages.
 * @throws ManifestError MANIFEST_SHARD_INVALID for a member or an end mark that is cut off, and for a bad checksum,
 * magic, size or type of member.
 */
export async function walkShard(file: RandomAccess, name: string): Promise<ShardImage[]> {
  const invalid = (what: string): ManifestError =>
    new ManifestError('MANIFEST_SHARD_INVALID', `The file of ${name} is not a sound tar file: ${what}.`);
  const read = windowOver(file);
  const images: ShardImage[] = [];
  let pax: ReadonlyMap<string, string> = new Map();
  let offset = 0;
  for (;;) {
    const header = await read(offset, BLOCK_BYTES);
    if (header.length < BLOCK_BYTES) throw invalid('it has no end mark');
    if (header.every((byte) => byte === 0)) {
      if (pax.size > 0) throw invalid(`an extended header without its member at byte ${offset}`);
      return images;
    }
    if (octalOf(header, 148, 8) !== checksumOf(header))
      throw invalid(`a header with a wrong checksum at byte ${offset}`);
    if (header.toString('latin1', 257, 262) !== 'ustar')
      throw invalid(`a header without the ustar magic at byte ${offset}`);
    const byteLength = sizeOf(header, pax);
    if (byteLength === null) throw invalid(`a size that is not a number at byte ${offset}`);
    const byteOffset = offset + BLOCK_BYTES;
    if (byteOffset + byteLength > file.byteSize)
      throw invalid(`a member of ${byteLength} bytes where ${file.byteSize - byteOffset} are left`);
    const memberType = header.toString('latin1', 156, 157);
    if (memberType === 'x') {
      if (byteLength > PAX_BYTES_MAX) throw invalid(`an extended header of ${byteLength} bytes`);
      const records = paxRecordsOf(Buffer.from(await file.read(byteOffset, byteLength)));
      if (records === null) throw invalid(`an extended header that does not parse at byte ${offset}`);
      pax = records;
    } else {
      if (memberType !== '0' && memberType !== '\0')
        throw invalid(`a member of type ${JSON.stringify(memberType)} at byte ${offset}`);
      const memberName = pax.get('path') ?? nameOf(header);
      pax = new Map();
      const dot = memberName.lastIndexOf('.');
      const mediaType = dot > 0 ? MEDIA_TYPES.get(memberName.slice(dot + 1).toLowerCase()) : undefined;
      if (mediaType !== undefined) images.push({ key: memberName.slice(0, dot), mediaType, byteOffset, byteLength });
    }
    offset = byteOffset + Math.ceil(byteLength / BLOCK_BYTES) * BLOCK_BYTES;
  }
}

/** Reads through a window, which moves when it does not hold the bytes. */
function windowOver(file: RandomAccess): (offset: number, length: number) => Promise<Buffer> {
  let window = Buffer.alloc(0);
  let windowStart = 0;
  return async (offset, length) => {
    if (offset < windowStart || offset + length > windowStart + window.length) {
      window = Buffer.from(await file.read(offset, Math.max(0, Math.min(WINDOW_BYTES, file.byteSize - offset))));
      windowStart = offset;
    }
    return window.subarray(offset - windowStart, offset - windowStart + length);
  };
}

function nameOf(header: Buffer): string {
  const name = textOf(header, 0, 100);
  const prefix = textOf(header, 345, 155);
  return prefix === '' ? name : `${prefix}/${name}`;
}

function textOf(header: Buffer, start: number, byteCount: number): string {
  const field = header.subarray(start, start + byteCount);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? byteCount : end);
}

function sizeOf(header: Buffer, pax: ReadonlyMap<string, string>): number | null {
  const paxSize = pax.get('size');
  if (paxSize === undefined) return octalOf(header, 124, 12);
  const size = /^\d+$/.test(paxSize) ? Number(paxSize) : null;
  return size !== null && Number.isSafeInteger(size) ? size : null;
}

/** The value of an octal field, or null for anything else, also a base-256 size above 8 GiB: shards are smaller. */
function octalOf(header: Buffer, start: number, byteCount: number): number | null {
  const text = header
    .toString('latin1', start, start + byteCount)
    .replace(/[\0 ]+$/, '')
    .trimStart();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : null;
}

/** The sum of a header's bytes with its checksum field read as blanks. */
function checksumOf(header: Buffer): number {
  let sum = 8 * 32;
  for (let index = 0; index < BLOCK_BYTES; index += 1) if (index < 148 || index >= 156) sum += header[index] ?? 0;
  return sum;
}

/** Records of `length key=value\n`, or null. */
function paxRecordsOf(records: Buffer): Map<string, string> | null {
  const parsed = new Map<string, string>();
  let start = 0;
  while (start < records.length) {
    const space = records.indexOf(0x20, start);
    const lengthText = space < 0 ? '' : records.toString('latin1', start, space);
    const length = /^\d{1,6}$/.test(lengthText) ? Number(lengthText) : 0;
    const end = start + length;
    const equals = records.indexOf(0x3d, space);
    if (end <= space || end > records.length || records[end - 1] !== 0x0a || equals < 0 || equals >= end) return null;
    parsed.set(records.toString('utf8', space + 1, equals), records.toString('utf8', equals + 1, end - 1));
    start = end;
  }
  return parsed;
}
