/**
 * LARS (You et al. 2017, arXiv:1708.03888) as SimCLR uses it (Chen et al. 2020): momentum SGD whose step for each
 * weight tensor is in proportion to that tensor's own norm, which keeps large batches stable.
 */
import { tf } from '../tensorflow.ts';
import { checkDecayRate, checkNonNegative, type SlotGradient, type UpdateRule } from './optimizer.ts';

export interface LarsConfig {
  readonly name: 'LARS';
  readonly momentum: number;
  /** L2, added to the gradient of weights; never to biases and batch norms. */
  readonly weightDecay: number;
}

/** The largest change of a weight tensor at a learning rate of 1, relative to its own norm. */
const TRUST_COEFFICIENT = 0.001;
/** The name is empty, because states that were saved before there were other optimizers use none. */
const VELOCITY = '';

/**
 * For a weight w with gradient g, at learning rate r:
 *
 *     g' = g + weightDecay * w
 *     trust = 0.001 * |w| / |g'|      (1 where either norm is 0)
 *     v = momentum * v - r * trust * g'
 *     w = w + v
 *
 * Biases and batch norms: the same with no decay and trust = 1.
 *
 * @throws RangeError for a momentum outside [0, 1) or a negative decay.
 */
export function larsRule({ momentum, weightDecay }: LarsConfig): UpdateRule {
  checkDecayRate('momentum', momentum);
  checkNonNegative('weightDecay', weightDecay);
  const momentumOnDevice = tf.scalar(momentum);
  return {
    momentNames: [VELOCITY],
    l2: weightDecay,
    readsWeightNorms: true,
    update: (gradients, { learningRate }) => {
      for (const each of gradients) {
        const rate = tf.scalar(localLearningRate(each, learningRate * each.slot.parameter.rateFactor));
        const velocity = each.slot.moment(VELOCITY);
        each.slot.change((weight) => weight.applyScaledMomentum(velocity, rate, each.gradient, momentumOnDevice));
        rate.dispose();
      }
    },
    dispose: () => momentumOnDevice.dispose(),
  };
}

/**
 * The parameter's own learning rate. The order of the products must not change, so that a resumed run gets the same
 * bits as its first attempt.
 */
function localLearningRate({ slot, gradientNorm, weightNorm }: SlotGradient, learningRate: number): number {
  if (slot.parameter.role !== 'WEIGHT' || weightNorm === 0 || gradientNorm === 0) return learningRate;
  return (learningRate * TRUST_COEFFICIENT * weightNorm) / gradientNorm;
}
