/**
 * Stain normalisation: how a slide is stained is estimated once from a sample of its pixels, and every patch is mapped
 * to a fixed reference stain. Pure. Held to torchstain and HistomicsTK in test/golden/stain.test.ts.
 */
import { UnreachableCaseError } from '../../../src/errors.ts';
import type { StainNormalisation } from '../../../src/protocol/slide-options.ts';
import type { Pixels } from '../pixels.ts';

export type Triple = readonly [number, number, number];

interface MacenkoStain {
  readonly method: 'MACENKO';
  /** Optical density of red, green and blue for one unit of each stain; unit vectors. */
  readonly haematoxylin: Triple;
  readonly eosin: Triple;
  /** The 99th percentile of the amount of each. */
  readonly amounts: readonly [number, number];
}

/** Mean and standard deviation of the three channels of l alpha beta. */
interface ReinhardStain {
  readonly method: 'REINHARD';
  readonly means: Triple;
  readonly deviations: Triple;
}

/** How a slide is stained. */
export type Stain = MacenkoStain | ReinhardStain;

/** Of the method's authors (their MATLAB code), which torchstain and others have taken over. */
const MACENKO_REFERENCE: MacenkoStain = {
  method: 'MACENKO',
  haematoxylin: [0.5626, 0.7201, 0.4062],
  eosin: [0.2159, 0.8012, 0.5581],
  amounts: [1.9705, 1.0308],
};
/** Of TCGA-A2-A3XS-DX1 (Amgad et al. 2019), the reference of HistomicsTK. */
const REINHARD_REFERENCE: ReinhardStain = {
  method: 'REINHARD',
  means: [8.74108109, -0.12440419, 0.0444982],
  deviations: [0.6135447, 0.10989545, 0.0286032],
};

/** Light that passes where there is no tissue, and the optical density below which a pixel counts as none. */
const [WHITE, DENSITY_MIN] = [240, 0.15];
/** Fewer pixels of tissue say too little about a stain. */
const TISSUE_PIXELS_MIN = 1000;
/** Directions less than 4 degrees apart are one stain, whose noise would be spread to two; the reference's are 22. */
const COSINE_MAX = 0.9976;

/**
 * @param samples images of the same slide, taken together.
 * @returns null if they hold too little tissue, or only one stain.
 */
export function estimateStain(method: Exclude<StainNormalisation, 'NONE'>, samples: readonly Pixels[]): Stain | null {
  switch (method) {
    case 'MACENKO':
      return estimateMacenko(samples);
    case 'REINHARD':
      return estimateReinhard(samples);
    default:
      throw new UnreachableCaseError(method);
  }
}

/** The image as if its slide were stained as the reference. */
export function normaliseStain(image: Pixels, stain: Stain): Pixels {
  const map = stain.method === 'MACENKO' ? macenkoMap(stain) : reinhardMap(stain);
  const data = Buffer.allocUnsafe(image.data.length);
  const out = new Float64Array(3);
  for (let at = 0; at < data.length; at += 3) {
    map(image.data[at] ?? 0, image.data[at + 1] ?? 0, image.data[at + 2] ?? 0, out);
    for (let channel = 0; channel < 3; channel += 1)
      data[at + channel] = Math.min(255, Math.max(0, Math.round(out[channel] ?? 0)));
  }
  return { ...image, data };
}

type PixelMap = (red: number, green: number, blue: number, out: Float64Array) => void;

/** Optical density of each 8-bit value; 1 is added so that 0 has one. */
const DENSITIES = Float64Array.from({ length: 256 }, (_, value) => -Math.log((value + 1) / WHITE));

/**
 * Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis": the stains are the
 * robust extremes (1st and 99th percentile of the angle) in the plane of the two main directions of optical density.
 */
