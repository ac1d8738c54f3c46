/** What the reader of whole slides reports about a slide: no names, labels or free text, which identify patients. */
import { z } from 'zod';

/**
 * Where microns per pixel were learned: given by the user; OpenSlide's own property; a property of the vendor; the
 * resolution of a TIFF with its unit.
 */
export const MPP_SOURCES = ['GIVEN', 'OPENSLIDE', 'VENDOR', 'TIFF_RESOLUTION'] as const;
export type MicronsPerPixelSource = (typeof MPP_SOURCES)[number];

export const slideFactsSchema = z.strictObject({
  /** Version of OpenSlide. */
  reader: z.string().max(40),
  /** The format: aperio, hamamatsu, mirax, leica, ventana, philips, generic-tiff, dicom and others. */
  vendor: z.string().regex(/^[a-z0-9-]{1,40}$/),
  /** From the finest; sizes in pixels. A downsample of 4 means that one pixel covers 4 x 4 of level 0. */
  levels: z
    .array(z.strictObject({ width: z.int().min(1), height: z.int().min(1), downsample: z.number().min(0.5) }))
    .min(1)
    .max(64),
  /** Nominal magnification; null if the slide states none. */
  objective: z.number().positive().nullable(),
  /** Of level 0. */
  micronsPerPixel: z.discriminatedUnion('outcome', [
    z.strictObject({
      outcome: z.literal('FOUND'),
      x: z.number().positive(),
      y: z.number().positive(),
      source: z.enum(MPP_SOURCES),
      /** The property that states it, such as aperio.MPP; null if it was given. */
      property: z.string().max(100).nullable(),
      /** True if it differs by more than a half from what the stated objective usually has. */
      disagreesWithObjective: z.boolean(),
    }),
    z.strictObject({ outcome: z.literal('REFUSED'), reason: z.string().max(500) }),
  ]),
});
export type SlideFacts = z.infer<typeof slideFactsSchema>;
export type MicronsPerPixel = SlideFacts['micronsPerPixel'];

/** What the program behind `paraffin slides info` prints. */
export const slideInfoSchema = z.union([
  z.strictObject({ slide: slideFactsSchema }),
  z.strictObject({ refusal: z.strictObject({ code: z.string(), reason: z.string() }) }),
]);
export type SlideInfo = z.infer<typeof slideInfoSchema>;
