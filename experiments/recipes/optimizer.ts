/** The engine's optimizer of a recipe. Momentum and betas have their customary values. */
import type { OptimizerConfig } from '../../workers/engine/optim/index.ts';
import type { Recipe } from './recipe.ts';

const MOMENTUM = 0.9;
const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;

export function optimizerConfigOf({ optimizer: { name }, weightDecay }: Recipe): OptimizerConfig {
  switch (name) {
    case 'LARS':
      return { name, momentum: MOMENTUM, weightDecay };
    case 'SGD':
      return { name, momentum: MOMENTUM, nesterov: false, weightDecay };
    case 'ADAM':
    case 'ADAMW':
      return { name, ...ADAM, weightDecay };
  }
}
