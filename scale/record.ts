/** What a folder remembers of its finished stages, so that they are not repeated. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { PROCESS_KINDS } from './usage.ts';
import { STAGES, type ScaleSize } from './plan.ts';
import type { StageOutcome } from './stages.ts';

export const partSchema = z.object({
  name: z.string(),
  durationMs: z.number(),
  processorMs: z.number(),
  imageCount: z.number(),
  peakBytes: z.partialRecord(z.enum(PROCESS_KINDS), z.number()),
  storedBytes: z.number(),
});
export const sizeSchema = z.object({ imageCount: z.number(), testImageCount: z.number(), seed: z.number() });
const recordSchema = z.object({
  size: sizeSchema,
  stages: z.partialRecord(
    z.enum(STAGES),
    z.object({ parts: z.array(partSchema), ids: z.record(z.string(), z.string()) }),
  ),
});

export interface StageRecords {
  readonly size: ScaleSize;
  readonly stages: Readonly<Partial<Record<(typeof STAGES)[number], StageOutcome>>>;
}

const FILE = 'scale.json';

/** @throws Error if the folder belongs to a run of another size. */
export async function readRecords(folder: string, size: ScaleSize): Promise<StageRecords> {
  const text = await readFile(path.join(folder, FILE), 'utf8').catch(() => undefined);
  if (text === undefined) return { size, stages: {} };
  const found = recordSchema.parse(JSON.parse(text));
  const words = (each: ScaleSize): string =>
    `--images ${each.imageCount} --test-images ${each.testImageCount} --seed ${each.seed}`;
  if (words(found.size) === words(size)) return found;
  throw new Error(`${folder} belongs to a run with ${words(found.size)}. Use these options, or another folder.`);
}

/** Replaces the file at once, so that a killed command leaves a complete one. */
export async function writeRecords(folder: string, records: StageRecords): Promise<void> {
  const file = path.join(folder, FILE);
  await writeFile(`${file}.tmp`, JSON.stringify(records, null, 2));
  await rename(`${file}.tmp`, file);
}
