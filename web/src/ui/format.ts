/** Formats numbers, instants and names for display. */

/** Creating a formatter takes a browser 10 to 20 ms, so each is created on first use. */
const whole = once(() => new Intl.NumberFormat('en-GB'));
const shortened = once(() => new Intl.NumberFormat('en-GB', { maximumSignificantDigits: 4 }));
const dayAndMinute = once(() => new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' }));
const second = once(() => new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' }));
const BYTE_UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const;

export function count(value: number): string {
  return whole().format(value);
}

/** e.g. `1 image`, `57 datasets` */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** e.g. `1 patch`, `1,000 patches` */
export function formatPatches(value: number): string {
  return `${count(value)} ${value === 1 ? 'patch' : 'patches'}`;
}

/** e.g. `4 groups`, `4 groups, and 12 images whose patient or slide is not known`. */
export function formatGroups({
  groupCount,
  ungroupedImageCount,
  imageCount,
}: {
  readonly groupCount: number;
  /** Null if it was not counted, as in a draft. */
  readonly ungroupedImageCount: number | null;
  readonly imageCount: number;
}): string {
  if (ungroupedImageCount === null) return 'groups not counted';
  if (ungroupedImageCount === 0) return counted(groupCount, 'group');
  if (ungroupedImageCount === imageCount) return 'patients or slides not known';
  return `${counted(groupCount, 'group')}, and ${counted(ungroupedImageCount, 'image')} whose patient or slide is not known`;
}

/** A number of at least 10,000 without decimals, a smaller one with at most four digits. */
export function short(value: number): string {
  return Math.abs(value) >= 10_000 ? whole().format(Math.round(value)) : shortened().format(value);
}

/** A score of 0..1 with three places. */
export function score(value: number): string {
  return value.toFixed(3);
}

export function bytes(value: number): string {
  // From 999.5 on, three digits would round up to 1.00e+3, so the next unit begins there.
  const power = Math.max(
    0,
    BYTE_UNITS.findLastIndex((_, each) => value / 1000 ** each >= 0.9995),
  );
  return `${power === 0 ? value : (value / 1000 ** power).toPrecision(3)} ${BYTE_UNITS[power] ?? ''}`;
}

export function instant(at: string): string {
  return dayAndMinute().format(new Date(at));
}

export function clock(at: string): string {
  return second().format(new Date(at));
}

export function duration(durationMs: number): string {
  const seconds = Math.max(0, Math.round(durationMs / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/**
 * LINEAR_PROBE as `linear probe` and QUEUED as `queued`; abbreviations of up to four letters, RESNET18 and macroF1
 * unchanged.
 */
export function words(name: string): string {
  return /^[A-Z0-9_]+$/.test(name) && name.includes('_')
    ? name.toLowerCase().replaceAll('_', ' ')
    : /^[A-Z]{5,}$/.test(name)
      ? name.toLowerCase()
      : name;
}

/** The value in JSON at a path of names: `inside(run, 'config', 'steps')`. */
export function inside(value: unknown, ...names: readonly string[]): unknown {
  return names.reduce<unknown>(
    (within, name) => (typeof within === 'object' && within !== null ? Reflect.get(within, name) : undefined),
    value,
  );
}

function once<Value>(make: () => Value): () => Value {
  let cached: Value | undefined;
  return () => (cached ??= make());
}
