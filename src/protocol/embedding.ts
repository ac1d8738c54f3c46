/** An EMBEDDING: a checkpoint and a version in, the stored set of the version's embeddings out. */
import { z } from 'zod';

/** Frozen at launch. The weights are named by their digest, so that a run cannot embed with others. */
export const embeddingConfigSchema = z.object({
  checkpointId: z.string(),
  checkpointSha256: z.string(),
  datasetVersionId: z.string(),
  datasetDigest: z.string(),
});
export type EmbeddingConfig = z.infer<typeof embeddingConfigSchema>;

/** Empty, because the set was registered under its key as soon as it was complete. */
export const embeddingOutcomeSchema = z.strictObject({ kind: z.literal('EMBEDDING') });
