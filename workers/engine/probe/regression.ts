/** Evaluates a regression: it predicts numbers instead of labels, is trained on some groups and tested on others. */
import { scoreNumbers, type RegressionScore } from '../../../src/statistics/regression-score.ts';
import { createRandom } from '../rng.ts';
import type { SplitDescription } from './classification.ts';
import { ProbeError } from './errors.ts';
import { assignGroupFolds, INNER_FOLD_COUNT } from './folds.ts';
import { fitRidge, predictRidge } from './ridge.ts';
import { measureScaling, standardise, type EmbeddedImages } from './scaling.ts';
import { planNumberSplit } from './split.ts';

export interface RegressionInput {
  /** `[N]`: the number to predict for each image. */
  readonly targets: Float64Array;
  /** `[N]`: patient or slide; an image without one takes its own key. */
  readonly groups: readonly string[];
  /** `[N]`: the version's own split; used where there is one. */
  readonly splits?: readonly (string | null)[];
  /** 2..100; not used with a given split. */
  readonly folds: number;
  readonly seed: number;
  /** Resamples of the intervals; default 1000. */
  readonly bootstrapResamples?: number;
  /**
   * Called after every fit with the fraction that is done, 0..1; awaited, and an error that it throws ends the
   * evaluation.
   */
  readonly onProgress?: (done: number) => void | Promise<void>;
}

/** A method that predicts numbers. `Facts` describe one fit. */
export interface Regressor<Facts extends object> {
  /** Predictions `[test]`; it must not use the targets of `test`. */
  predict(train: Int32Array, test: Int32Array): { readonly predicted: Float64Array; readonly facts: Facts };
}

export interface RegressionResult<Facts extends object> extends RegressionScore {
  /** Images that were tested, ascending. */
  readonly testedImages: Int32Array;
  /** Their predictions: `[tested]`. */
  readonly predicted: Float64Array;
  readonly split: SplitDescription<Facts>;
}

export interface RidgeFacts {
  /** The chosen regularisation strength. */
  readonly alpha: number;
}

/** From almost no regularisation to almost predicting the mean. */
const ALPHAS = [1e-1, 1, 1e1, 1e2, 1e3, 1e4, 1e5] as const;
/** Used where a training part cannot be divided again. */
const ALPHA_DEFAULT = 1e2;
const BOOTSTRAP_RESAMPLES = 1000;

/**
 * Deterministic for a seed and device. Throws ProbeError: BAD_OPTION, TOO_FEW_IMAGES, TOO_FEW_GROUPS, SPLIT_INVALID.
 */
export async function runRegression<Facts extends object>(
  input: RegressionInput,
  regressor: Regressor<Facts>,
): Promise<RegressionResult<Facts>> {
  const { targets, groups, seed } = input;
  if (groups.length !== targets.length)
    throw new ProbeError('BAD_OPTION', 'groups', `groups must be one for each of ${targets.length} images.`);
  if (targets.some((target) => !Number.isFinite(target)))
    throw new ProbeError('BAD_OPTION', 'targets', 'targets must be finite numbers.');
  const plan = planNumberSplit(targets, groups, input.splits, input.folds, seed);
  const predicted = new Float64Array(targets.length);
  const parts: (Facts & { trainImageCount: number; testImageCount: number })[] = [];
  for (const { train, test } of plan.parts) {
    const prediction = regressor.predict(train, test);
    for (const [row, image] of test.entries()) predicted[image] = prediction.predicted[row] ?? 0;
    parts.push({ trainImageCount: train.length, testImageCount: test.length, ...prediction.facts });
    await input.onProgress?.(parts.length / plan.parts.length);
    // A fit blocks the thread: timers and messages are served between two fits.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  const testedImages = Int32Array.from(plan.parts.flatMap((part) => [...part.test])).sort();
  const pooled = {
    truth: Float64Array.from(testedImages, (image) => targets[image] ?? 0),
    predicted: Float64Array.from(testedImages, (image) => predicted[image] ?? 0),
    groups: Array.from(testedImages, (image) => groups[image] ?? ''),
  };
  const { kind, groupCount, digest } = plan;
  return {
    ...scoreNumbers(pooled, input.bootstrapResamples ?? BOOTSTRAP_RESAMPLES, createRandom(seed).fork('bootstrap')),
    testedImages,
    predicted: pooled.predicted,
    split: { kind, foldCount: plan.parts.length, groupCount, seed, digest, parts },
  };
}

/** Ridge regression; alpha is chosen inside each training part, by folds over its groups. */
export function ridge(
  embedded: EmbeddedImages,
  { targets, groups }: Pick<RegressionInput, 'targets' | 'groups'>,
  seed: number,
): Regressor<RidgeFacts> {
  const fit = (train: Int32Array, test: Int32Array, alphas: readonly number[]): (Float64Array | null)[] => {
    const scaling = measureScaling(embedded, train);
    const models = fitRidge(
      standardise(embedded, train, scaling),
      embedded.embeddingDim,
      Float64Array.from(train, (image) => targets[image] ?? 0),
      alphas,
    );
    const testRows = standardise(embedded, test, scaling);
    return models.map((model) => (model === null ? null : predictRidge(model, testRows)));
  };
  const chooseAlpha = (train: Int32Array): number => {
    const ownGroups = Array.from(train, (image) => groups[image] ?? '');
    if (new Set(ownGroups).size < INNER_FOLD_COUNT) return ALPHA_DEFAULT;
    const inner = assignGroupFolds(ownGroups, INNER_FOLD_COUNT, seed);
    const losses = ALPHAS.map(() => 0);
    for (let fold = 0; fold < INNER_FOLD_COUNT; fold += 1) {
      const heldOut = train.filter((_, row) => inner[row] === fold);
      for (const [index, predictions] of fit(
        train.filter((_, row) => inner[row] !== fold),
        heldOut,
        ALPHAS,
      ).entries()) {
        const loss =
          predictions === null
            ? Infinity
            : heldOut.reduce((sum, image, row) => sum + ((predictions[row] ?? 0) - (targets[image] ?? 0)) ** 2, 0);
        losses[index] = (losses[index] ?? 0) + loss;
      }
    }
    return ALPHAS[losses.indexOf(Math.min(...losses))] ?? ALPHA_DEFAULT;
  };
  return {
    predict: (train, test) => {
      const alpha = chooseAlpha(train);
      const [predicted] = fit(train, test, [alpha]);
      if (predicted == null)
        throw new ProbeError(
          'EMBEDDING_NOT_FINITE',
          'embeddings',
          `A ridge regression with alpha ${alpha} has no solution in float64.`,
        );
      return { predicted, facts: { alpha } };
    },
  };
}

/** The baseline that predicts the mean of the training targets for every image. */
export function meanOfTraining({ targets }: Pick<RegressionInput, 'targets'>): Regressor<Record<never, never>> {
  return {
    predict: (train, test) => {
      const mean = train.reduce((sum, image) => sum + (targets[image] ?? 0) / train.length, 0);
      return { predicted: new Float64Array(test.length).fill(mean), facts: {} };
    },
  };
}
