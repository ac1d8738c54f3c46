/** The messages between an import and the process that reads a slide. The import validates all that it receives. */
import { z } from 'zod';
import { slideFactsSchema } from '../../../src/protocol/slide-facts.ts';
import { TILE_SIZE_PX, type TilePlace } from '../../../src/protocol/slide-tiles.ts';
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import { SLIDE_FAULTS } from './openslide.ts';
import type { PatchPlace } from './patch-grid.ts';
import { PATCH_FLAWS } from './patch-quality.ts';
import { stainSchema, type Stain } from './stain.ts';

export type SlideRequest = { readonly bodyByteSize: number } & (
  | {
      readonly kind: 'OPEN';
      /** Relative to the shown folder. */
      readonly file: string;
      /** Overrides what the slide states; null: what it states. */
      readonly micronsPerPixel: number | null;
    }
  /** Find tissue, and the patches on it. */
  | { readonly kind: 'SURVEY'; readonly patchSizePx: number; readonly options: SlideOptions }
  /** Read patches: their top left corners in pixels of level 0. */
  | {
      readonly kind: 'CUT';
      readonly patchSizePx: number;
      readonly options: SlideOptions;
      readonly places: readonly PatchPlace[];
      /** Of the slide, from which patches are normalised; null: they stay as they are. */
      readonly stain: Stain | null;
    }
  /** For a viewer. */
  | { readonly kind: 'TILE'; readonly place: TilePlace }
);

/** Patches that are cut at one request. */
export const PLACES_MAX = 64;
/** More than a JPEG has for each pixel. */
export const TILE_BYTES_MAX = TILE_SIZE_PX * TILE_SIZE_PX * 4;
/** Of each picture of a survey: twice the bytes of the largest mask, uncompressed. */
export const PICTURE_BYTES_MAX = 8 * 1024 * 1024;
/** Of a survey's body for each patch: x and y as int32, the share of tissue as float32, little-endian. */
export const PLACE_BYTES = 12;

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
