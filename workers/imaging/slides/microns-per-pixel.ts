/**
 * How many microns a pixel of level 0 measures, and where that was learned. Microns per pixel are the authority on
 * resolution: a slide that does not state them, or states nonsense, is refused until they are given. Pure.
 */
import type { MicronsPerPixel, MicronsPerPixelSource } from '../../../src/protocol/slide-facts.ts';
import type { Resolution } from './geometry.ts';

/** All that the chain reads of a slide's properties; nothing else leaves the reader. */
export const RESOLUTION_PROPERTIES = [
  ...['openslide.mpp-x', 'openslide.mpp-y', 'openslide.objective-power'],
  ...['aperio.MPP', 'aperio.AppMag', 'hamamatsu.SourceLens'],
  'mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_X',
  'mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_Y',
  ...['ventana.ScanRes', 'tiff.XResolution', 'tiff.YResolution', 'tiff.ResolutionUnit'],
] as const;
export type ResolutionProperty = (typeof RESOLUTION_PROPERTIES)[number];
export type ResolutionProperties = Readonly<Partial<Record<ResolutionProperty, string>>>;

/** From the finest objective to an overview. */
export const MICRONS_PER_PIXEL_MIN = 0.05;
export const MICRONS_PER_PIXEL_MAX = 20;
/** Pixels are square, but for rounding. */
const AXES_RATIO_MAX = 1.02;
/** A pixel of a 1x objective measures about 10 um. */
const MICRONS_AT_1X = 10;
/** Scanners with a 20x lens and a magnifying adapter state 20 and have 0.23 um/px. */
const OBJECTIVE_RATIO_NOTED = 1.5;
const OBJECTIVE_RATIO_MAX = 3;

interface Stated extends Resolution {
  readonly source: MicronsPerPixelSource;
  readonly property: string | null;
}

/** @param given overrides the slide; null: what the slide states. */
export function micronsPerPixelOf(properties: ResolutionProperties, given: number | null): MicronsPerPixel {
  const stated =
    given === null ? statedIn(properties) : { x: given, y: given, source: 'GIVEN' as const, property: null };
  if (stated === null)
    return refused(
      'The slide does not state its microns per pixel. Give them in the column micronsPerPixel of the CSV.',
    );
  const { x, y } = stated;
  const where = stated.property === null ? 'The given value' : stated.property;
  const isNanometres = x > MICRONS_PER_PIXEL_MAX && inRange(x / 1000) && inRange(y / 1000);
  if (stated.source === 'TIFF_RESOLUTION' && x > MICRONS_PER_PIXEL_MAX)
    return refused(
      `The slide does not state its microns per pixel: the resolution of its TIFF, ${rounded(x)} um/px, is that of a screen or a printer. Give them in the column micronsPerPixel of the CSV.`,
    );
  if (isNanometres)
    return refused(
      `${where} states ${rounded(x)} um/px, which looks like nanometres. Give ${rounded(x / 1000)} in the column micronsPerPixel of the CSV if it is so.`,
    );
  if (!inRange(x) || !inRange(y))
    return refused(
      `${where} states ${rounded(x)} x ${rounded(y)} um/px, outside ${MICRONS_PER_PIXEL_MIN} to ${MICRONS_PER_PIXEL_MAX}. Give the right value in the column micronsPerPixel of the CSV.`,
    );
  if (Math.max(x / y, y / x) > AXES_RATIO_MAX)
    return refused(
      `${where} states ${rounded(x)} um/px across and ${rounded(y)} down, which differ by more than 2 %. Give one value in the column micronsPerPixel of the CSV.`,
    );
  const objective = objectiveOf(properties);
  const ratio = objective === null ? 1 : ratioOf(Math.sqrt(x * y), MICRONS_AT_1X / objective);
  if (ratio > OBJECTIVE_RATIO_MAX && stated.source !== 'GIVEN')
    return refused(
      `${where} states ${rounded(x)} um/px, but the objective of ${rounded(objective ?? 0)}x has about ${rounded(MICRONS_AT_1X / (objective ?? 1))}. Give the right value in the column micronsPerPixel of the CSV.`,
    );
  return { outcome: 'FOUND', ...stated, disagreesWithObjective: ratio > OBJECTIVE_RATIO_NOTED };
}

/** The nominal magnification that the slide states, null if none: a fact about the lens, not the size of a pixel. */
export function objectiveOf(properties: ResolutionProperties): number | null {
  return (
    positive(properties['openslide.objective-power']) ??
    positive(properties['aperio.AppMag']) ??
    positive(properties['hamamatsu.SourceLens'])
  );
}

/** The places where a slide may state it are asked in this order, and the first that does decides. */
function statedIn(properties: ResolutionProperties): Stated | null {
  const pair = (
    source: MicronsPerPixelSource,
    across: ResolutionProperty,
    down: ResolutionProperty,
    micronsOf: (value: number) => number = (value) => value,
  ): Stated | null => {
    const [x, y] = [positive(properties[across]), positive(properties[down])];
    if (x === null && y === null) return null;
    return { x: micronsOf(x ?? y ?? 0), y: micronsOf(y ?? x ?? 0), source, property: across };
  };
  return (
    pair('OPENSLIDE', 'openslide.mpp-x', 'openslide.mpp-y') ??
    pair('VENDOR', 'aperio.MPP', 'aperio.MPP') ??
    pair(
      'VENDOR',
      'mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_X',
      'mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_Y',
    ) ??
    pair('VENDOR', 'ventana.ScanRes', 'ventana.ScanRes') ??
    tiffResolution(properties, pair)
  );
}

const MICRONS_OF_UNIT: Readonly<Record<string, number>> = { inch: 25_400, centimeter: 10_000 };

/** A TIFF without a unit states an aspect ratio, not a resolution. */
function tiffResolution(
  properties: ResolutionProperties,
  pair: (
    source: MicronsPerPixelSource,
    across: ResolutionProperty,
    down: ResolutionProperty,
    micronsOf: (value: number) => number,
  ) => Stated | null,
): Stated | null {
  const microns = MICRONS_OF_UNIT[properties['tiff.ResolutionUnit'] ?? ''];
  if (microns === undefined) return null;
  return pair('TIFF_RESOLUTION', 'tiff.XResolution', 'tiff.YResolution', (perUnit) => microns / perUnit);
}

/** Some scanners write a comma. */
function positive(text: string | undefined): number | null {
  const value = Number(text?.trim().replace(',', '.') ?? '');
  return Number.isFinite(value) && value > 0 ? value : null;
}

function inRange(value: number): boolean {
  return value >= MICRONS_PER_PIXEL_MIN && value <= MICRONS_PER_PIXEL_MAX;
}

function ratioOf(a: number, b: number): number {
  return Math.max(a / b, b / a);
}

function rounded(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function refused(reason: string): MicronsPerPixel {
  return { outcome: 'REFUSED', reason };
}
