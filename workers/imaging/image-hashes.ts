/**
 * The hashes of every image of a version, by which identical and similar images are found: 40 bytes per image, in the
 * order of the manifest.
 */
import { writeNpy } from '../../src/formats/npy.ts';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store/index.ts';

/** sha256 of the decoded pixels: RGB, 8 bits, row by row. */
export const PIXEL_DIGEST_BYTES = 32;
export const PERCEPTUAL_HASH_BYTES = 8;
export const IMAGE_HASH_BYTES = PIXEL_DIGEST_BYTES + PERCEPTUAL_HASH_BYTES;

export interface ImageHashWriter {
  /** Images come in the order of the manifest. */
  add(pixelDigest: Buffer, perceptualHash: Uint8Array): void;
  /** uint8 `[N, 40]` as .npy: 32 bytes of the sha256, then 8 of the perceptual hash. */
  store(artifacts: Pick<ArtifactStore, 'put'>): Promise<StoredBytes>;
}

/** Collected in memory: a million images take 40 MB. */
export function createImageHashWriter(): ImageHashWriter {
  let rows = new Uint8Array(1024 * IMAGE_HASH_BYTES);
  let count = 0;
  return {
    add: (pixelDigest, perceptualHash) => {
      if ((count + 1) * IMAGE_HASH_BYTES > rows.length) {
        const larger = new Uint8Array(2 * rows.length);
        larger.set(rows);
        rows = larger;
      }
      rows.set(pixelDigest, count * IMAGE_HASH_BYTES);
      rows.set(perceptualHash, count * IMAGE_HASH_BYTES + PIXEL_DIGEST_BYTES);
      count += 1;
    },
    store: (artifacts) =>
      artifacts.put(writeNpy({ shape: [count, IMAGE_HASH_BYTES], data: rows.slice(0, count * IMAGE_HASH_BYTES) })),
  };
}
