/**
 * What the process that reads a slide answers. The import validates all that it receives; the process itself does not
 * load this file, so that it starts sooner.
 */
import { z } from 'zod';
import { slideFactsSchema } from '../../../src/protocol/slide-facts.ts';
import { TILE_SIZE_PX } from '../../../src/protocol/slide-tiles.ts';
import { SLIDE_FAULTS } from './openslide.ts';
import { PATCH_FLAWS } from './patch-quality.ts';
import { PLACES_MAX } from './slide-protocol.ts';
import type { Stain } from './stain.ts';

/** More than a JPEG has for each pixel. */
export const TILE_BYTES_MAX = TILE_SIZE_PX * TILE_SIZE_PX * 4;
/** Of each picture of a survey: twice the bytes of the largest mask, uncompressed. */
export const PICTURE_BYTES_MAX = 8 * 1024 * 1024;

const triple = z.tuple([z.number(), z.number(), z.number()]).readonly();
export const stainSchema = z.discriminatedUnion('method', [
  z.strictObject({
    method: z.literal('MACENKO'),
    ...{ haematoxylin: triple, eosin: triple },
    amounts: z.tuple([z.number(), z.number()]).readonly(),
  }),
  z.strictObject({ method: z.literal('REINHARD'), means: triple, deviations: triple }),
]) satisfies z.ZodType<Stain>;

const bodyByteSize = z.int().min(0);
const pictureByteSize = z.int().min(1).max(PICTURE_BYTES_MAX);
const text = z.string().max(500);
const share = z.number().min(0).max(1);
/** Index into the places of the request. */
const place = z
  .int()
  .min(0)
  .max(PLACES_MAX - 1);

export const slideReplySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('READY'), bodyByteSize }),
  z.strictObject({ kind: z.literal('FAULT'), bodyByteSize, code: z.enum(SLIDE_FAULTS), reason: text }),
  z.strictObject({ kind: z.literal('OPENED'), bodyByteSize, slide: slideFactsSchema }),
  /** Its body: the patches, PLACE_BYTES for each, then the thumbnail, then the mask. */
  z.strictObject({
    kind: z.literal('SURVEYED'),
    ...{ bodyByteSize, tissueFraction: share, penFraction: share },
    ...{ thumbnailByteSize: pictureByteSize, maskByteSize: pictureByteSize },
    stain: stainSchema.nullable(),
  }),
  /** A patch that is good; its body is a PNG. */
  z.strictObject({
    kind: z.literal('PATCH'),
    ...{ bodyByteSize, place },
    pixelDigest: z.hex().length(64),
    perceptualHash: z.hex().length(16),
  }),
  z.strictObject({ kind: z.literal('FLAWED'), bodyByteSize, place, flaw: z.enum(PATCH_FLAWS) }),
  z.strictObject({ kind: z.literal('REGION_UNREADABLE'), bodyByteSize, place, reason: text }),
  /** Its body is a JPEG. */
  z.strictObject({ kind: z.literal('TILE'), bodyByteSize }),
  /** All patches of the request were sent. */
  z.strictObject({ kind: z.literal('CUT'), bodyByteSize }),
]);
export type SlideReply = z.infer<typeof slideReplySchema>;
