/** The optimizers by name. To add one: write its `UpdateRule` in a file of its own, and a line in both places below. */
import type { Parameter } from '../models/parameter.ts';
import type { TensorExpectation } from '../../../src/formats/tensor-check.ts';
import { adamRule, type AdamConfig, type AdamWConfig } from './adam.ts';
import { larsRule, type LarsConfig } from './lars.ts';
import { Optimizer, stateExpectations, type UpdateRule } from './optimizer.ts';
import { sgdRule, type SgdConfig } from './sgd.ts';

export { NonFiniteGradientError, type Optimizer, type OptimizerStep } from './optimizer.ts';

/** An optimizer and its own parameters, without the learning rate, which belongs to the schedule. */
export type OptimizerConfig = LarsConfig | SgdConfig | AdamConfig | AdamWConfig;

function ruleOf(config: OptimizerConfig): UpdateRule {
  switch (config.name) {
    case 'LARS':
      return larsRule(config);
    case 'SGD':
      return sgdRule(config);
    case 'ADAM':
    case 'ADAMW':
      return adamRule(config);
  }
}

/** @throws RangeError for a parameter out of its range. */
export function createOptimizer(parameters: readonly Parameter[], config: OptimizerConfig): Optimizer {
  return new Optimizer(parameters, ruleOf(config));
}

/** The tensors that a saved state of the optimizer contains, derived from the expected weights of the parameters. */
export function optimizerExpectations(
  config: OptimizerConfig,
  parameters: readonly TensorExpectation[],
): TensorExpectation[] {
  const rule = ruleOf(config);
  rule.dispose();
  return stateExpectations(rule, parameters);
}
