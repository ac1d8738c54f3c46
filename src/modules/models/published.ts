/** Reads prisma/published-checkpoints.json: encoders that other groups published, with the known facts of each. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { publishedCheckpointsSchema, type PublishedCheckpoint } from './published.rules.ts';

const FILE = path.resolve(import.meta.dirname, '../../../prisma/published-checkpoints.json');

/** @throws Error naming every fault of the file. */
export async function loadPublishedCheckpoints(file: string = FILE): Promise<PublishedCheckpoint[]> {
  const parsed = publishedCheckpointsSchema.safeParse(JSON.parse(await readFile(file, 'utf8')));
  if (parsed.success) return parsed.data;
  throw new Error(
    `${path.basename(file)} has faults:\n${parsed.error.issues.map((issue) => `  - ${issue.path.join('.')}: ${issue.message}`).join('\n')}`,
  );
}
