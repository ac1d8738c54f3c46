/** The job that a cell's process receives, and the result that it returns. */
import { z } from 'zod';
import { recipeSchema } from './recipe.ts';

const probeSchema = z.object({
  name: z.string(),
  rows: z.array(z.int()),
  labels: z.array(z.int()),
  labelNames: z.array(z.string()),
  groups: z.array(z.string()),
  splits: z.array(z.enum(['train', 'test'])).nullable(),
});

export const jobSchema = z.object({
  recipe: recipeSchema,
  seed: z.int(),
  pixelsPath: z.string(),
  imageCount: z.int(),
  sizePx: z.int(),
  trainCount: z.int(),
  probes: z.array(probeSchema),
  /** ENGINE trains; PYTORCH has already trained and stored its embeddings; COLOUR embeds by colour statistics. */
  trainer: z.enum(['ENGINE', 'PYTORCH', 'COLOUR']),
  /** The file in which PyTorch stored float32 `[imageCount, D]`. */
  embeddingsPath: z.string(),
});

export const resultSchema = z.object({
  lastLoss: z.number().nullable(),
  imagesPerSecond: z.number().nullable(),
  /** By probe set: the predicted label of each tested image, one digit each. */
  predictions: z.record(z.string(), z.string()),
});
export type CellResult = z.infer<typeof resultSchema>;
