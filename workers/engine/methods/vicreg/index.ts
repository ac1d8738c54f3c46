/**
 * VICReg (Bardes et al. 2022, arXiv:2105.04906): a projector of three layers (the paper's expander), and a loss that
 * keeps the variance of each dimension of the projections. It needs no negatives.
 */
import { pairOf } from '../../augment/config.ts';
import { Mlp, mlpExpectations, randomMlp } from '../../models/mlp.ts';
import { HeadLearner } from '../head-learner.ts';
import type { Method, MethodSetting, PretrainingMethod } from '../method.ts';
import { vicregLoss, type VicregWeights } from './loss.ts';

/** The paper's values are in brackets. */
export interface VicregConfig extends VicregWeights {
  readonly name: 'VICREG';
  /** Length of both hidden layers and of a projection [8192]. */
  readonly projectionDim: number;
}

export const VICREG: PretrainingMethod<VicregConfig> = { name: 'VICREG', prepare };

/** @throws RangeError for a value out of range. */
function prepare({ projectionDim, ...config }: VicregConfig, { embeddingDim }: MethodSetting): Method {
  if (!Number.isSafeInteger(projectionDim) || projectionDim < 2)
    throw new RangeError(`projectionDim must be a whole number of at least 2, not ${projectionDim}.`);
  for (const name of ['invarianceWeight', 'varianceWeight', 'covarianceWeight'] as const)
    if (!(config[name] >= 0 && Number.isFinite(config[name])))
      throw new RangeError(`${name} must not be negative, not ${config[name]}.`);
  const shape = { prefix: 'projector', dims: [embeddingDim, projectionDim, projectionDim, projectionDim] };
  return {
    views: pairOf,
    trained: mlpExpectations(shape),
    kept: [],
    initialState: (random) => randomMlp(shape, random.fork('projector')),
    open: (tensors) => new HeadLearner(new Mlp(shape, tensors), (projections) => vicregLoss(projections, config)),
  };
}
