/**
 * The random parameters of the augmentation: a few numbers for each view, drawn on the host, so that nothing on the
 * device is random.
 */
import type { Random } from '../rng.ts';
import type { AugmentationConfig } from './config.ts';
import type { StainJitter, StainTriple } from './stain.ts';

/** A rectangle of the source in pixels; its edges need not be integers. */
export interface Crop {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** How one view is taken from the source: cropped, mirrored left to right, then rotated counter-clockwise. */
export interface ViewGeometry {
  readonly crop: Crop;
  readonly flipped: boolean;
  readonly quarterTurnCount: 0 | 1 | 2 | 3;
}

/** Factors of torchvision's ColorJitter: factors of 1 and a hue of 0 leave an image unchanged. */
export interface ViewColour {
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
  /** Fraction of a full turn, -0.5..0.5. */
  readonly hue: number;
}

export interface ViewParameters {
  readonly geometry: ViewGeometry;
  readonly colour: ViewColour;
  readonly grey: boolean;
  /** 0 = not blurred. */
  readonly blurSigmaPx: number;
  /** Null = not jittered. */
  readonly stain: StainJitter | null;
  readonly solarised: boolean;
}

export type ColourOp = keyof ViewColour;
export const COLOUR_OPS = ['brightness', 'contrast', 'saturation', 'hue'] as const satisfies readonly ColourOp[];

const ASPECT_MIN = 3 / 4;
const ASPECT_MAX = 4 / 3;
const CROP_ATTEMPTS = 10;
const QUARTER_TURN_COUNTS = [0, 1, 2, 3] as const;
const UNCHANGED_COLOUR: ViewColour = { brightness: 1, contrast: 1, saturation: 1, hue: 0 };
/** SimCLR blurs views of 224 px with sigma 0.1..2 px; sigma is scaled in proportion for other sizes. */
const BLUR_REFERENCE_SIZE_PX = 224;

/** Draws one view of a square source. The same state of `random` gives the same view. */
export function drawView(
  config: AugmentationConfig,
  sourceSizePx: number,
  viewSizePx: number,
  random: Random,
): ViewParameters {
  return {
    geometry: {
      crop: drawCrop(config, sourceSizePx, random),
      flipped: config.flip && random.chance(0.5),
      quarterTurnCount: config.quarterTurns ? (QUARTER_TURN_COUNTS[random.integer(4)] ?? 0) : 0,
    },
    colour: random.chance(config.colourJitterProbability)
      ? drawColour(config.colourJitterStrength, random)
      : UNCHANGED_COLOUR,
    grey: random.chance(config.greyProbability),
    blurSigmaPx: random.chance(config.blurProbability)
      ? (random.between(0.1, 2) * viewSizePx) / BLUR_REFERENCE_SIZE_PX
      : 0,
    stain: drawStain(config, random),
    solarised: drawSolarised(config, random),
  };
}

/**
 * As torchvision's RandomResizedCrop: area uniform, aspect log-uniform in 3/4..4/3, ten tries, else the largest square.
 */
function drawCrop(config: AugmentationConfig, sourceSizePx: number, random: Random): Crop {
  for (let attempt = 0; attempt < CROP_ATTEMPTS; attempt += 1) {
    const area = random.between(config.cropScaleMin, config.cropScaleMax) * sourceSizePx ** 2;
    const aspect = Math.exp(random.between(Math.log(ASPECT_MIN), Math.log(ASPECT_MAX)));
    const width = Math.sqrt(area * aspect);
    const height = Math.sqrt(area / aspect);
    if (width <= sourceSizePx && height <= sourceSizePx) {
      return {
        left: random.between(0, sourceSizePx - width),
        top: random.between(0, sourceSizePx - height),
        width,
        height,
      };
    }
  }
  const size = sourceSizePx * Math.sqrt(config.cropScaleMax);
  const margin = (sourceSizePx - size) / 2;
  return { left: margin, top: margin, width: size, height: size };
}

function drawColour(strength: number, random: Random): ViewColour {
  const factor = (): number => random.between(Math.max(0, 1 - 0.8 * strength), 1 + 0.8 * strength);
  return {
    brightness: factor(),
    contrast: factor(),
    saturation: factor(),
    hue: random.between(-0.2 * strength, 0.2 * strength),
  };
}

/** Draws nothing where there is none, as `drawStain`. */
function drawSolarised({ solariseProbability = 0 }: AugmentationConfig, random: Random): boolean {
  return solariseProbability > 0 && random.chance(solariseProbability);
}

/** Draws nothing where there is no jitter, so that runs from before it existed go on to the same bits. */
function drawStain(
  { stainJitterStrength: strength, stainJitterProbability }: AugmentationConfig,
  random: Random,
): StainJitter | null {
  if (strength === 0 || !random.chance(stainJitterProbability)) return null;
  const triple = (centre: number): StainTriple => [
    random.between(centre - strength, centre + strength),
    random.between(centre - strength, centre + strength),
    random.between(centre - strength, centre + strength),
  ];
  return { factors: triple(1), shifts: triple(0) };
}
