/** Validation of export requests, and the condition for serving a file. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { idempotencyKeySchema } from '../../input.ts';
import { EXPORT_FORMATS, MAX_RELATIVE_DIFFERENCE } from '../../protocol/export.ts';
import type { ExportFormat } from '../../generated/prisma/enums.ts';
import type { ExportRecord } from './exports.records.ts';

export const exportCheckpointSchema = z.object({
  checkpointId: z.string(),
  formats: z
    .array(z.enum(EXPORT_FORMATS))
    .max(100)
    .transform((formats) => EXPORT_FORMATS.filter((format) => formats.includes(format))),
  idempotencyKey: idempotencyKeySchema.nullish(),
});

const FORMAT_NAMES: Readonly<Record<ExportFormat, string>> = { PYTORCH: 'PyTorch', ONNX: 'ONNX', TFJS: 'TF.js' };

/** @param checkpointName as `slug@version`. */
export function titleOfExport(checkpointName: string, formats: readonly ExportFormat[]): string {
  return formats.length === 0
    ? `golden embedding of ${checkpointName}`
    : `${checkpointName} as ${formats.map((format) => FORMAT_NAMES[format]).join(', ')}`;
}

/** @throws DomainError EXPORT_CHECK_FAILED for a file that is not served, with the measured difference. */
export function servable(made: ExportRecord): ExportRecord & { readonly sha256: string; readonly byteSize: number } {
  const { sha256, byteSize } = made;
  if (made.status === 'AVAILABLE' && sha256 !== null && byteSize !== null) return { ...made, sha256, byteSize };
  const difference =
    made.maxRelativeDifference === null
      ? ''
      : ` (difference ${made.maxRelativeDifference.toExponential(1)}, bound ${MAX_RELATIVE_DIFFERENCE})`;
  throw new DomainError({
    code: 'EXPORT_CHECK_FAILED',
    message:
      `The ${made.format.toLowerCase()} file of this checkpoint failed its check and cannot be downloaded${difference}. ${made.reason ?? ''}`.trimEnd(),
    field: 'format',
    hint: 'Use another format. After an upgrade of Paraffin, try again with exportCheckpoint.',
  });
}

/** PyTorch and ONNX files have no registered media type; a browser downloads an octet stream instead of showing it. */
export function mediaTypeOf(format: ExportFormat): string {
  return format === 'TFJS' ? 'application/zip' : 'application/octet-stream';
}
