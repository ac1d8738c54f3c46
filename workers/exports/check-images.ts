/** The images on which all implementations must agree, made by formulas so that no decoder takes part. */
import { goldenPixels } from '../engine/golden-image.ts';

export const CHECK_IMAGE_COUNT = 3;

/** uint8 `[3, S, S, 3]`: the golden image, something like stained tissue, and noise. */
export function checkPixels(imageSizePx: number): Uint8Array {
  const next = numbers(1);
  const golden = goldenPixels(imageSizePx);
  const tissue = tissuePixels(imageSizePx, next);
  const noise = golden.map(() => Math.floor(256 * next()));
  return Uint8Array.from([...golden, ...tissue, ...noise]);
}

const STROMA = [226, 178, 206] as const;
const NUCLEUS = [92, 62, 140] as const;

/** Dark nuclei on pink, with soft edges: large even areas and sharp contrasts, like the tissue that encoders see. */
function tissuePixels(imageSizePx: number, next: () => number): Uint8Array {
  const nuclei = Array.from({ length: 24 }, () => ({
    row: next() * imageSizePx,
    column: next() * imageSizePx,
    radius: (0.03 + 0.05 * next()) * imageSizePx,
  }));
  const pixels = new Uint8Array(imageSizePx * imageSizePx * 3);
  for (let row = 0; row < imageSizePx; row += 1) {
    for (let column = 0; column < imageSizePx; column += 1) {
      const depth = Math.max(
        ...nuclei.map((nucleus) => nucleus.radius - Math.hypot(row - nucleus.row, column - nucleus.column)),
      );
      const share = Math.min(1, Math.max(0, 0.5 + depth / 2));
      const grain = 16 * (next() - 0.5);
      for (let channel = 0; channel < 3; channel += 1) {
        const colour = (STROMA[channel] ?? 0) * (1 - share) + (NUCLEUS[channel] ?? 0) * share;
        pixels[(row * imageSizePx + column) * 3 + channel] = Math.min(255, Math.max(0, Math.round(colour + grain)));
      }
    }
  }
  return pixels;
}

/** A fixed sequence of numbers in [0, 1). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

export interface PixelNormalisation {
  readonly channelMean: readonly [number, number, number];
  readonly channelStd: readonly [number, number, number];
}

/**
 * Normalises pixels as an input contract specifies, in float32, without the engine.
 * @param pixels uint8 NHWC.
 * @returns float32 NHWC.
 */
export function normalisedPixels(
  pixels: Uint8Array,
  { channelMean, channelStd }: PixelNormalisation,
): Float32Array<ArrayBuffer> {
  const mean = Float32Array.from(channelMean);
  const std = Float32Array.from(channelStd);
  return Float32Array.from(pixels, (value, index) =>
    Math.fround(Math.fround(Math.fround(value / 255) - (mean[index % 3] ?? 0)) / (std[index % 3] ?? 1)),
  );
}

/** float32 `[N, S, S, 3]` to `[N, 3, S, S]`. */
export function channelsFirst(images: Float32Array, imageCount: number): Float32Array<ArrayBuffer> {
  const area = images.length / imageCount / 3;
  const planes = new Float32Array(images.length);
  for (let image = 0; image < imageCount; image += 1) {
    for (let pixel = 0; pixel < area; pixel += 1) {
      for (let channel = 0; channel < 3; channel += 1)
        planes[(image * 3 + channel) * area + pixel] = images[(image * area + pixel) * 3 + channel] ?? 0;
    }
  }
  return planes;
}
