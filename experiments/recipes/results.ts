/** The measurements, in one JSON file that is written after every cell, so that an interrupted run can continue. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { DATA_NAMES } from './images.ts';
import { cellKey, type Cell } from './plan.ts';
import { recipeSchema } from './recipe.ts';

const measuredSchema = z.object({
  key: z.string(),
  data: z.enum(DATA_NAMES),
  recipe: recipeSchema,
  seed: z.int(),
  trainer: z.enum(['ENGINE', 'PYTORCH', 'COLOUR']),
  lastLoss: z.number().nullable(),
  imagesPerSecond: z.number().nullable(),
  seconds: z.number(),
  /** By probe set: the predicted label of each tested image, one digit each. */
  predictions: z.record(z.string(), z.string()),
});
export type Measured = z.infer<typeof measuredSchema>;

/** Throws Error for a file that this experiment did not write. */
export async function readResults(file: string): Promise<Measured[]> {
  const content = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '[]';
    throw error;
  });
  return z.array(measuredSchema).parse(JSON.parse(content));
}

/** One line for each cell, so that a diff shows which cells have changed. */
export async function writeResults(file: string, results: readonly Measured[]): Promise<void> {
  const lines = results.map((result) => JSON.stringify(result));
  await writeFile(`${file}.part`, `[\n${lines.join(',\n')}\n]\n`);
  await rename(`${file}.part`, file);
}

export function findResult(results: readonly Measured[], cell: Cell): Measured | undefined {
  const key = cellKey(cell);
  return results.find((result) => result.key === key);
}