function estimateMacenko(samples: readonly Pixels[]): MacenkoStain | null {
  const tissue: number[] = [];
  for (const { data } of samples)
    for (let at = 0; at < data.length; at += 3) {
      const [red, green, blue] = densitiesAt(data, at);
      if (red >= DENSITY_MIN && green >= DENSITY_MIN && blue >= DENSITY_MIN) tissue.push(red, green, blue);
    }
  if (tissue.length < 3 * TISSUE_PIXELS_MIN) return null;
  const { values, vectors } = eigenOf(covarianceOf(tissue));
  const [largest, second] = vectors;
  // Pixels on a line have one stain, whose two extremes would be noise.
  if (values[1] < 1e-6 * values[0]) return null;
  // Densities are positive, so with the largest direction positive no angle crosses -pi.
  const main = dot(largest, [1, 1, 1]) < 0 ? negated(largest) : largest;
  const angles = new Float64Array(tissue.length / 3);
  for (let pixel = 0; pixel < angles.length; pixel += 1) {
    const density = [tissue[3 * pixel] ?? 0, tissue[3 * pixel + 1] ?? 0, tissue[3 * pixel + 2] ?? 0] as const;
    angles[pixel] = Math.atan2(dot(density, main), dot(density, second));
  }
  angles.sort();
  const directionAt = (percent: number): Triple => {
    const angle = percentileOf(angles, percent);
    const [along, across] = [Math.sin(angle), Math.cos(angle)];
    const channel = (k: 0 | 1 | 2): number => across * second[k] + along * main[k];
    return [channel(0), channel(1), channel(2)];
  };
  const [first, last] = [directionAt(1), directionAt(99)];
  if (dot(first, last) > COSINE_MAX) return null;
  // Haematoxylin absorbs more red than eosin does.
  const [haematoxylin, eosin] = first[0] > last[0] ? [first, last] : [last, first];
  const unmix = unmixing(haematoxylin, eosin);
  const pixelCount = samples.reduce((sum, { data }) => sum + data.length / 3, 0);
  const amounts = [new Float64Array(pixelCount), new Float64Array(pixelCount)] as const;
  let pixel = 0;
  for (const { data } of samples)
    for (let at = 0; at < data.length; at += 3, pixel += 1) {
      const density = densitiesAt(data, at);
      amounts[0][pixel] = dot(unmix[0], density);
      amounts[1][pixel] = dot(unmix[1], density);
    }
  const [most, mostEosin] = amounts.map((each) => percentileOf(each.sort(), 99));
  if (most === undefined || mostEosin === undefined || !(most > 0) || !(mostEosin > 0)) return null;
  return { method: 'MACENKO', haematoxylin, eosin, amounts: [most, mostEosin] };
}

/** One 3 x 3 matrix of optical densities: unmix, scale the amounts, mix as the reference. */
function macenkoMap({ haematoxylin, eosin, amounts }: MacenkoStain): PixelMap {
  const unmix = unmixing(haematoxylin, eosin);
  const reference = MACENKO_REFERENCE;
  const scales = [reference.amounts[0] / amounts[0], reference.amounts[1] / amounts[1]] as const;
  const matrix = Float64Array.from({ length: 9 }, (_, cell) => {
    const [row, column] = [Math.floor(cell / 3), cell % 3];
    return (
      (reference.haematoxylin[row] ?? 0) * scales[0] * (unmix[0][column] ?? 0) +
      (reference.eosin[row] ?? 0) * scales[1] * (unmix[1][column] ?? 0)
    );
  });
  return (red, green, blue, out) => {
    const [r, g, b] = [DENSITIES[red] ?? 0, DENSITIES[green] ?? 0, DENSITIES[blue] ?? 0];
    for (let row = 0; row < 3; row += 1)
      out[row] =
        WHITE *
        Math.exp(-((matrix[3 * row] ?? 0) * r + (matrix[3 * row + 1] ?? 0) * g + (matrix[3 * row + 2] ?? 0) * b));
  };
}

/** The pseudo-inverse of the two stains, `[2, 3]`: the amount of each by least squares. */
function unmixing(a: Triple, b: Triple): readonly [Triple, Triple] {
  const [aa, ab, bb] = [dot(a, a), dot(a, b), dot(b, b)];
  const determinant = aa * bb - ab * ab;
  const row = (own: Triple, ownSquare: number, other: Triple): Triple => [
    (ownSquare * own[0] - ab * other[0]) / determinant,
    (ownSquare * own[1] - ab * other[1]) / determinant,
    (ownSquare * own[2] - ab * other[2]) / determinant,
  ];
  return [row(a, bb, b), row(b, aa, a)];
}

