/** What an export may be asked to do. Pure. */
import { z } from 'zod';

/** Frozen at launch. The weights are named by their digest, so that a run never proves others than those it was launched for. */
export const exportConfigSchema = z.object({
  checkpointId: z.string(),
  checkpointSha256: z.string(),
});
export type ExportConfig = z.infer<typeof exportConfigSchema>;
