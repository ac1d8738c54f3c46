/**
 * Decoded images that are kept for later epochs: the first ones until the cache is full, and none is evicted. An epoch
 * visits every image once, so evicting the oldest image would always evict the one that is needed next, whereas this
 * cache serves the same fraction of every epoch.
 */
export interface PixelCache {
  /** @returns the pixels. @throws Error for an image without pixels in the cache. */
  get(id: number): Uint8Array;
  /** Whether `take` reserved a place; the pixels are present or part of a batch that is being decoded. */
  has(id: number): boolean;
  /** Reserves a place for an image that is about to be decoded, if the cache is not full. */
  take(id: number): void;
  /** Copies the pixels, if a place was reserved for them. */
  fill(id: number, pixels: Uint8Array): void;
  clear(): void;
}

/** @param imageBytes of each image. */
export function createPixelCache(byteLimit: number, imageBytes: number): PixelCache {
  const kept = new Map<number, Uint8Array | null>();
  const imageLimit = Math.floor(byteLimit / imageBytes);
  return {
    get: (id) => {
      const pixels = kept.get(id) ?? null;
      if (pixels === null) throw new Error(`The cache holds no pixels of image ${id}.`);
      return pixels;
    },
    has: (id) => kept.has(id),
    take: (id) => {
      if (kept.size < imageLimit) kept.set(id, null);
    },
    fill: (id, pixels) => {
      if (kept.has(id)) kept.set(id, pixels.slice());
    },
    clear: () => kept.clear(),
  };
}
