/** The baseline that ignores the images. */
import type { Classifier } from './classification.ts';
import type { LabelledImages } from './folds.ts';

/**
 * Predicts for every image the frequency of each label in the training part, so that the most frequent label is its
 * prediction.
 */
export function majorityClass({ labels, labelNames }: LabelledImages): Classifier<Record<never, never>> {
  return {
    classify: (train, test) => {
      const shares = new Float64Array(labelNames.length);
      for (const image of train) shares[labels[image] ?? 0] = (shares[labels[image] ?? 0] ?? 0) + 1 / train.length;
      const probabilities = new Float64Array(test.length * labelNames.length);
      for (let row = 0; row < test.length; row += 1) probabilities.set(shares, row * labelNames.length);
      return Promise.resolve({ probabilities, facts: {} });
    },
  };
}
