/**
 * The digest of a version under the rule PIXELS: what the images are, not how they are encoded. An update of an image
 * library that compresses the same pixels to other bytes does not change it.
 *
 * It is the sha256 of the line `paraffin dataset version 2\n`, followed by this for each image in the order of the
 * version: the 32 bytes of its pixel digest; its width and height; its label, its group and its split. A number is an
 * unsigned 32-bit integer, little-endian. A text is the number of its UTF-8 bytes, then these bytes; null is the number
 * 4294967295 alone. Nothing else enters: neither file names, nor offsets, nor perceptual hashes.
 */
import { createHash } from 'node:crypto';
import type { Columns, Manifest } from './index.ts';
import { PIXEL_DIGEST_BYTES } from './schema.ts';

export interface DescribedImage {
  /** 32 bytes. */
  readonly pixelDigest: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly label: string | null;
  readonly group: string | null;
  readonly split: string | null;
}

export interface VersionDigest {
  /** Images come in the order of the version. */
  add(image: DescribedImage): void;
  /** Lower-case hex. Called once. */
  finish(): string;
}

const PREFIX = 'paraffin dataset version 2\n';
const NULL_LENGTH = 2 ** 32 - 1;

export function createVersionDigest(): VersionDigest {
  const hash = createHash('sha256').update(PREFIX, 'latin1');
  const integer = Buffer.alloc(4);
  const addInteger = (value: number): void => {
    integer.writeUInt32LE(value);
    hash.update(integer);
  };
  const addText = (text: string | null): void => {
    if (text === null) return addInteger(NULL_LENGTH);
    addInteger(Buffer.byteLength(text, 'utf8'));
    hash.update(text, 'utf8');
  };
  return {
    add: ({ pixelDigest, width, height, label, group, split }) => {
      if (pixelDigest.length !== PIXEL_DIGEST_BYTES) throw new RangeError('A pixel digest has 32 bytes.');
      hash.update(pixelDigest);
      addInteger(width);
      addInteger(height);
      addText(label);
      addText(group);
      addText(split);
    },
    finish: () => hash.digest('hex'),
  };
}

const DESCRIBING = ['pixelDigest', 'width', 'height', 'label', 'group', 'split'] as const;

/** The digest of the images that a manifest lists, read row group by row group. Throws ManifestError. */
export async function versionDigestOf(manifest: Manifest): Promise<string> {
  const digest = createVersionDigest();
  for await (const { rowCount, columns } of manifest.rows(DESCRIBING))
    for (let row = 0; row < rowCount; row += 1) digest.add(describedImage(columns, row));
  return digest.finish();
}

function describedImage(columns: Columns<(typeof DESCRIBING)[number]>, row: number): DescribedImage {
  return {
    pixelDigest: columns.pixelDigest.subarray(row * PIXEL_DIGEST_BYTES, (row + 1) * PIXEL_DIGEST_BYTES),
    width: columns.width[row] ?? 0,
    height: columns.height[row] ?? 0,
    label: columns.label.at(row),
    group: columns.group.at(row),
    split: columns.split.at(row),
  };
}
