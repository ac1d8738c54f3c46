/**
 * Standardises embeddings to mean 0 and standard deviation 1 in every entry, measured on the training images and
 * applied to the test images.
 */
import { ProbeError } from './errors.ts';

/** `[N, D]`, row by row. */
export interface EmbeddedImages {
  readonly embeddings: Float32Array;
  readonly embeddingDim: number;
}

export interface Scaling {
  /** `[D]`. */
  readonly mean: Float64Array;
  /** `[D]`: 1 / standard deviation, or 1 for a constant entry. */
  readonly inverseStd: Float64Array;
}

/**
 * Throws ProbeError BAD_OPTION if the number of embeddings does not match the images, and EMBEDDING_NOT_FINITE, which
 * names the image.
 */
export function embeddedImages(embeddings: Float32Array, imageCount: number): EmbeddedImages {
  const embeddingDim = imageCount === 0 ? 1 : embeddings.length / imageCount;
  if (!Number.isSafeInteger(embeddingDim) || embeddingDim < 1) {
    throw new ProbeError(
      'BAD_OPTION',
      'embeddings',
      `embeddings must hold the same number of entries for each of ${imageCount} images.`,
    );
  }
  const bad = embeddings.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw new ProbeError(
      'EMBEDDING_NOT_FINITE',
      'embeddings',
      `The embedding of image ${Math.floor(bad / embeddingDim)} holds ${embeddings[bad]}.`,
    );
  return { embeddings, embeddingDim };
}

export function measureScaling({ embeddings, embeddingDim }: EmbeddedImages, images: Int32Array): Scaling {
  const mean = new Float64Array(embeddingDim);
  const squares = new Float64Array(embeddingDim);
  for (let row = 0; row < images.length; row += 1) {
    const start = (images[row] ?? 0) * embeddingDim;
    for (let entry = 0; entry < embeddingDim; entry += 1)
      mean[entry] = (mean[entry] ?? 0) + (embeddings[start + entry] ?? 0) / images.length;
  }
  for (let row = 0; row < images.length; row += 1) {
    const start = (images[row] ?? 0) * embeddingDim;
    for (let entry = 0; entry < embeddingDim; entry += 1) {
      const difference = (embeddings[start + entry] ?? 0) - (mean[entry] ?? 0);
      squares[entry] = (squares[entry] ?? 0) + difference ** 2 / images.length;
    }
  }
  // A variance below 1e-12 of the squared mean is rounding error.
  const varies = (variance: number, entry: number): boolean =>
    variance > 1e-12 * (mean[entry] ?? 0) ** 2 && variance > 0;
  return {
    mean,
    inverseStd: squares.map((variance, entry) => (varies(variance, entry) ? 1 / Math.sqrt(variance) : 1)),
  };
}

/** The rows of these images, `[images, D]`. */
export function standardise(
  { embeddings, embeddingDim }: EmbeddedImages,
  images: Int32Array,
  { mean, inverseStd }: Scaling,
): Float32Array {
  const rows = new Float32Array(images.length * embeddingDim);
  for (let row = 0; row < images.length; row += 1) {
    const from = (images[row] ?? 0) * embeddingDim;
    const to = row * embeddingDim;
    for (let entry = 0; entry < embeddingDim; entry += 1) {
      const centred = (embeddings[from + entry] ?? 0) - (mean[entry] ?? 0);
      rows[to + entry] = centred * (inverseStd[entry] ?? 1);
    }
  }
  return rows;
}
