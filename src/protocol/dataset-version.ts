/** Sealed dataset versions as tasks read them. */
import { z } from 'zod';
import { sha256Schema } from './artifacts.ts';

const count = z.number().int().min(0);

export const shardSchema = z.object({ sha256: sha256Schema, byteSize: count, imageCount: count });

/** A version that a run may use. Shards are in reading order. */
export const sealedVersionSchema = z.object({
  id: z.uuid(),
  datasetId: z.uuid(),
  digest: z.string(),
  digestRule: z.enum(['PIXELS', 'MANIFEST_FILE']),
  manifestSha256: sha256Schema,
  /** Under the rule MANIFEST_FILE; null where images were not hashed. Under PIXELS the manifest has the hashes. */
  imageHashesSha256: sha256Schema.nullable(),
  imageCount: count,
  shards: z.array(shardSchema).readonly(),
});
export type SealedVersion = Readonly<z.infer<typeof sealedVersionSchema>>;

/** What an import compares its images with: the dataset's latest sealed version. */
export const previousVersionSchema = z.object({
  version: count,
  labelNames: z.array(z.string()).readonly(),
  imageCount: count,
  groupCount: count,
  ungroupedImageCount: count.nullable(),
});

/** The collections that a dataset was cut from. */
export const datasetLineageSchema = z.object({
  datasetId: z.uuid(),
  slug: z.string(),
  /** Slugs of its parent collections and of their parents. */
  collections: z.array(z.string()).readonly(),
});
