/** How far an embedding differs from its reference. */

/**
 * The greatest difference of one component, relative to the embedding's root mean square, because a single component
 * may be near zero. NaN stays NaN.
 */
export function maxRelativeDifference(actual: Float32Array, reference: Float32Array): number {
  const rootMeanSquare = Math.sqrt(reference.reduce((sum, value) => sum + value * value, 0) / reference.length);
  return Math.max(...reference.map((value, index) => Math.abs((actual[index] ?? Number.NaN) - value))) / rootMeanSquare;
}

/**
 * The greatest difference over all images. @param embeddings, reference `[N, D]`. @throws RangeError when their sizes
 * differ.
 */
export function maxRelativeDifferenceOfImages(
  embeddings: Float32Array,
  reference: Float32Array,
  embeddingDim: number,
): number {
  if (embeddings.length !== reference.length)
    throw new RangeError(`${embeddings.length} numbers were given where ${reference.length} were expected.`);
  const differences: number[] = [];
  for (let start = 0; start < reference.length; start += embeddingDim) {
    differences.push(
      maxRelativeDifference(
        embeddings.subarray(start, start + embeddingDim),
        reference.subarray(start, start + embeddingDim),
      ),
    );
  }
  return Math.max(...differences);
}
