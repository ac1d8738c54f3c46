/** What a reading of images and a division of them need to know about an image of a sealed dataset version. */

export interface ManifestImage {
  /** Unique within the version. */
  readonly key: string;
  readonly label: string | null;
  /** Patient or slide; null if unknown. */
  readonly group: string | null;
  /** The split that the dataset came with (`train`, `test` ...). */
  readonly split: string | null;
  /** Index of the shard that holds it. */
  readonly shard: number;
  /** Its index among the images of that shard. */
  readonly indexInShard: number;
  /** Path within the imported folder; null in manifests without paths. */
  readonly sourcePath: string | null;
}

/**
 * Images in the order of a version, or some of them. One made of columns makes each image when it is asked for, so that
 * millions of images take the memory of their columns; an array of images is one too.
 */
export interface ManifestImages extends Iterable<ManifestImage> {
  readonly length: number;
  /** Undefined from `length` on. */
  at(place: number): ManifestImage | undefined;
}

/** Those at these places, in their order. */
export function imagesAt(images: ManifestImages, places: Int32Array): ManifestImages {
  return imageList(places.length, (place) => images.at(places[place] ?? images.length));
}

/** Those from this place on. */
export function imagesFrom(images: ManifestImages, firstPlace: number): ManifestImages {
  return imageList(Math.max(0, images.length - firstPlace), (place) => images.at(firstPlace + place));
}

/** @param imageAt makes the image at a place below `length`. */
export function imageList(length: number, imageAt: (place: number) => ManifestImage | undefined): ManifestImages {
  return {
    length,
    at: (place) => (place < length ? imageAt(place) : undefined),
    *[Symbol.iterator]() {
      for (let place = 0; place < length; place += 1) {
        const image = imageAt(place);
        if (image !== undefined) yield image;
      }
    },
  };
}

/**
 * What no split divides and every bootstrap resample draws whole: the group of the image or, if that is unknown, the
 * file that it comes from. Patches of one file thus stay together, and an evaluation states that groups are unknown.
 */
export function splitUnitOf({ group, sourcePath, key }: Pick<ManifestImage, 'group' | 'sourcePath' | 'key'>): string {
  return group ?? sourcePath ?? key;
}
