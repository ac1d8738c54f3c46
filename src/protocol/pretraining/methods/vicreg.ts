import { z } from 'zod';
import type { MethodDescription } from './description.ts';

const weight = z.number().min(0, 'must not be negative').max(1000, 'must be at most 1000');
const OPTIONS = {
  /** Length of both hidden layers of the projector and of a projection. */
  projectionDim: z.number().int().min(2, 'must be at least 2').max(16_384, 'must be at most 16384'),
  /** lambda: of the distance between the two views. */
  invarianceWeight: weight,
  /** mu: of the hinge on each dimension's standard deviation. */
  varianceWeight: weight,
  /** nu: of the covariances of different dimensions. */
  covarianceWeight: weight,
};

export const VICREG = {
  name: 'VICREG',
  title: 'VICReg',
  paper: 'Bardes et al. 2022, arXiv:2105.04906',
  help: 'projectionDim (2048), invarianceWeight (25), varianceWeight (25), covarianceWeight (1)',
  config: z.object({ name: z.literal('VICREG'), ...OPTIONS }),
  options: z.strictObject(OPTIONS).partial(),
  hasTemperature: false,
  recipes: ['DEFAULT'],
  defaults: () => ({
    // The paper's is 8192, which has more weights than the encoder.
    projectionDim: 2048,
    // Section 4.2 of the paper.
    invarianceWeight: 25,
    varianceWeight: 25,
    covarianceWeight: 1,
  }),
  series: [
    { name: 'invariance', title: 'Invariance', meaning: 'Mean squared difference of the two views.' },
    {
      name: 'varianceHinge',
      title: 'Variance hinge',
      meaning: 'How far the standard deviations of the dimensions fall short of 1.',
      level: { value: 1, label: 'collapsed' },
    },
    {
      name: 'covariance',
      title: 'Covariance',
      meaning: 'Squared covariances of different dimensions, over their number; should fall.',
    },
  ],
} satisfies MethodDescription;
