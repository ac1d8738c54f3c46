/** One part on a manifest in a process of its own, so that its peak memory is its own. */
import { z } from 'zod';
import { MANIFEST_PART_WORK, MANIFEST_PARTS } from './manifest-parts.ts';
import { answerParent } from './measured-program.ts';

const requestSchema = z.object({
  part: z.enum(MANIFEST_PARTS),
  folder: z.string(),
  imageCount: z.int(),
  testImageCount: z.int(),
  seed: z.int(),
});
export type ManifestRequest = z.infer<typeof requestSchema>;

if (import.meta.main)
  await answerParent(requestSchema, ({ part, ...options }, onProgress) =>
    MANIFEST_PART_WORK[part]({ ...options, onProgress }),
  );
