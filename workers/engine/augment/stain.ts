/** Jitter of stains: haematoxylin, eosin and DAB in optical density, each image with its own factors. */
import { asRank4, scoped, tf, type Tensor4D } from '../tensorflow.ts';

/** What each stain (haematoxylin, eosin, DAB) is multiplied by, and what is added to its optical density. */
export interface StainJitter {
  readonly factors: StainTriple;
  readonly shifts: StainTriple;
}
export type StainTriple = readonly [haematoxylin: number, eosin: number, dab: number];

/** Optical density of red, green and blue for each stain (Ruifrok and Johnston 2001), as in scikit-image. */
const RGB_FROM_HED: Matrix3 = [
  [0.65, 0.7, 0.29],
  [0.07, 0.99, 0.11],
  [0.27, 0.57, 0.78],
];
type Matrix3 = readonly [StainTriple, StainTriple, StainTriple];
const HED_FROM_RGB = inverse(RGB_FROM_HED);
/** Darker values have no finite optical density. */
const INTENSITY_MIN = 1e-6;

/**
 * Multiplies and shifts the stains of images `[N, H, W, 3]` in 0..1, as Tellez et al. (2018, "Whole-slide mitosis
 * detection in H&E breast histology using PHH3 as a reference") do, and clips to 0..1. In optical density it is one
 * affine map for each image, so nothing is lost where a stain is negative. Null leaves an image unchanged; a batch of
 * nulls costs nothing.
 */
export function jitterStains(images: Tensor4D, jitters: readonly (StainJitter | null)[]): Tensor4D {
  if (jitters.every((jitter) => jitter === null)) return images.clone();
  return scoped(() => {
    const [imageCount, height, width] = images.shape;
    const maps = jitters.map((jitter) => mapOf(jitter ?? UNCHANGED));
    const densities = tf.neg(tf.log(tf.maximum(images, INTENSITY_MIN)));
    const mapped = tf.matMul(
      tf.reshape(densities, [imageCount, height * width, 3]),
      tf.tensor3d(
        maps.map(({ matrix }) => matrix.map((row) => [...row])),
        [imageCount, 3, 3],
      ),
    );
    const shifts = tf.tensor3d(
      maps.map(({ shift }) => [[...shift]]),
      [imageCount, 1, 3],
    );
    return asRank4(tf.clipByValue(tf.reshape(tf.exp(tf.neg(tf.add(mapped, shifts))), images.shape), 0, 1));
  });
}

const UNCHANGED: StainJitter = { factors: [1, 1, 1], shifts: [0, 0, 0] };

/** The map of a row of densities: times `matrix`, plus `shift`. */
function mapOf({ factors, shifts }: StainJitter): { readonly matrix: Matrix3; readonly shift: StainTriple } {
  const scaled = RGB_FROM_HED.map((row, stain) => row.map((value) => value * (factors[stain] ?? 1)));
  const cell = (row: number, column: number): number =>
    [0, 1, 2].reduce((sum, at) => sum + (HED_FROM_RGB[row]?.[at] ?? 0) * (scaled[at]?.[column] ?? 0), 0);
  const shift = (column: number): number =>
    [0, 1, 2].reduce((sum, at) => sum + (shifts[at] ?? 0) * (RGB_FROM_HED[at]?.[column] ?? 0), 0);
  const rowOf = (row: number): StainTriple => [cell(row, 0), cell(row, 1), cell(row, 2)];
  return { matrix: [rowOf(0), rowOf(1), rowOf(2)], shift: [shift(0), shift(1), shift(2)] };
}

/** By cofactors. */
function inverse(m: Matrix3): Matrix3 {
  const minor = (a: number, b: number, c: number, d: number): number => a * d - b * c;
  const [[a, b, c], [d, e, f], [g, h, i]] = m;
  const determinant = a * minor(e, f, h, i) - b * minor(d, f, g, i) + c * minor(d, e, g, h);
  return [
    [minor(e, f, h, i) / determinant, -minor(b, c, h, i) / determinant, minor(b, c, e, f) / determinant],
    [-minor(d, f, g, i) / determinant, minor(a, c, g, i) / determinant, -minor(a, c, d, f) / determinant],
    [minor(d, e, g, h) / determinant, -minor(a, b, g, h) / determinant, minor(a, b, d, e) / determinant],
  ];
}
