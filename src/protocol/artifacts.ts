/** Artifacts as workers and the registry name them. */
import { z } from 'zod';

export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'must be a sha256 in lower-case hex');

/** Bytes that the artifact store has. */
export const storedBytesSchema = z.object({ sha256: sha256Schema, byteSize: z.number().int().min(0) });
export type StoredBytes = Readonly<z.infer<typeof storedBytesSchema>>;

/** Bytes that came by the tus protocol under this id, to be stored as an artifact. */
export const uploadedArtifactSchema = z.strictObject({ uploadId: z.string().regex(/^[0-9a-f]{32}$/) });

/**
 * An artifact that goes straight to the bucket in parts, each to an address that the registry signs. The answer to the
 * beginning is null where the registry takes the bytes itself.
 */
export const directUploadSchema = z.strictObject({ byteSize: z.number().int().min(1) });
export const directUploadAnswerSchema = z
  .object({
    uploadId: z.string(),
    /** The size of every part but the last. */
    partBytes: z.number().int().min(1),
    /** What the checksum of a part is, in base64; NONE: it is empty. */
    check: z.enum(['CRC32', 'MD5', 'NONE']),
  })
  .nullable();

const directUploadIdSchema = z.string().min(1).max(4_000);
const PARTS_MAX = 10_000;

export const partToSignSchema = z.strictObject({
  uploadId: directUploadIdSchema,
  /** From 1. */
  partNumber: z.number().int().min(1).max(PARTS_MAX),
  checksum: z.string().regex(/^[A-Za-z0-9+/]{0,40}={0,2}$/, 'must be base64'),
});
/** Send the part there with PUT and these headers, and nothing that belongs to the registry. */
export const signedPartSchema = z.object({ url: z.string(), headers: z.record(z.string(), z.string()) });

export const completedUploadSchema = z.strictObject({
  uploadId: directUploadIdSchema,
  byteSize: z.number().int().min(1),
  /** The ETag with which the bucket answered, for each part in its order. */
  etags: z.array(z.string().min(1).max(200)).min(1).max(PARTS_MAX).readonly(),
});

/** The steps of a direct upload, as the last part of the path. */
export const DIRECT_UPLOAD_STEPS = ['begin', 'sign', 'complete'] as const;
export const directUploadStepSchema = z.enum(DIRECT_UPLOAD_STEPS);
