/**
 * Colour statistics of an image: the baseline that an encoder has to beat, because stain and scanner often differ
 * between labels.
 */

/** Length of one descriptor. */
export const COLOUR_STATISTICS_DIM = 36;

const HISTOGRAM_BINS = 8;

/**
 * Descriptors `[N, 36]` of uint8 RGB images `[N, S, S, 3]`: mean and standard deviation of red, green, blue (6) and of
 * the colour cone's saturation x cos hue, saturation x sin hue, value (6; the hue itself is not averaged, because the
 * hue of tissue lies where it wraps around), and the share of pixels in each eighth of each channel (24). All within
 * -1..1. Throws RangeError when the bytes are not N square images.
 */
export function colourStatistics(images: Uint8Array, imageCount: number): Float32Array {
  const imageBytes = images.length / imageCount;
  if (imageCount < 1 || !Number.isSafeInteger(imageBytes) || imageBytes < 3 || imageBytes % 3 !== 0) {
    throw new RangeError(`${images.length} bytes are not ${imageCount} RGB images.`);
  }
  const descriptors = new Float32Array(imageCount * COLOUR_STATISTICS_DIM);
  for (let image = 0; image < imageCount; image += 1) {
    const pixels = images.subarray(image * imageBytes, (image + 1) * imageBytes);
    descriptors.set(describe(pixels), image * COLOUR_STATISTICS_DIM);
  }
  return descriptors;
}

function describe(pixels: Uint8Array): Float64Array {
  const pixelCount = pixels.length / 3;
  const sums = new Float64Array(6);
  const squares = new Float64Array(6);
  const histogram = new Float64Array(3 * HISTOGRAM_BINS);
  const values = new Float64Array(6);
  for (let byte = 0; byte < pixels.length; byte += 3) {
    for (let channel = 0; channel < 3; channel += 1) {
      const level = pixels[byte + channel] ?? 0;
      values[channel] = level / 255;
      const bin = channel * HISTOGRAM_BINS + Math.floor((level * HISTOGRAM_BINS) / 256);
      histogram[bin] = (histogram[bin] ?? 0) + 1 / pixelCount;
    }
    writeCone(values);
    for (let entry = 0; entry < 6; entry += 1) {
      const value = values[entry] ?? 0;
      sums[entry] = (sums[entry] ?? 0) + value;
      squares[entry] = (squares[entry] ?? 0) + value * value;
    }
  }
  const means = sums.map((sum) => sum / pixelCount);
  const stds = squares.map((square, entry) => Math.sqrt(Math.max(0, square / pixelCount - (means[entry] ?? 0) ** 2)));
  return Float64Array.of(...means, ...stds, ...histogram);
}

/**
 * Computes the three coordinates of the colour cone, in the last three entries, from red, green and blue in the first.
 */
function writeCone(values: Float64Array): void {
  const [red = 0, green = 0, blue = 0] = values;
  const value = Math.max(red, green, blue);
  const chroma = value - Math.min(red, green, blue);
  // Coordinates on the axes of the hue hexagon, scaled to the saturation, which give the cosine and sine of the hue
  // without computing the hue.
  const across = red - (green + blue) / 2;
  const along = (Math.sqrt(3) / 2) * (green - blue);
  const length = Math.hypot(across, along);
  const scale = value === 0 || length === 0 ? 0 : chroma / value / length;
  values[3] = across * scale;
  values[4] = along * scale;
  values[5] = value;
}
