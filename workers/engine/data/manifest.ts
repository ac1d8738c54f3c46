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
 * What no split divides and every bootstrap resample draws whole: the group of the image or, if that is unknown, the
 * file that it comes from. Patches of one file thus stay together, and an evaluation states that groups are unknown.
 */
export function splitUnitOf({ group, sourcePath, key }: Pick<ManifestImage, 'group' | 'sourcePath' | 'key'>): string {
  return group ?? sourcePath ?? key;
}
