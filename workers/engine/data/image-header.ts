/**
 * The tar header before an image in a shard. Shards are plain tar files in WebDataset format, `{key}.jpg` beside
 * `{key}.json`, and the manifest says where the bytes of each image lie. The header lies just before them, so that
 * reading and comparing it costs no further read, and a wrong offset never becomes a wrong image.
 */
import { basename } from 'node:path';
import { splitTarName, tarHeaderFault, tarNameOf, tarSizeOf } from '../../../src/formats/tar-header.ts';
import { ImageDataError } from './errors.ts';

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
  if (tarHeaderFault(header) !== null || tarSizeOf(header) !== byteSize)
    throw new ImageDataError(
      'MANIFEST_INVALID',
      `The manifest says that an image of ${byteSize} bytes begins at ${place}, and none does.`,
      { shardPath, key: key ?? undefined },
    );
  const name = tarNameOf(header);
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

/** The key of an image member, or null for another kind of member. */
function imageKeyOf(name: string): string | null {
  const member = splitTarName(name);
  return member !== null && IMAGE_EXTENSIONS.has(member.extension) ? member.key : null;
}
