/** Rows of a manifest of many images that do not exist, with hashes as those of pictures of many scenes. Pure. */
import type { ManifestRow } from '../src/formats/manifest/index.ts';
import { TISSUE_LABELS } from '../src/synthetic/tissue.ts';
import { IMAGE_SIZE_PX, IMAGES_PER_GROUP } from './plan.ts';

/** Images of one scene: their perceptual hashes differ in up to four bits. */
const IMAGES_PER_SCENE = 10;
const DIGEST_WORDS = 8;

export const IMAGES_PER_SHARD = 10_000;

/** Of an image in its shard, in bytes. */
export interface PlaceInShard {
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** @param places of the images of every shard, `[IMAGES_PER_SHARD]`. */
export function rowOf(row: number, seed: number, places: readonly PlaceInShard[]): ManifestRow {
  const place = places[row % IMAGES_PER_SHARD];
  if (place === undefined) throw new RangeError(`There is no place for row ${row}.`);
  return {
    key: keyOf(row),
    ...hashesOf(row, seed),
    label: TISSUE_LABELS[row % TISSUE_LABELS.length] ?? null,
    group: groupOf(row),
    split: null,
    width: IMAGE_SIZE_PX,
    height: IMAGE_SIZE_PX,
    mediaType: 'image/jpeg',
    shard: Math.floor(row / IMAGES_PER_SHARD),
    byteOffset: place.byteOffset,
    byteLength: place.byteLength,
    sourcePath: `${groupOf(row)}/${keyOf(row)}.jpg`,
  };
}

export function keyOf(row: number): string {
  return String(row).padStart(9, '0');
}

export function groupOf(row: number): string {
  return `patient-${Math.floor(row / IMAGES_PER_GROUP)}`;
}

/** Digests differ between any two rows; perceptual hashes are near each other within a scene, and far otherwise. */
export function hashesOf(row: number, seed: number): { pixelDigest: Uint8Array; perceptualHash: Uint8Array } {
  const digest = Buffer.alloc(4 * DIGEST_WORDS);
  // The mixing is a bijection, so the first word alone differs between rows of one seed.
  for (let word = 0; word < DIGEST_WORDS; word += 1)
    digest.writeUInt32LE(mix(row + mix(seed * DIGEST_WORDS + word)), 4 * word);
  const scene = Math.floor(row / IMAGES_PER_SCENE);
  const hash = Buffer.alloc(8);
  hash.writeUInt32LE(mix(scene ^ mix(2 * seed + 1)), 0);
  hash.writeUInt32LE(mix(scene ^ mix(2 * seed + 7919)), 4);
  return { pixelDigest: digest, perceptualHash: withFlippedBits(hash, [mix(row), mix(row ^ 0x55555555)]) };
}

/** @param choices each flips one of the 63 bits that a perceptual hash has. */
export function withFlippedBits(hash: Uint8Array, choices: readonly number[]): Uint8Array {
  const flipped = Uint8Array.from(hash);
  for (const choice of choices) {
    const bit = 1 + (choice % 63);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  }
  // The mean of a picture has no bit.
  flipped[0] = (flipped[0] ?? 0) & 0b11111110;
  return flipped;
}

/** MurmurHash3's finaliser: a bijection of 32-bit words. */
function mix(word: number): number {
  let mixed = word | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
