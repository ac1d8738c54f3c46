/** How far an embedding is from the one that it should be. */

/**
 * The greatest difference of one component, against the embedding's root mean square: a single component may be near
 * zero. NaN stays NaN.
 */
export function maxRelativeDifference(actual: Float32Array, reference: Float32Array): number {
  const rootMeanSquare = Math.sqrt(reference.reduce((sum, value) => sum + value * value, 0) / reference.length);
  return Math.max(...reference.map((value, index) => Math.abs((actual[index] ?? Number.NaN) - value))) / rootMeanSquare;
}

/**
 * The greatest of the images'. @param embeddings, reference `[N, D]`. @throws RangeError when they are not of one size.
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
