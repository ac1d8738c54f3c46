/** What a SimCLR view may do to an image, and the strict reading of it from JSON. */

/** Defaults and meanings are those of SimCLR (Chen et al. 2020, appendix A), with the quarter turns that tissue allows. */
export interface AugmentationConfig {
  /** Least part of the image's area that a crop keeps, in (0, 1]. */
  readonly cropScaleMin: number;
  /** Greatest part, in [cropScaleMin, 1]. */
  readonly cropScaleMax: number;
  /** Mirror half of the views. */
  readonly flip: boolean;
  /** Turn by 0, 90, 180 or 270 degrees: tissue has no up. */
  readonly quarterTurns: boolean;
  /** 0..2; 1 means brightness, contrast and saturation within 1 +- 0.8 and hue within +- 0.2 of a turn. */
  readonly colourJitterStrength: number;
  readonly colourJitterProbability: number;
  readonly greyProbability: number;
  readonly blurProbability: number;
}

export const DEFAULT_AUGMENTATION: AugmentationConfig = {
  cropScaleMin: 0.08,
  cropScaleMax: 1,
  flip: true,
  quarterTurns: true,
  colourJitterStrength: 1,
  colourJitterProbability: 0.8,
  greyProbability: 0.2,
  blurProbability: 0.5,
};

/** One field that is wrong and the rule it breaks; field '' is the whole. */
export interface AugmentationFault {
  readonly field: string;
  readonly rule: string;
}

export type AugmentationParse =
  | { readonly ok: true; readonly config: AugmentationConfig }
  | { readonly ok: false; readonly faults: readonly AugmentationFault[] };

type NumberField = { [Field in keyof AugmentationConfig]: AugmentationConfig[Field] extends number ? Field : never }[keyof AugmentationConfig];
type SwitchField = Exclude<keyof AugmentationConfig, NumberField>;

/**
 * Reads the `augmentation` of a launch. Null, undefined and absent fields mean the defaults; every unknown field, wrong type and number out
 * of range is listed.
 */
export function parseAugmentation(json: unknown): AugmentationParse {
  if (json === null || json === undefined) return { ok: true, config: DEFAULT_AUGMENTATION };
  if (typeof json !== 'object' || Array.isArray(json)) return { ok: false, faults: [{ field: '', rule: 'must be an object' }] };
  const given = new Map<string, unknown>(Object.entries(json));
  const faults: AugmentationFault[] = [];
  const number = (field: NumberField, min: number, max: number): number => {
    const value = given.get(field) ?? DEFAULT_AUGMENTATION[field];
    if (typeof value === 'number' && value >= min && value <= max) return value;
    faults.push({ field, rule: `must be a number of ${min}..${max}` });
    return DEFAULT_AUGMENTATION[field];
  };
  const onOff = (field: SwitchField): boolean => {
    const value = given.get(field) ?? DEFAULT_AUGMENTATION[field];
    if (typeof value === 'boolean') return value;
    faults.push({ field, rule: 'must be true or false' });
    return DEFAULT_AUGMENTATION[field];
  };
  const config: AugmentationConfig = {
    cropScaleMin: number('cropScaleMin', 0.001, 1),
    cropScaleMax: number('cropScaleMax', 0.001, 1),
    flip: onOff('flip'),
    quarterTurns: onOff('quarterTurns'),
    colourJitterStrength: number('colourJitterStrength', 0, 2),
    colourJitterProbability: number('colourJitterProbability', 0, 1),
    greyProbability: number('greyProbability', 0, 1),
    blurProbability: number('blurProbability', 0, 1),
  };
  for (const field of given.keys()) {
    if (!Object.hasOwn(DEFAULT_AUGMENTATION, field)) faults.push({ field, rule: 'is not a field of the augmentation' });
  }
  if (faults.length === 0 && config.cropScaleMin > config.cropScaleMax) {
    faults.push({ field: 'cropScaleMin', rule: 'must not be above cropScaleMax' });
  }
  return faults.length === 0 ? { ok: true, config } : { ok: false, faults };
}
