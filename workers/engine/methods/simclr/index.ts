/**
 * SimCLR (Chen et al. 2020, arXiv:2002.05709): a two-layer projection head, and NT-Xent over the projections of the
 * whole batch; decoupled, it is DCL (Yeh et al. 2022, arXiv:2110.06848).
 */
import type { TensorExpectation } from '../../../../src/formats/tensor-check.ts';
import { pairOf } from '../../augment/config.ts';
import { ntXent } from '../../losses/nt-xent.ts';
import { ProjectionHead, projectionHeadExpectations, randomProjectionHead } from '../../models/projection-head.ts';
import { HeadLearner } from '../head-learner.ts';
import type { Method, MethodSetting, PretrainingMethod } from '../method.ts';

/** The paper's values are in brackets. */
export interface SimclrConfig {
  readonly name: 'SIMCLR';
  /** P, the length of a projection [128]. */
  readonly projectionDim: number;
  /** Temperature of NT-Xent [0.5]. */
  readonly temperature: number;
  /** Whether NT-Xent leaves the positive pair out of its denominator [false]. */
  readonly decoupled?: boolean | undefined;
}

export const SIMCLR: PretrainingMethod<SimclrConfig> = { name: 'SIMCLR', prepare };

/** @throws RangeError for a value out of range. */
function prepare({ projectionDim, temperature, decoupled }: SimclrConfig, { embeddingDim }: MethodSetting): Method {
  if (!Number.isSafeInteger(projectionDim) || projectionDim < 1)
    throw new RangeError(`projectionDim must be a whole number of at least 1, not ${projectionDim}.`);
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new RangeError(`temperature must be positive, not ${temperature}.`);
  const trained: readonly TensorExpectation[] = projectionHeadExpectations(embeddingDim, projectionDim);
  return {
    views: pairOf,
    trained,
    kept: [],
    initialState: (random) => randomProjectionHead(embeddingDim, projectionDim, random.fork('projection head')),
    open: (tensors) =>
      new HeadLearner(new ProjectionHead(embeddingDim, projectionDim, tensors), (projections) => {
        const { loss, gradient, positiveSimilarity } = ntXent(projections, temperature, { decoupled });
        return { loss, gradient, series: { positiveSimilarity } };
      }),
  };
}
