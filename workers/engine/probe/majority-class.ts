/** What one gets without looking at any image. */
import type { Classifier } from './classification.ts';
import type { LabelledImages } from './folds.ts';

/** Says of every image how often each label occurs in the training part: the most frequent one is its prediction. */
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
