/**
 * Adam (Kingma and Ba 2015, arXiv:1412.6980) and AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), step for step as
 * `torch.optim.Adam` and `torch.optim.AdamW`.
 */
import { tf } from '../tensorflow.ts';
import { checkDecayRate, checkNonNegative, Rates, type UpdateRule } from './optimizer.ts';

interface AdamParameters {
  /** Decay rate of the mean of gradients. */
  readonly beta1: number;
  /** Decay rate of the mean of squared gradients. */
  readonly beta2: number;
  /** Added to the root of the mean of squared gradients. */
  readonly epsilon: number;
  /** Applied to weights, never to biases and batch norms. */
  readonly weightDecay: number;
}

/** Weight decay is L2: it is added to the gradient and therefore enters the moments. */
export interface AdamConfig extends AdamParameters {
  readonly name: 'ADAM';
}

/** Weight decay is decoupled: each step first multiplies the weights by 1 - learningRate * weightDecay. */
export interface AdamWConfig extends AdamParameters {
  readonly name: 'ADAMW';
}

const FIRST_MOMENT = 'firstMoment';
const SECOND_MOMENT = 'secondMoment';

/**
 * For a weight w with gradient g, at learning rate r and in step t = 1, 2, ...:
 *
 *     m = beta1 * m + (1 - beta1) * g
 *     v = beta2 * v + (1 - beta2) * g^2
 *     w = w - r / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + epsilon)
 *
 * @throws RangeError for a beta outside [0, 1), an epsilon that is not positive, or a negative decay.
 */
export function adamRule({ name, beta1, beta2, epsilon, weightDecay }: AdamConfig | AdamWConfig): UpdateRule {
  checkDecayRate('beta1', beta1);
  checkDecayRate('beta2', beta2);
  if (!(epsilon > 0 && Number.isFinite(epsilon))) throw new RangeError(`epsilon must be positive, not ${epsilon}.`);
  checkNonNegative('weightDecay', weightDecay);
  const betas = [tf.scalar(beta1), tf.scalar(beta2)] as const;
  const isDecoupled = name === 'ADAMW' && weightDecay > 0;
  return {
    momentNames: [FIRST_MOMENT, SECOND_MOMENT],
    l2: name === 'ADAM' ? weightDecay : 0,
    readsWeightNorms: false,
    update: (gradients, { stepIndex, learningRate }) => {
      // The device multiplies by the betas rounded to float32, so the correction must use the same rounded values.
      const firstBias = 1 - Math.fround(beta1) ** (stepIndex + 1);
      const secondBiasRoot = Math.sqrt(1 - Math.fround(beta2) ** (stepIndex + 1));
      const rates = new Rates((learningRate * secondBiasRoot) / firstBias);
      const scaledEpsilon = tf.scalar(epsilon * secondBiasRoot);
      for (const { slot, gradient } of gradients) {
        const [first, second] = [slot.moment(FIRST_MOMENT), slot.moment(SECOND_MOMENT)];
        slot.change((weight) => {
          if (isDecoupled && slot.parameter.role === 'WEIGHT')
            weight.scale(1 - learningRate * slot.parameter.rateFactor * weightDecay);
          weight.applyAdam(first, second, rates.of(slot.parameter), betas, scaledEpsilon, gradient);
        });
      }
      rates.dispose();
      scaledEpsilon.dispose();
    },
    dispose: () => tf.dispose([...betas]),
  };
}
