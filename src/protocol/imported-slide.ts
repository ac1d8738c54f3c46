/**
 * A slide of the folder of an import, as the version keeps it: no label image, no macro image and nothing that the
 * slide says in free text, which may name a patient.
 */
import { z } from 'zod';
import { sha256Schema, storedBytesSchema } from './artifacts.ts';
import { MPP_SOURCES, slideFactsSchema } from './slide-facts.ts';

export const SLIDE_STATUSES = ['IMPORTED', 'LEFT_OUT'] as const;

const count = z.int().min(0);
const share = z.number().min(0).max(1);
/** PostgreSQL stores no NUL. */
const text = z.string().regex(/^[^\0]*$/);

export const importedSlideSchema = z.strictObject({
  /** Of its file, relative to the imported folder. */
  path: text,
  /** LEFT_OUT: the version has no patch of it. */
  status: z.enum(SLIDE_STATUSES),
  /** The kind of the issue for which it was left out; null if no single issue was the cause. */
  issueKind: text.nullable(),
  /** Why it was left out, in a sentence; null for IMPORTED. */
  reason: text.max(2000).nullable(),
  /** Its file as it was read, without the files that belong to it; null if it was not read. */
  file: z.strictObject({ sha256: sha256Schema, byteSize: count }).nullable(),
  label: text.nullable(),
  /** The patient if known, otherwise the slide. */
  group: text.nullable(),
  split: text.nullable(),
  /** Null if it could not be opened. */
  facts: z
    .strictObject({
      vendor: slideFactsSchema.shape.vendor,
      levels: slideFactsSchema.shape.levels,
      objective: slideFactsSchema.shape.objective,
      /** Of level 0; null if it was refused. */
      micronsPerPixel: z
        .strictObject({
          x: z.number().positive(),
          y: z.number().positive(),
          source: z.enum(MPP_SOURCES),
          /** The property that states it; null if it was given. */
          property: z.string().max(100).nullable(),
        })
        .nullable(),
    })
    .nullable(),
  /** Images of the version that were cut from it. */
  patchCount: count,
  /** Null if tissue was not looked for. */
  tissue: z
    .strictObject({
      /** Shares of the slide, 0..1. */
      tissueFraction: share,
      penFraction: share,
      /** WebP of the whole slide. */
      thumbnail: storedBytesSchema,
      /** PNG with one channel of the same view: 255 for tissue, else 0. */
      mask: storedBytesSchema,
    })
    .nullable(),
});
export type ImportedSlide = Readonly<z.infer<typeof importedSlideSchema>>;
