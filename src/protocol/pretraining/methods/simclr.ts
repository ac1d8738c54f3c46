import { z } from 'zod';
import type { MethodDescription } from './description.ts';

const OPTIONS = {
  /** Length of a projection. */
  projectionDim: z.number().int().min(1, 'must be at least 1').max(8192, 'must be at most 8192'),
  /** Whether NT-Xent leaves the positive pair out of its denominator (DCL, Yeh et al. 2022, arXiv:2110.06848). */
  decoupled: z.boolean(),
};

export const SIMCLR = {
  name: 'SIMCLR',
  title: 'SimCLR',
  paper: 'Chen et al. 2020, arXiv:2002.05709',
  help: 'projectionDim (128), decoupled (false; true is DCL, for small batches)',
  config: z.object({
    name: z.literal('SIMCLR'),
    temperature: z.number(),
    ...OPTIONS,
    decoupled: OPTIONS.decoupled.default(false),
  }),
  options: z.strictObject(OPTIONS).partial(),
  hasTemperature: true,
  recipes: ['DEFAULT', 'PAPER'],
  defaults: (recipe) => ({
    // The paper's is 0.5; a run of few epochs must learn to distinguish near neighbours early on.
    temperature: recipe === 'PAPER' ? 0.5 : 0.2,
    // Chen et al. 2020, section 4.2.
    projectionDim: 128,
    decoupled: false,
  }),
  series: [
    {
      name: 'positiveSimilarity',
      title: 'Positive similarity',
      meaning: 'Cosine similarity of two views of one image; 1 means the same direction.',
    },
  ],
} satisfies MethodDescription;
