import { z } from 'zod';
import type { MethodDescription } from './description.ts';

const COMMON = {
  /** Length of a projection. */
  projectionDim: z.number().int().min(1, 'must be at least 1').max(8192, 'must be at most 8192'),
  /** Of the loss. */
  contrastTemperature: z.number().min(0.001, 'must be positive (0.001 to 100)').max(100, 'must be at most 100'),
  /** The share of its weights that the momentum encoder keeps in a step; in V3 it rises to 1 along a cosine. */
  keyMomentum: z.number().min(0, 'must not be negative').max(1, 'must be at most 1'),
};
const V2 = {
  ...COMMON,
  /** Number of earlier keys that are the negatives. */
  queueSize: z.number().int().min(1, 'must be at least 1').max(1_048_576, 'must be at most 1048576'),
};
const V3 = {
  ...COMMON,
  /** Length of the hidden layers of projector and predictor. */
  hiddenDim: z.number().int().min(1, 'must be at least 1').max(16_384, 'must be at most 16384'),
};
const name = z.literal('MOCO');

/** A launch that names no version has the one for small batches. */
const options = z.preprocess(
  (chosen) => (typeof chosen === 'object' && chosen !== null ? { version: 'V2', ...chosen } : chosen),
  z.discriminatedUnion('version', [
    z.strictObject({ version: z.literal('V2'), ...z.object(V2).partial().shape }),
    z.strictObject({ version: z.literal('V3'), ...z.object(V3).partial().shape }),
  ]),
);

export const MOCO = {
  name: 'MOCO',
  title: 'MoCo',
  paper: 'He et al. 2020, arXiv:1911.05722; Chen, Xie and He 2021, arXiv:2104.02057',
  help: 'version (V2; or V3), projectionDim (128; V3: 256), contrastTemperature (0.2), keyMomentum (0.999; V3: 0.99), of V2 queueSize (4096), of V3 hiddenDim (4096)',
  config: z.discriminatedUnion('version', [
    z.object({ name, version: z.literal('V2'), ...V2 }),
    z.object({ name, version: z.literal('V3'), ...V3 }),
  ]),
  options,
  hasTemperature: false,
  recipes: ['DEFAULT'],
  defaults: (_recipe, chosen) =>
    'version' in chosen && chosen.version === 'V3'
      ? // Chen, Xie and He 2021, section 4 and appendix A.
        { projectionDim: 256, contrastTemperature: 0.2, keyMomentum: 0.99, hiddenDim: 4096 }
      : {
          // Chen et al. 2020, arXiv:2003.04297: MoCo v2.
          projectionDim: 128,
          contrastTemperature: 0.2,
          keyMomentum: 0.999,
          // The paper's is 65536, of a million images: in a queue that holds more keys than there are images, earlier
          // keys of an image are its own negatives.
          queueSize: 4096,
        },
  series: [
    {
      name: 'positiveSimilarity',
      title: 'Positive similarity',
      meaning: 'Cosine similarity of a view and the key of the other view of its image; 1 means the same direction.',
    },
  ],
} satisfies MethodDescription;
