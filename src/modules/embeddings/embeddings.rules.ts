/** The file formats of a set of embeddings, and the seed of the random encoder. Pure. */

export const NPY_MEDIA_TYPE = 'application/x-npy';
export const IDS_MEDIA_TYPE = 'text/csv; charset=utf-8';

/** NPY: the numbers. CSV: which image each row is. */
export type EmbeddingFileFormat = 'npy' | 'csv';

/**
 * The seed of the random encoder, which is the same in every evaluation: the embeddings of one architecture with one
 * preparation on one version are computed once, and every checkpoint is compared with the same baseline.
 */
export const RANDOM_ENCODER_SEED = 1;
