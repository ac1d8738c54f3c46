/** What a view may do to an image. The runs module checks these values when it freezes a launch. */

/**
 * Defaults and meanings are those of SimCLR (Chen et al. 2020, appendix A), with the quarter turns that tissue allows.
 */
export interface AugmentationConfig {
  /** Least part of the image's area that a crop keeps, in (0, 1]. */
  readonly cropScaleMin: number;
  /** Greatest part, in [cropScaleMin, 1]. */
  readonly cropScaleMax: number;
  /** Mirrors half of the views. */
  readonly flip: boolean;
  /** Rotates by 0, 90, 180 or 270 degrees: tissue has no preferred orientation. */
  readonly quarterTurns: boolean;
  /** 0..2; 1 means brightness, contrast and saturation within 1 +- 0.8 and hue within +- 0.2 of a turn. */
  readonly colourJitterStrength: number;
  readonly colourJitterProbability: number;
  readonly greyProbability: number;
  readonly blurProbability: number;
  /**
   * 0..1; 0: none. Each stain is multiplied by 1 +- this and its optical density shifted by +- this; Tellez et al. 2018
   * and 2019 use 0.05 (light) and 0.2 (strong).
   */
  readonly stainJitterStrength: number;
  readonly stainJitterProbability: number;
  /** Inverts the values from 128 of 255 on [0]. No launch sets it; a method's own views may. */
  readonly solariseProbability?: number | undefined;
}

/** How one view of an image is made. */
export interface ViewSpec {
  /** Side of the view. */
  readonly sizePx: number;
  readonly augmentation: AugmentationConfig;
}

/** Views of one size, which go through an encoder together. */
export interface ViewGroup {
  readonly sizePx: number;
  /** One for each view. */
  readonly augmentations: readonly AugmentationConfig[];
}

/** Two views that differ only in what is drawn for them. */
export function pairOf({ sizePx, augmentation }: ViewSpec): readonly [ViewGroup] {
  return [{ sizePx, augmentations: [augmentation, augmentation] }];
}

/**
 * Two views of which the first is always blurred, and the second rarely, but sometimes solarised (Grill et al. 2020,
 * arXiv:2006.07733, appendix B). Where the run's settings have no blur, none is blurred.
 */
export function asymmetricPairOf({ sizePx, augmentation }: ViewSpec): readonly [ViewGroup] {
  const blurs = augmentation.blurProbability > 0;
  return [
    {
      sizePx,
      augmentations: [
        { ...augmentation, blurProbability: blurs ? 1 : 0 },
        { ...augmentation, blurProbability: blurs ? 0.1 : 0, solariseProbability: 0.2 },
      ],
    },
  ];
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
  stainJitterStrength: 0,
  stainJitterProbability: 1,
};
