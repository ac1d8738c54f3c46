/**
 * The linear probe: logistic regression on frozen, standardised embeddings, tested on images of other groups. The
 * regularisation strength is chosen inside each training part, by folds over its groups; test images never influence
 * the choice.
 */
import {
  runClassification,
  type ClassificationInput,
  type ClassificationResult,
  type Classifier,
} from './classification.ts';
import type { LabelledImages } from './folds.ts';
import { choiceImages, innerParts, innerScores, isBetter } from './inner-choice.ts';
import {
  fitLogisticRegression,
  predictProbabilities,
  probeInputs,
  trainingInputs,
  type LogisticRegression,
} from './logistic-regression.ts';
import { embeddedImages, measureScaling, standardise, type EmbeddedImages } from './scaling.ts';

export interface LinearProbeInput extends ClassificationInput {
  /** `[N, D]`, row by row. */
  readonly embeddings: Float32Array;
}

/** Facts about one fit. */
export interface LinearProbeFacts {
  /** The chosen C. */
  readonly inverseRegularisation: number;
  /**
   * Macro F1 of that C on the inner folds; null if the training part could not be divided, in which case C is the
   * default.
   */
  readonly innerMacroF1: number | null;
  /** Images of the training part on which C was chosen: all, or a part of many. */
  readonly innerImageCount: number;
  readonly iterationCount: number;
  readonly converged: boolean;
}

export type LinearProbeResult = ClassificationResult<LinearProbeFacts>;

/** From strong to almost no regularisation. */
export const INVERSE_REGULARISATIONS = [1e-4, 1e-3, 1e-2, 1e-1, 1, 10] as const;
/**
 * C is chosen on at most this many images, because each inner fold is fitted for every C, and a final fit only once. An
 * accuracy over as many images has a standard error of at most 0.0036.
 */
const CHOICE_IMAGES_MAX = 20_000;
/** Used where a training part cannot be divided again. */
const INVERSE_REGULARISATION_DEFAULT = 1e-2;
/**
 * Tolerance for the mean loss's gradient: small enough to rank two values of C, and to keep every probability within
 * 1e-3 of its value at the minimum.
 */
const SEARCH_TOLERANCE = 1e-4;
const FINAL_TOLERANCE = 1e-6;
const FINAL_ITERATIONS_MAX = 2000;

/** Runs the probe. Throws ProbeError EMBEDDING_NOT_FINITE and the errors of runClassification. */
export async function runLinearProbe(input: LinearProbeInput): Promise<LinearProbeResult> {
  return runClassification(
    input,
    linearProbe(embeddedImages(input.embeddings, input.labels.length), input, input.seed),
  );
}

export function linearProbe(
  embedded: EmbeddedImages,
  images: LabelledImages,
  seed: number,
): Classifier<LinearProbeFacts> {
  return {
    classify: async (train, test, reportProgress) => {
      const chosen = await chooseRegularisation(embedded, images, train, seed, reportProgress);
      const [fitted] = fitAndPredict(embedded, images, train, test, [chosen.inverseRegularisation], {
        gradientTolerance: FINAL_TOLERANCE,
        maxIterations: FINAL_ITERATIONS_MAX,
      });
      if (fitted === undefined) throw new Error('Nothing was fitted.');
      const { iterationCount, converged } = fitted.model;
      return { probabilities: fitted.testProbabilities, facts: { ...chosen, iterationCount, converged } };
    },
  };
}

/** The C with the highest macro F1 over inner folds by group; if several tie, the one with the lowest cross-entropy. */
async function chooseRegularisation(
  embedded: EmbeddedImages,
  images: LabelledImages,
  train: Int32Array,
  seed: number,
  onProgress: (done: number) => Promise<void>,
): Promise<Pick<LinearProbeFacts, 'inverseRegularisation' | 'innerMacroF1' | 'innerImageCount'>> {
  const shown = choiceImages(images, train, CHOICE_IMAGES_MAX);
  const parts = innerParts(images, shown, seed);
  if (parts === null)
    return { inverseRegularisation: INVERSE_REGULARISATION_DEFAULT, innerMacroF1: null, innerImageCount: 0 };
  const precision = { gradientTolerance: SEARCH_TOLERANCE };
  const scores = await innerScores(
    parts,
    images,
    ({ fitted, heldOut }) =>
      fitAndPredict(embedded, images, fitted, heldOut, INVERSE_REGULARISATIONS, precision).map(
        ({ testProbabilities }) => testProbabilities,
      ),
    onProgress,
  );
  const best = scores.reduce((leader, score) => (isBetter(score, leader) ? score : leader));
  return {
    inverseRegularisation: INVERSE_REGULARISATIONS[scores.indexOf(best)] ?? INVERSE_REGULARISATION_DEFAULT,
    innerMacroF1: best.macroF1,
    innerImageCount: shown.length,
  };
}

interface FittedProbe {
  readonly model: LogisticRegression;
  /** `[tested, K]`; 0 for a label that the training part lacks. */
  readonly testProbabilities: Float64Array;
}

/**
 * One fit for each C, ascending, with its probabilities `[tested, K]`. Each starts from the previous solution, which
 * saves most of its iterations.
 */
export function fitAndPredict(
  embedded: EmbeddedImages,
  { labels, labelNames }: LabelledImages,
  train: Int32Array,
  test: Int32Array,
  inverseRegularisations: readonly number[],
  precision: { readonly gradientTolerance: number; readonly maxIterations?: number },
): FittedProbe[] {
  const occurring = [...new Set(train.map((image) => labels[image] ?? 0))].sort((left, right) => left - right);
  const trainLabels = train.map((image) => occurring.indexOf(labels[image] ?? 0));
  const scaling = measureScaling(embedded, train);
  const trainInputs = trainingInputs(standardise(embedded, train, scaling), embedded.embeddingDim, occurring.length);
  const testInputs = probeInputs(standardise(embedded, test, scaling), embedded.embeddingDim, occurring.length);
  try {
    let startFrom: LogisticRegression | null = null;
    const fitted: FittedProbe[] = [];
    for (const inverseRegularisation of inverseRegularisations) {
      const start: { startFrom?: LogisticRegression } = startFrom === null ? {} : { startFrom };
      const model: LogisticRegression = fitLogisticRegression(trainInputs, trainLabels, occurring.length, {
        inverseRegularisation,
        ...precision,
        ...start,
      });
      startFrom = model;
      const known = predictProbabilities(model, testInputs);
      const testProbabilities = new Float64Array(test.length * labelNames.length);
      for (let row = 0; row < test.length; row += 1) {
        for (const [column, label] of occurring.entries()) {
          testProbabilities[row * labelNames.length + label] = known[row * occurring.length + column] ?? 0;
        }
      }
      fitted.push({ model, testProbabilities });
    }
    return fitted;
  } finally {
    trainInputs.dispose();
    testInputs.dispose();
  }
}
