/** Where on a slide a patch lies, and which pixels of which level it is made from. Pure. */

export interface SlideLevel {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  /** Pixels of level 0 for one pixel of this level; 1 for level 0. */
  readonly downsample: number;
}

export interface Resolution {
  /** Microns per pixel, from left to right and from top to bottom. */
  readonly x: number;
  readonly y: number;
}

export interface SlideGeometry {
  /** From the finest. */
  readonly levels: readonly SlideLevel[];
  /** Of level 0. */
  readonly micronsPerPixel: Resolution;
}

export interface PatchSize {
  readonly micronsPerPixel: number;
  readonly patchSizePx: number;
}

/** Pixels of a level, and how the patch lies in them. */
export interface SourceRegion {
  readonly level: number;
  /** Top left corner in pixels of level 0. */
  readonly x: number;
  readonly y: number;
  /** In pixels of the level. */
  readonly width: number;
  readonly height: number;
  /** Where in the region the patch begins, in pixels of the level, with fractions. */
  readonly left: number;
  readonly top: number;
  /** Pixels of the level for one pixel of the patch. */
  readonly scaleX: number;
  readonly scaleY: number;
}

/** Levels are rounded to whole pixels, or cut to them. */
const LEVEL_ROUNDING_PX = 2;
/** A level of another shape would be read at the wrong places, by this share of the distance from the corner. */
const LEVEL_SHAPE_DIFFERENCE_MAX = 0.02;

/** A sentence on the first level that does not have the shape of the slide; null if all do. */
export function levelFaultIn(levels: readonly SlideLevel[]): string | null {
  const [whole] = levels;
  if (whole === undefined) return 'It has no levels.';
  const differs = (length: number, expected: number): boolean =>
    Math.abs(length - expected) > LEVEL_ROUNDING_PX + LEVEL_SHAPE_DIFFERENCE_MAX * length;
  for (const [index, { width, height }] of levels.entries()) {
    if (width < 1 || height < 1) return `Level ${index} states ${width} x ${height} px.`;
    // Of a few pixels nothing follows, so that the longer side decides.
    const [across, down] = [whole.width / width, whole.height / height];
    if (differs(width, whole.width / down) && differs(height, whole.height / across))
      return `Level ${index} states ${width} x ${height} px, which is not the shape of level 0, ${whole.width} x ${whole.height} px. Convert the slide to a pyramidal TIFF.`;
  }
  return null;
}

/**
 * Scanners of one nominal magnification differ by a few percent (0.23 to 0.27 um/px at 40x); more enlargement than this
 * would show detail that was never recorded.
 */
export const ENLARGEMENT_MAX = 1.1;
/** A level this much coarser than what is asked for still counts as equal: the rounding of level sizes. */
const EQUAL_WITHIN = 1.002;

/** Whether patches of this resolution can be made from the slide. */
export function isFineEnough({ micronsPerPixel: { x, y } }: SlideGeometry, micronsPerPixel: number): boolean {
  return Math.max(x, y) <= micronsPerPixel * ENLARGEMENT_MAX;
}

/** The coarsest level that is at least as fine as asked for; level 0 if none is. */
export function levelFor({ levels, micronsPerPixel: { x, y } }: SlideGeometry, micronsPerPixel: number): number {
  const finest = Math.max(x, y);
  let best = 0;
  for (const [index, { downsample }] of levels.entries())
    if (finest * downsample <= micronsPerPixel * EQUAL_WITHIN && downsample > (levels[best]?.downsample ?? 1))
      best = index;
  return best;
}

/** Width and height of a patch in pixels of level 0, with fractions. */
export function level0SizeOf(
  { micronsPerPixel: { x, y } }: SlideGeometry,
  { micronsPerPixel, patchSizePx }: PatchSize,
): { readonly width: number; readonly height: number } {
  const microns = micronsPerPixel * patchSizePx;
  return { width: microns / x, height: microns / y };
}

/**
 * The region from which a patch is resampled.
 * @param x,y the patch's top left corner in pixels of level 0.
 */
export function sourceRegionOf(geometry: SlideGeometry, patch: PatchSize, x: number, y: number): SourceRegion {
  const level = levelFor(geometry, patch.micronsPerPixel);
  const { downsample, width, height } = geometry.levels[level] ?? { downsample: 1, width: 0, height: 0 };
  const size = level0SizeOf(geometry, patch);
  const across = alongAxis(x, size.width, downsample, width);
  const down = alongAxis(y, size.height, downsample, height);
  return {
    level,
    ...{ x: across.origin, width: across.length, left: across.offset },
    ...{ y: down.origin, height: down.length, top: down.offset },
    scaleX: size.width / downsample / patch.patchSizePx,
    scaleY: size.height / downsample / patch.patchSizePx,
  };
}

/**
 * OpenSlide is asked at whole pixels of the level, because between them it would interpolate in a way of its own.
 * @param start,length in pixels of level 0.
 */
function alongAxis(
  start: number,
  length: number,
  downsample: number,
  levelLength: number,
): { readonly origin: number; readonly length: number; readonly offset: number } {
  const first = Math.max(0, Math.floor(start / downsample + 1e-6));
  const last = Math.min(levelLength, Math.ceil((start + length) / downsample - 1e-6));
  const origin = Math.round(first * downsample);
  return { origin, length: Math.max(1, last - first), offset: Math.max(0, start / downsample - first) };
}
