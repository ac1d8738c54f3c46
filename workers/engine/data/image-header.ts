/**
 * The tar header before an image in a shard. Shards are plain tar files in WebDataset format, `{key}.jpg` beside
 * `{key}.json`, and the manifest says where the bytes of each image lie. The header lies just before them, so that
 * reading and comparing it costs no further read, and a wrong offset never becomes a wrong image.
 */
import { basename } from 'node:path';
import { ImageDataError } from './errors.ts';

export const HEADER_BYTES = 512;
/** In the header of a member whose name is in an extended header, as tar-stream writes it. */
const LONG_NAME = 'PaxHeader';
const IMAGE_EXTENSIONS: ReadonlySet<string> = new Set(['jpg', 'jpeg', 'png', 'webp']);

/** An image whose bytes are known to lie within the shard. */
export interface PlacedImage {
  readonly byteOffset: number;
  readonly byteSize: number;
  /** Null: unknown until the image is read. */
  readonly key: string | null;
}

/**
 * Compares the header before an image's bytes with what the manifest says about the image.
 *
 * @returns the key of the image; null if it is unknown and too long for the header.
 * @throws ImageDataError MANIFEST_INVALID (no image of this size is here) or IMAGE_MISSING (it is another image).
 */
export function checkImageHeader(
  header: Buffer,
  { byteOffset, byteSize, key }: PlacedImage,
  shardPath: string,
): string | null {
  const place = `byte ${byteOffset} of shard ${basename(shardPath)}`;
  const isHeader = readOctal(header, 148, 8) === checksumOf(header) && header.toString('latin1', 257, 262) === 'ustar';
  if (!isHeader || readOctal(header, 124, 12) !== byteSize)
    throw new ImageDataError(
      'MANIFEST_INVALID',
      `The manifest says that an image of ${byteSize} bytes begins at ${place}, and none does.`,
      { shardPath, key: key ?? undefined },
    );
  const name = nameOf(header);
  if (name === LONG_NAME) return key;
  const found = imageKeyOf(name);
  if (found === null || (key !== null && found !== key))
    throw new ImageDataError(
      'IMAGE_MISSING',
      `The manifest says that image ${key ?? ''} begins at ${place}, and ${JSON.stringify(name)} does.`,
      { shardPath, key: key ?? undefined },
    );
  return found;
}

/**
 * The key of an image member, or null for another kind of member. The last dot separates the extension, so that a key
 * may contain dots.
 */
function imageKeyOf(name: string): string | null {
  const dot = name.lastIndexOf('.');
  return dot > 0 && IMAGE_EXTENSIONS.has(name.slice(dot + 1).toLowerCase()) ? name.slice(0, dot) : null;
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

/** The value of an octal field, or null if it holds anything else. */
function readOctal(header: Buffer, start: number, byteCount: number): number | null {
  const text = header
    .toString('latin1', start, start + byteCount)
    .replace(/[\0 ]+$/, '')
    .trimStart();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : null;
}

/** The sum of a header's bytes with its checksum field read as blanks. */
function checksumOf(header: Buffer): number {
  let sum = 8 * 32;
  for (let index = 0; index < HEADER_BYTES; index += 1) if (index < 148 || index >= 156) sum += header[index] ?? 0;
  return sum;
}
