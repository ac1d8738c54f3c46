/** The colours of markers with which pathologists draw on glass. Pure. */

/** Stains are paler than ink, or red to violet: their green is not above their red by this much. */
const GREEN_OVER_RED_MIN = 25;
const SATURATION_MIN = 60;
/** Red ink lets hardly any green or blue through, and as much of one as of the other; eosin and blood are pinker. */
const RED_OVER_REST_MIN = 110;
const GREEN_BLUE_DIFFERENCE_MAX = 40;
/** Black ink; a nucleus is violet, DAB is brown. */
const BLACK_MAX = 60;
const BLACK_SPREAD_MAX = 18;

/**
 * Whether a pixel looks like ink: blue, green, red or black. A weak blue counterstain (haematoxylin in
 * immunohistochemistry) does not; a strong green or cyan stain, such as methyl green or Alcian blue, does: switch the
 * check off for these with a pen share of 1.
 */
export function isPen(red: number, green: number, blue: number): boolean {
  const [brightest, darkest] = [Math.max(red, green, blue), Math.min(red, green, blue)];
  if (brightest <= BLACK_MAX) return brightest - darkest <= BLACK_SPREAD_MAX;
  if (green - red >= GREEN_OVER_RED_MIN && brightest - darkest >= SATURATION_MIN) return true;
  return red - Math.max(green, blue) >= RED_OVER_REST_MIN && Math.abs(green - blue) <= GREEN_BLUE_DIFFERENCE_MAX;
}
