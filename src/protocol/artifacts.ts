/** Artifacts as workers and the registry name them. */
import { z } from 'zod';

export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'must be a sha256 in lower-case hex');

/** Bytes that the artifact store has. */
export const storedBytesSchema = z.object({ sha256: sha256Schema, byteSize: z.number().int().min(0) });
export type StoredBytes = Readonly<z.infer<typeof storedBytesSchema>>;

/** Bytes that came by the tus protocol under this id, to be stored as an artifact. */
export const uploadedArtifactSchema = z.strictObject({ uploadId: z.string().regex(/^[0-9a-f]{32}$/) });
