/**
 * Decoded images that are kept for later epochs: the first ones until the cache is full, and none is evicted. An epoch
 * visits every image once, so evicting the oldest image would always evict the one that is needed next, whereas this
 * cache serves the same fraction of every epoch.
 */
export interface PixelCache {
  /** The pixels. Throws an Error for an image that was not filled in. */
  get(id: number): Uint8Array;
  /** Whether a place was taken for the image, whose pixels come with a batch that is under way or came already. */
  has(id: number): boolean;
  /** Takes a place for an image that is about to be decoded, if there is room. */
  take(id: number): void;
  /** Copies the pixels, if a place was taken for them. */
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
