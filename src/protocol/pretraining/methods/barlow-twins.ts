import { z } from 'zod';
import type { MethodDescription } from './description.ts';

const OPTIONS = {
  /** Length of both hidden layers of the projector and of a projection. */
  projectionDim: z.number().int().min(2, 'must be at least 2').max(16_384, 'must be at most 16384'),
  /** lambda: the weight of correlations between different dimensions. */
  redundancyWeight: z.number().gt(0, 'must be positive').max(100, 'must be at most 100'),
};

export const BARLOW_TWINS = {
  name: 'BARLOW_TWINS',
  title: 'Barlow Twins',
  paper: 'Zbontar et al. 2021, arXiv:2103.03230',
  help: 'projectionDim (2048), redundancyWeight (0.0051)',
  config: z.object({ name: z.literal('BARLOW_TWINS'), ...OPTIONS }),
  options: z.strictObject(OPTIONS).partial(),
  hasTemperature: false,
  recipes: ['DEFAULT'],
  defaults: () => ({
    // The paper's is 8192, which has more weights than the encoder; its figure 4 shows what a smaller one loses.
    projectionDim: 2048,
    // The paper's implementation details, from a grid search.
    redundancyWeight: 0.0051,
  }),
  series: [
    {
      name: 'matchingCorrelation',
      title: 'Matching correlation',
      meaning: 'Correlation of the two views in each dimension; should rise to 1.',
    },
    {
      name: 'redundancy',
      title: 'Redundancy',
      meaning: 'Correlation of different dimensions; near 1, all say the same (collapse).',
      level: { value: 1, label: 'collapsed' },
    },
  ],
} satisfies MethodDescription;
