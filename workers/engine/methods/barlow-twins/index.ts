/**
 * Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230): a projector of three layers, and a loss that makes the
 * dimensions of the projections agree between views and be independent of each other. It needs no negatives.
 */
import { pairOf } from '../../augment/config.ts';
import { Mlp, mlpExpectations, randomMlp } from '../../models/mlp.ts';
import { HeadLearner } from '../head-learner.ts';
import type { Method, MethodSetting, PretrainingMethod } from '../method.ts';
import { barlowTwinsLoss } from './loss.ts';

/** The paper's values are in brackets. */
export interface BarlowTwinsConfig {
  readonly name: 'BARLOW_TWINS';
  /** Length of both hidden layers and of a projection [8192]. */
  readonly projectionDim: number;
  /** lambda [0.0051]. */
  readonly redundancyWeight: number;
}

export const BARLOW_TWINS: PretrainingMethod<BarlowTwinsConfig> = { name: 'BARLOW_TWINS', prepare };

/** @throws RangeError for a value out of range. */
function prepare({ projectionDim, redundancyWeight }: BarlowTwinsConfig, { embeddingDim }: MethodSetting): Method {
  if (!Number.isSafeInteger(projectionDim) || projectionDim < 2)
    throw new RangeError(`projectionDim must be a whole number of at least 2, not ${projectionDim}.`);
  if (!(redundancyWeight > 0 && Number.isFinite(redundancyWeight)))
    throw new RangeError(`redundancyWeight must be positive, not ${redundancyWeight}.`);
  const shape = { prefix: 'projector', dims: [embeddingDim, projectionDim, projectionDim, projectionDim] };
  return {
    views: pairOf,
    trained: mlpExpectations(shape),
    kept: [],
    initialState: (random) => randomMlp(shape, random.fork('projector')),
    open: (tensors) =>
      new HeadLearner(new Mlp(shape, tensors), (projections) => barlowTwinsLoss(projections, redundancyWeight)),
  };
}
