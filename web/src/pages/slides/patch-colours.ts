/**
 * Which colour each patch of a slide has, and what the colours mean. Pure. Nothing is told by hues that colour-blind
 * people cannot tell apart: labels have the colours of Okabe and Ito, numbers those of viridis, which
 * grow lighter with the number.
 */

export interface PatchColours {
  /** The patches of each colour, by their places on the slide. */
  readonly groups: readonly { readonly colour: string; readonly patches: readonly number[] }[];
  /** True if patches are filled, as in a heat map; otherwise they are outlined, so that the tissue is seen. */
  readonly isFilled: boolean;
  readonly legend: Legend;
  /** What is known of one patch, such as `predicted tumour`. */
  readonly describe: (patch: number) => string;
}

export type Legend =
  | {
      readonly kind: 'NAMES';
      readonly entries: readonly { readonly name: string; readonly colour: string; readonly patchCount: number }[];
    }
  | {
      readonly kind: 'SCALE';
      readonly title: string;
      readonly low: number;
      readonly high: number;
      /** Patches without a number; they are grey. */
      readonly otherCount: number;
    };

/** Of a patch without a number: lighter than the low end of the scale, and without a hue. */
const NO_NUMBER_COLOUR = '#767676';
/** Of a patch without a name: seen on tissue, and on what the mask darkens. */
const NO_NAME_COLOUR = '#4d4d4d';

/**
 * Okabe and Ito 2008, "Color Universal Design", without the yellow and the pink, which are not seen on glass and on
 * tissue.
 */
const NAME_COLOURS = ['#0072b2', '#e69f00', '#009e73', '#d55e00', '#56b4e9', '#000000'] as const;

/** viridis (van der Walt and Smith 2015) at nine equal steps. */
const VIRIDIS = [
  [68, 1, 84],
  [71, 45, 123],
  [59, 82, 139],
  [44, 114, 142],
  [33, 145, 140],
  [40, 174, 128],
  [94, 201, 98],
  [173, 220, 48],
  [253, 231, 37],
] as const;

/** So few colours that patches are drawn colour by colour, so many that steps are not seen. */
const SCALE_STEPS = 64;

/** @param share 0..1; numbers outside count as the nearest end. */
export function scaleColour(share: number): string {
  const step = Math.round(Math.min(1, Math.max(0, share)) * (SCALE_STEPS - 1)) / (SCALE_STEPS - 1);
  const place = step * (VIRIDIS.length - 1);
  const [below, above] = [VIRIDIS[Math.floor(place)], VIRIDIS[Math.ceil(place)]];
  const part = place - Math.floor(place);
  const channels = [0, 1, 2].map((channel) => {
    const [from, to] = [below?.[channel] ?? 0, above?.[channel] ?? 0];
    return Math.round(from + (to - from) * part);
  });
  return `rgb(${channels.join(' ')})`;
}

/** For CSS: the whole scale from left to right. */
export const SCALE_GRADIENT = `linear-gradient(to right, ${VIRIDIS.map((channels) => `rgb(${channels.join(' ')})`).join(', ')})`;

/** The same colour for the same label on every slide of a version. @param names all labels of the version. */
function nameColours(names: readonly string[]): ReadonlyMap<string, string> {
  return new Map(names.map((name, index) => [name, NAME_COLOURS[index] ?? furtherColour(index)]));
}

/** Beyond the colours that everybody can tell apart, hues far from those before. */
function furtherColour(index: number): string {
  const GOLDEN_ANGLE = 137.5;
  return `hsl(${Math.round((index * GOLDEN_ANGLE) % 360)} 70% 30%)`;
}

export interface PlacesOfNames {
  readonly names: readonly string[];
  /** For each patch its place among the names, or null. */
  readonly places: readonly (number | null)[];
}

/**
 * @param allNames of the version.
 * @param words what a name is, such as `predicted`, and what a patch without one is.
 */
export function coloursOfNames(
  { names, places }: PlacesOfNames,
  allNames: readonly string[],
  words: { readonly name: string; readonly none: string },
): PatchColours {
  const colours = nameColours([...allNames, ...names.filter((name) => !allNames.includes(name))]);
  const byPlace = Map.groupBy(places.keys(), (patch) => places[patch] ?? null);
  const entries = [...names.keys(), null].flatMap((place) => {
    const patches = byPlace.get(place) ?? [];
    if (patches.length === 0) return [];
    const name = place === null ? null : (names[place] ?? null);
    const colour = name === null ? NO_NAME_COLOUR : (colours.get(name) ?? NO_NAME_COLOUR);
    return [{ name: name ?? words.none, colour, patches, patchCount: patches.length }];
  });
  return {
    groups: entries.map(({ colour, patches }) => ({ colour, patches })),
    isFilled: false,
    legend: { kind: 'NAMES', entries: entries.map(({ name, colour, patchCount }) => ({ name, colour, patchCount })) },
    describe: (patch) => {
      const name = names[places[patch] ?? -1];
      return name === undefined ? words.none : `${words.name} ${name}`;
    },
  };
}

/**
 * @param values for each patch a number, or null.
 * @param range of the scale; default: that of the values.
 * @param words the title of the scale, and what a patch without a number is.
 */
export function coloursOfNumbers(
  values: readonly (number | null)[],
  range: { readonly low?: number; readonly high?: number },
  words: { readonly title: string; readonly none: string },
): PatchColours {
  let [smallest, largest] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null) continue;
    smallest = Math.min(smallest, value);
    largest = Math.max(largest, value);
  }
  const low = range.low ?? (Number.isFinite(smallest) ? smallest : 0);
  const high = range.high ?? (Number.isFinite(largest) ? largest : 1);
  const shareOf = (value: number): number => (high > low ? (value - low) / (high - low) : 1);
  const byColour = Map.groupBy(values.keys(), (patch) => {
    const value = values[patch] ?? null;
    return value === null ? NO_NUMBER_COLOUR : scaleColour(shareOf(value));
  });
  return {
    groups: [...byColour].map(([colour, patches]) => ({ colour, patches })),
    isFilled: true,
    legend: {
      ...{ kind: 'SCALE', title: words.title, low, high },
      otherCount: values.filter((value) => value === null).length,
    },
    describe: (patch) => {
      const value = values[patch] ?? null;
      return value === null ? words.none : `${words.title} ${Number(value.toPrecision(4))}`;
    },
  };
}
