/** The manifest of a sealed dataset version: one JSON object a line, in the version's order. */
import { ImageDataError } from './errors.ts';

export interface ManifestImage {
  /** Unique within the version. */
  readonly key: string;
  /** Of the encoded bytes, lower-case hex. */
  readonly sha256: string;
  readonly label: string | null;
  /** Patient or slide; null if unknown. */
  readonly group: string | null;
  /** The split that the dataset came with (`train`, `test` ...). */
  readonly split: string | null;
  readonly width: number;
  readonly height: number;
  /** Index of the shard that holds it. */
  readonly shard: number;
  readonly byteSize: number;
  /** Path within the imported folder; null in manifests without paths. */
  readonly sourcePath: string | null;
  /** Top left corner of a patch within its upright source image, in pixels; null for a whole image. */
  readonly x: number | null;
  readonly y: number | null;
  /** Size of the image that a patch was cut from; null for a whole image. */
  readonly sourceWidth: number | null;
  readonly sourceHeight: number | null;
}

/**
 * What no split divides and every bootstrap resample draws whole: the group of the image or, if that is unknown, the
 * file that it comes from. Patches of one file thus stay together, and an evaluation states that groups are unknown.
 */
export function splitUnitOf({ group, sourcePath, key }: Pick<ManifestImage, 'group' | 'sourcePath' | 'key'>): string {
  return group ?? sourcePath ?? key;
}

/** Reads a whole manifest. Throws ImageDataError MANIFEST_INVALID (naming the line and field) or IMAGE_DUPLICATE. */
export function parseManifest(text: string): ManifestImage[] {
  const keys = new Set<string>();
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines.map((line, index) => {
    const image = parseLine(line, index + 1);
    const { key } = image;
    if (keys.has(key))
      throw new ImageDataError('IMAGE_DUPLICATE', `Line ${index + 1} of the manifest names ${key} again.`, { key });
    keys.add(key);
    return image;
  });
}

function parseLine(line: string, lineNumber: number): ManifestImage {
  const invalid = (what: string): ImageDataError =>
    new ImageDataError('MANIFEST_INVALID', `Line ${lineNumber} of the manifest: ${what}.`);
  const fields = fieldsOf(line);
  if (fields === null) throw invalid('it is not a JSON object');
  const text = (name: string): string => {
    const value = fields.get(name);
    if (typeof value !== 'string' || value === '') throw invalid(`${name} must be a text`);
    return value;
  };
  const textOrNull = (name: string): string | null => ((fields.get(name) ?? null) === null ? null : text(name));
  const count = (name: string): number => {
    const value = fields.get(name);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      throw invalid(`${name} must be an integer from 0`);
    return value;
  };
  const countOrNull = (name: string): number | null => ((fields.get(name) ?? null) === null ? null : count(name));
  const sha256 = text('sha256');
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw invalid('sha256 must be 64 hex digits');
  const group = textOrNull('group');
  const sourcePath = textOrNull('sourcePath');
  return {
    key: text('key'),
    sha256,
    label: textOrNull('label'),
    // Imports once stored the path of its own file for an image without a group.
    group: group === sourcePath ? null : group,
    split: textOrNull('split'),
    width: count('width'),
    height: count('height'),
    shard: count('shard'),
    byteSize: count('byteSize'),
    sourcePath,
    // Whole images have no position, nor have patches of versions that were sealed before positions were recorded.
    x: countOrNull('x'),
    y: countOrNull('y'),
    sourceWidth: countOrNull('sourceWidth'),
    sourceHeight: countOrNull('sourceHeight'),
  };
}

function fieldsOf(line: string): ReadonlyMap<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? new Map(Object.entries(value)) : null;
  } catch {
    return null;
  }
}
