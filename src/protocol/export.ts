/** An EXPORT: a checkpoint's weights in, files for other frameworks and its golden embedding out. */
import { z } from 'zod';
import { goldenSchema } from './checkpoint.ts';
import { storedBytesSchema } from './artifacts.ts';

export const EXPORT_FORMATS = ['PYTORCH', 'ONNX', 'TFJS'] as const;

/**
 * Greatest relative difference of an embedding at which a file is served. float32 rounding alone stays about five times
 * below it in a ResNet-101.
 */
export const MAX_RELATIVE_DIFFERENCE = 1e-4;

/**
 * Frozen at launch. The weights are named by their digest, so that a run cannot check weights other than those it was
 * launched for.
 */
export const exportConfigSchema = z.object({
  checkpointId: z.string(),
  checkpointSha256: z.string(),
  /** Empty: only the golden embedding is made. */
  formats: z.array(z.enum(EXPORT_FORMATS)),
});
export type ExportConfig = z.infer<typeof exportConfigSchema>;

/** A file that passed its check, or the reason why it did not. */
export const newExportSchema = z.discriminatedUnion('status', [
  storedBytesSchema.extend({
    format: z.enum(EXPORT_FORMATS),
    status: z.literal('AVAILABLE'),
    maxRelativeDifference: z.number().min(0).max(MAX_RELATIVE_DIFFERENCE),
  }),
  z.strictObject({
    format: z.enum(EXPORT_FORMATS),
    status: z.literal('REFUSED'),
    /** Null if the file gave no embedding. */
    maxRelativeDifference: z.number().nullable(),
    reason: z.string(),
  }),
]);
export type NewExport = Readonly<z.infer<typeof newExportSchema>>;

export const exportOutcomeSchema = z.strictObject({
  kind: z.literal('EXPORT'),
  golden: goldenSchema,
  exports: z.array(newExportSchema).readonly(),
});

/**
 * The provenance in an exported file. It contains no time, run or registry, so that the same weights give the same
 * bytes everywhere.
 */
export function exportMetadataOf(weightsSha256: string): Record<string, string> {
  return { weightsSha256 };
}