/** Of light to the cones of the eye, and their logarithms to l alpha beta (Ruderman et al. 1998). */
const LMS_FROM_RGB: Matrix3 = [
  [0.3811, 0.5783, 0.0402],
  [0.1967, 0.7244, 0.0782],
  [0.0241, 0.1288, 0.8444],
];
const LAB_FROM_LOG_LMS: Matrix3 = [
  [1 / Math.sqrt(3), 1 / Math.sqrt(3), 1 / Math.sqrt(3)],
  [1 / Math.sqrt(6), 1 / Math.sqrt(6), -2 / Math.sqrt(6)],
  [1 / Math.sqrt(2), -1 / Math.sqrt(2), 0],
];
type Matrix3 = readonly [Triple, Triple, Triple];

function labOf(red: number, green: number, blue: number): Triple {
  const rgb: Triple = [red, green, blue];
  const logLms: Triple = [
    logOf(dot(LMS_FROM_RGB[0], rgb)),
    logOf(dot(LMS_FROM_RGB[1], rgb)),
    logOf(dot(LMS_FROM_RGB[2], rgb)),
  ];
  return product(LAB_FROM_LOG_LMS, logLms);
}

/** Black has no logarithm; HistomicsTK takes the least difference from 1 instead. */
function logOf(value: number): number {
  return Math.log(value === 0 ? Number.EPSILON : value);
}

/** Reinhard et al. 2001, "Color transfer between images", over the pixels of tissue. */
function estimateReinhard(samples: readonly Pixels[]): ReinhardStain | null {
  let count = 0;
  const [sums, squares] = [new Float64Array(3), new Float64Array(3)];
  for (const { data } of samples)
    for (let at = 0; at < data.length; at += 3) {
      if (densitiesAt(data, at).some((density) => density < DENSITY_MIN)) continue;
      const lab = labOf(data[at] ?? 0, data[at + 1] ?? 0, data[at + 2] ?? 0);
      count += 1;
      for (const [channel, value] of lab.entries()) {
        sums[channel] = (sums[channel] ?? 0) + value;
        squares[channel] = (squares[channel] ?? 0) + value * value;
      }
    }
  if (count < TISSUE_PIXELS_MIN) return null;
  const mean = (channel: number): number => (sums[channel] ?? 0) / count;
  const deviation = (channel: number): number =>
    Math.sqrt(Math.max(0, (squares[channel] ?? 0) / count - mean(channel) ** 2));
  const deviations: Triple = [deviation(0), deviation(1), deviation(2)];
  // A flat channel cannot be spread to the reference.
  if (deviations.some((value) => value < 1e-6)) return null;
  return { method: 'REINHARD', means: [mean(0), mean(1), mean(2)], deviations };
}

function reinhardMap({ means, deviations }: ReinhardStain): PixelMap {
  const logLmsFromLab = inverse(LAB_FROM_LOG_LMS);
  const rgbFromLms = inverse(LMS_FROM_RGB);
  const target = REINHARD_REFERENCE;
  const moved = (lab: Triple, channel: 0 | 1 | 2): number =>
    ((lab[channel] - means[channel]) / deviations[channel]) * target.deviations[channel] + target.means[channel];
  return (red, green, blue, out) => {
    const lab = labOf(red, green, blue);
    const [l, m, s] = product(logLmsFromLab, [moved(lab, 0), moved(lab, 1), moved(lab, 2)]);
    out.set(product(rgbFromLms, [Math.exp(l), Math.exp(m), Math.exp(s)]));
  };
}

function densitiesAt(data: Buffer, at: number): Triple {
  return [DENSITIES[data[at] ?? 0] ?? 0, DENSITIES[data[at + 1] ?? 0] ?? 0, DENSITIES[data[at + 2] ?? 0] ?? 0];
}

