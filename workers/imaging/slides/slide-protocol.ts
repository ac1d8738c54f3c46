/** The requests of an import to the process that reads a slide, whose answers are in slide-reply.ts. */
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import type { TilePlace } from '../../../src/protocol/slide-tiles.ts';
import type { PatchPlace } from './patch-grid.ts';
import type { Stain } from './stain.ts';

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
/** Of a survey's body for each patch: x and y as int32, the share of tissue as float32, little-endian. */
export const PLACE_BYTES = 12;
