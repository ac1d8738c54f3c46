/** The trainings of the experiment, and how long each may take. */
import type { ExperimentPart } from './images.ts';

export interface Arm {
  readonly name: string;
  /** What it is for. */
  readonly meaning: string;
  readonly folders: readonly string[];
  /** The fraction of each dataset's images; the number of steps does not change. */
  readonly imageShare: number;
  readonly isTrained: boolean;
  /** As in a launch. */
  readonly method: string;
  readonly methodOptions: object;
}

/** Which arms there are: by the images of the training, or by its method. */
export type Question = 'data' | 'methods';

/** The paper's questions in small: one dataset or many, few images or all, one stain or several. */
export function armsOf(parts: readonly ExperimentPart[]): Arm[] {
  const all = parts.map(({ folder }) => folder);
  const has = (folders: readonly string[]): string[] => folders.filter((folder) => all.includes(folder));
  const trained = (name: string, meaning: string, folders: readonly string[], imageShare = 1): Arm => ({
    name,
    meaning,
    folders,
    imageShare,
    isTrained: true,
    method: 'SIMCLR',
    methodOptions: {},
  });
  return [
    randomArm(all),
    trained('one', 'lc25000_lung alone', has(['lc25000_lung'])),
    trained(
      'several',
      'lc25000_lung, camelyon16_patches and kather2016_texture',
      has(['lc25000_lung', 'camelyon16_patches', 'kather2016_texture']),
    ),
    trained('all 5 %', '5 % of every dataset', all, 0.05),
    trained('all 25 %', '25 % of every dataset', all, 0.25),
    trained('all 50 %', '50 % of every dataset', all, 0.5),
    trained('all', 'every image of every dataset', all),
    trained(
      'H&E only',
      'every H&E dataset, no other stain',
      parts.filter(({ isHematoxylinEosin }) => isHematoxylinEosin).map(({ folder }) => folder),
    ),
  ];
}

/** The methods, each on every image, for as many steps of as many images. */
export function methodArmsOf(parts: readonly ExperimentPart[]): Arm[] {
  const folders = parts.map(({ folder }) => folder);
  const trained = (name: string, meaning: string, method: string, methodOptions: object = {}): Arm => ({
    name,
    meaning,
    folders,
    imageShare: 1,
    isTrained: true,
    method,
    methodOptions,
  });
  return [
    randomArm(folders),
    trained('SimCLR', 'NT-Xent, the default', 'SIMCLR'),
    trained('DCL', 'SimCLR without the positive pair in its denominator', 'SIMCLR', { decoupled: true }),
    trained('Barlow Twins', 'without negatives', 'BARLOW_TWINS'),
    trained('VICReg', 'without negatives', 'VICREG'),
    // Half as many keys as there are images, so that few of an image's negatives are its own.
    trained('MoCo v2', 'with a queue of 1,024 keys', 'MOCO', { version: 'V2', queueSize: 1024 }),
    trained('MoCo v3', 'without a queue', 'MOCO', { version: 'V3' }),
    trained('DINO', 'with eight small crops beside the two large ones', 'DINO'),
  ];
}

function randomArm(folders: readonly string[]): Arm {
  return {
    name: 'random',
    meaning: 'the encoder with its random initial weights, not trained',
    folders: folders.slice(0, 1),
    imageShare: 1,
    isTrained: false,
    method: 'SIMCLR',
    methodOptions: {},
  };
}

export interface Pace {
  readonly imagesPerSecond: number;
  /** Starting a training's process, reading the data, and registering the result. */
  readonly trainingOverheadSeconds: number;
  readonly evaluationSeconds: number;
}

export interface Plan {
  readonly seedCount: number;
  readonly steps: number;
}

const SEEDS_MAX = 5;

/**
 * Chooses as many seeds as leave each training `wantedSteps`, at least one, and then as many steps as the time allows,
 * up to `stepsMax`.
 */
export function planWithin(
  secondsLeft: number,
  trainedArmCount: number,
  evaluationsPerArm: number,
  batchSize: number,
  pace: Pace,
  wantedSteps: number,
  stepsMax: number,
): Plan {
  const stepsFor = (seedCount: number): number => {
    const fixed =
      trainedArmCount * seedCount * (pace.trainingOverheadSeconds + evaluationsPerArm * pace.evaluationSeconds);
    return Math.floor(((secondsLeft - fixed) * pace.imagesPerSecond) / (trainedArmCount * seedCount * batchSize));
  };
  let seedCount = 1;
  while (seedCount < SEEDS_MAX && stepsFor(seedCount + 1) >= wantedSteps) seedCount += 1;
  return { seedCount, steps: Math.max(1, Math.min(stepsMax, stepsFor(seedCount))) };
}
