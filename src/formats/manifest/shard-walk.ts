/**
 * Lists the images of a shard: a plain tar file in WebDataset format, `{key}.jpg` beside `{key}.json`. Only headers are
 * read. tar-stream would read every byte of the archive, and accepts one without an end mark.
 */
import type { RandomAccess } from '../random-access.ts';
import { splitTarName, TAR_BLOCK_BYTES, tarHeaderFault, tarNameOf, tarSizeOf } from '../tar-header.ts';
import { ManifestError } from './errors.ts';

/** Where the bytes of one image lie. */
export interface ShardImage {
  readonly key: string;
  readonly mediaType: string;
  readonly byteOffset: number;
  readonly byteLength: number;
}

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
    const header = await read(offset, TAR_BLOCK_BYTES);
    if (header.length < TAR_BLOCK_BYTES) throw invalid('it has no end mark');
    if (header.every((byte) => byte === 0)) {
      if (pax.size > 0) throw invalid(`an extended header without its member at byte ${offset}`);
      return images;
    }
    const fault = tarHeaderFault(header);
    if (fault === 'CHECKSUM') throw invalid(`a header with a wrong checksum at byte ${offset}`);
    if (fault === 'MAGIC') throw invalid(`a header without the ustar magic at byte ${offset}`);
    const byteLength = sizeOf(header, pax);
    if (byteLength === null) throw invalid(`a size that is not a number at byte ${offset}`);
    const byteOffset = offset + TAR_BLOCK_BYTES;
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
      const member = splitTarName(pax.get('path') ?? tarNameOf(header));
      pax = new Map();
      const mediaType = member === null ? undefined : MEDIA_TYPES.get(member.extension);
      if (member !== null && mediaType !== undefined)
        images.push({ key: member.key, mediaType, byteOffset, byteLength });
    }
    offset = byteOffset + Math.ceil(byteLength / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
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

function sizeOf(header: Buffer, pax: ReadonlyMap<string, string>): number | null {
  const paxSize = pax.get('size');
  if (paxSize === undefined) return tarSizeOf(header);
  const size = /^\d+$/.test(paxSize) ? Number(paxSize) : null;
  return size !== null && Number.isSafeInteger(size) ? size : null;
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
