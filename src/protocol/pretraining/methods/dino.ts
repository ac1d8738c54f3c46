import { z } from 'zod';
import type { MethodDescription } from './description.ts';

const temperature = z.number().min(0.001, 'must be positive (0.001 to 100)').max(100, 'must be at most 100');
const momentum = z.number().min(0, 'must not be negative').max(1, 'must be at most 1');
const cropScale = z.number().gt(0, 'must be positive').max(1, 'must be at most 1');
const OPTIONS = {
  /** K, the length of the head's output. */
  prototypeCount: z.number().int().min(2, 'must be at least 2').max(262_144, 'must be at most 262144'),
  /** Length of the head's two hidden layers. */
  hiddenDim: z.number().int().min(1, 'must be at least 1').max(8192, 'must be at most 8192'),
  /** Length of the head's projection on the unit sphere. */
  bottleneckDim: z.number().int().min(1, 'must be at least 1').max(4096, 'must be at most 4096'),
  studentTemperature: temperature,
  teacherTemperature: temperature,
  /** The share of its weights that the teacher keeps in the first step; it rises to 1 along a cosine. */
  teacherMomentum: momentum,
  /** The share of itself that the centre keeps in a step. */
  centreMomentum: momentum,
  /** Small crops of each image, beside the two large ones. */
  localViewCount: z.number().int().min(0, 'must not be negative').max(32, 'must be at most 32'),
  /** The part of the image's area that a small crop shows. */
  localCropScaleMin: cropScale,
  localCropScaleMax: cropScale,
};

const RANGE = {
  message: 'localCropScaleMin must not exceed localCropScaleMax',
  path: ['localCropScaleMin'],
};

/** The area that divides large crops from small ones: the published vision transformers' (the paper's code). */
const CROP_SCALE = 0.25;

export const DINO = {
  name: 'DINO',
  title: 'DINO',
  paper: 'Caron et al. 2021, arXiv:2104.14294',
  help: 'prototypeCount (4096), hiddenDim (2048), bottleneckDim (256), studentTemperature (0.1), teacherTemperature (0.04), teacherMomentum (0.996), centreMomentum (0.9), localViewCount (8), localCropScaleMin (0.05), localCropScaleMax (0.25)',
  config: z
    .object({ name: z.literal('DINO'), ...OPTIONS })
    .refine(({ localCropScaleMin, localCropScaleMax }) => localCropScaleMin <= localCropScaleMax, RANGE),
  options: z.strictObject(OPTIONS).partial(),
  hasTemperature: false,
  recipes: ['DEFAULT'],
  defaults: () => ({
    // The paper's is 65536, whose last layer alone has more weights than a ResNet-18. What fewer lose is not measured.
    prototypeCount: 4096,
    // Section 3.1 of the paper, and its code.
    hiddenDim: 2048,
    bottleneckDim: 256,
    // Section 3.2 of the paper; its teacher's temperature rises from 0.04 to 0.07 in long runs.
    studentTemperature: 0.1,
    teacherTemperature: 0.04,
    teacherMomentum: 0.996,
    // The default of the paper's code, as are the small crops and the least of their areas.
    centreMomentum: 0.9,
    localViewCount: 8,
    localCropScaleMin: 0.05,
    localCropScaleMax: CROP_SCALE,
  }),
  recipeChanges: (usual) => ({
    // The small crops are smaller than these views, and no encoder takes views of less than 16 or 32 px.
    viewSizePx: (imageSizePx) => imageSizePx,
    augmentation: (imageSizePx) => ({ ...usual.augmentation(imageSizePx), cropScaleMin: CROP_SCALE, cropScaleMax: 1 }),
  }),
  exported: 'the teacher',
  series: [
    {
      name: 'teacherEntropy',
      title: 'Teacher entropy',
      meaning:
        'Mean entropy of what the teacher gives an image, as a share of the greatest possible: at 1 it is uniform, at 0 one prototype.',
      level: { value: 1, label: 'uniform' },
    },
    {
      name: 'teacherDivergence',
      title: 'Teacher divergence',
      meaning: 'Kullback-Leibler divergence of the student from the teacher: at 0 all images are alike (collapse).',
      level: { value: 0, label: 'collapsed' },
    },
  ],
} satisfies MethodDescription;