/** As NumPy's: linear between the two nearest of the sorted values. */
function percentileOf(sorted: Float64Array, percent: number): number {
  const place = (percent / 100) * (sorted.length - 1);
  const below = Math.floor(place);
  const [low, high] = [sorted[below] ?? 0, sorted[Math.min(below + 1, sorted.length - 1)] ?? 0];
  return low + (high - low) * (place - below);
}

/** @param rows `[N, 3]` */
function covarianceOf(rows: readonly number[]): Matrix3 {
  const count = rows.length / 3;
  const means = [0, 0, 0];
  for (const [index, value] of rows.entries()) means[index % 3] = (means[index % 3] ?? 0) + value / count;
  const cell = (a: number, b: number): number => {
    let sum = 0;
    for (let at = 0; at < rows.length; at += 3)
      sum += ((rows[at + a] ?? 0) - (means[a] ?? 0)) * ((rows[at + b] ?? 0) - (means[b] ?? 0));
    return sum / (count - 1);
  };
  const [xy, xz, yz] = [cell(0, 1), cell(0, 2), cell(1, 2)];
  return [
    [cell(0, 0), xy, xz],
    [xy, cell(1, 1), yz],
    [xz, yz, cell(2, 2)],
  ];
}

/** Jacobi's method for a symmetric matrix; the largest eigenvalue first, with unit vectors. */
function eigenOf(matrix: Matrix3): { readonly values: Triple; readonly vectors: Matrix3 } {
  const a = Float64Array.from(matrix.flat());
  const v = Float64Array.from([1, 0, 0, 0, 1, 0, 0, 0, 1]);
  const at = (cells: Float64Array, row: number, column: number): number => cells[3 * row + column] ?? 0;
  const rotate = (cells: Float64Array, p: number, q: number, c: number, s: number): void => {
    const [x, y] = [cells[p] ?? 0, cells[q] ?? 0];
    cells[p] = c * x - s * y;
    cells[q] = s * x + c * y;
  };
  // Converges quadratically: a few sweeps reach the last bit.
  for (let sweep = 0; sweep < 30; sweep += 1)
    for (const [p, q] of [
      [0, 1],
      [0, 2],
      [1, 2],
    ] as const) {
      if (at(a, p, q) === 0) continue;
      const theta = (at(a, q, q) - at(a, p, p)) / (2 * at(a, p, q));
      const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
      const c = 1 / Math.sqrt(t * t + 1);
      const s = t * c;
      for (let k = 0; k < 3; k += 1) rotate(a, 3 * k + p, 3 * k + q, c, s);
      for (let k = 0; k < 3; k += 1) rotate(a, 3 * p + k, 3 * q + k, c, s);
      for (let k = 0; k < 3; k += 1) rotate(v, 3 * k + p, 3 * k + q, c, s);
    }
  const [first, second, third] = ([0, 1, 2] as const)
    .map((k) => ({ value: at(a, k, k), vector: [at(v, 0, k), at(v, 1, k), at(v, 2, k)] as const }))
    .sort((x, y) => y.value - x.value);
  if (first === undefined || second === undefined || third === undefined) throw new Error('Three by three.');
  return {
    values: [first.value, second.value, third.value],
    vectors: [first.vector, second.vector, third.vector],
  };
}

function inverse(m: Matrix3): Matrix3 {
  const [a, b, c] = m;
  const [bc, ca, ab] = [cross(b, c), cross(c, a), cross(a, b)];
  const determinant = dot(a, bc);
  const row = (k: 0 | 1 | 2): Triple => [bc[k] / determinant, ca[k] / determinant, ab[k] / determinant];
  return [row(0), row(1), row(2)];
}

function product(matrix: Matrix3, vector: Triple): Triple {
  return [dot(matrix[0], vector), dot(matrix[1], vector), dot(matrix[2], vector)];
}

function cross([a, b, c]: Triple, [d, e, f]: Triple): Triple {
  return [b * f - c * e, c * d - a * f, a * e - b * d];
}

function dot([a, b, c]: Triple, [d, e, f]: Triple): number {
  return a * d + b * e + c * f;
}

function negated([a, b, c]: Triple): Triple {
  return [-a, -b, -c];
}
