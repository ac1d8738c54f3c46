/** The launch of an embedding, the file formats of its set, and the seed of the random encoder. Pure. */
import { z } from 'zod';
import { idempotencyKeySchema } from '../../input.ts';
import { maxDurationSchema, requirementsInputSchema } from '../runs/index.ts';

export const NPY_MEDIA_TYPE = 'application/x-npy';
export const IDS_MEDIA_TYPE = 'text/csv; charset=utf-8';

/** NPY: the numbers. CSV: which image each row is. */
export type EmbeddingFileFormat = 'npy' | 'csv';

/**
 * The seed of the random encoder, which is the same in every evaluation: the embeddings of one architecture with one
 * preparation on one version are computed once, and every checkpoint is compared with the same baseline.
 */
export const RANDOM_ENCODER_SEED = 1;

/** `LaunchEmbeddingInput`. */
export const launchEmbeddingSchema = z.object({
  checkpointId: z.string(),
  datasetVersionId: z.string(),
  maxDurationSeconds: maxDurationSchema.nullish(),
  requirements: requirementsInputSchema,
  idempotencyKey: idempotencyKeySchema.nullish(),
});

/** @param checkpointName and versionName as `slug@version`. */
export function titleOfEmbedding(checkpointName: string, versionName: string): string {
  return `embedding of ${versionName} by ${checkpointName}`;
}
