/** Stochastic gradient descent with momentum (Sutskever et al. 2013), step for step as `torch.optim.SGD`. */
import { tf } from '../tensorflow.ts';
import { checkDecayRate, checkNonNegative, Rates, type UpdateRule } from './optimizer.ts';

export interface SgdConfig {
  readonly name: 'SGD';
  readonly momentum: number;
  readonly nesterov: boolean;
  /** L2, added to the gradient of weights, never to that of biases and batch norms. */
  readonly weightDecay: number;
}

const VELOCITY = 'velocity';

/**
 * For a weight w with gradient g, at learning rate r:
 *
 *     g' = g + weightDecay * w
 *     v = momentum * v + g'
 *     w = w - r * v                     (with nesterov: w - r * (g' + momentum * v))
 *
 * @throws RangeError for a momentum outside [0, 1), a negative decay, or nesterov without momentum.
 */
export function sgdRule({ momentum, nesterov, weightDecay }: SgdConfig): UpdateRule {
  checkDecayRate('momentum', momentum);
  checkNonNegative('weightDecay', weightDecay);
  if (nesterov && momentum === 0) throw new RangeError('nesterov needs a momentum above 0.');
  const momentumOnDevice = tf.scalar(momentum);
  return {
    momentNames: [VELOCITY],
    l2: weightDecay,
    readsWeightNorms: false,
    update: (gradients, { learningRate }) => {
      const rates = new Rates(learningRate);
      for (const { slot, gradient } of gradients) {
        const velocity = slot.moment(VELOCITY);
        slot.change((weight) =>
          weight.applyMomentum(velocity, rates.of(slot.parameter), gradient, momentumOnDevice, nesterov),
        );
      }
      rates.dispose();
    },
    dispose: () => momentumOnDevice.dispose(),
  };
}
