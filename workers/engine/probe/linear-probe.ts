/**
 * The linear probe: logistic regression on frozen, standardised embeddings, tested on images of other groups. How strongly it is held back is
 * chosen inside each training part, by folds over its groups; what is tested never takes part in a choice.
 */
import { createRandom } from '../rng.ts';
import { ProbeError } from './errors.ts';
import { assignFolds, type LabelledImages } from './folds.ts';
import { fitLogisticRegression, predictProbabilities, probeInputs, type LogisticRegression } from './logistic-regression.ts';
import { scorePredictions, type Score } from './scoring.ts';
import { planSplit, type SplitPlan } from './split.ts';

export interface LinearProbeInput {
  /** `[N, D]`, row by row. */
  readonly embeddings: Float32Array;
  /** `[N]`, index into labelNames. */
  readonly labels: Int32Array;
  /** `[N]`: patient or slide; an image without one takes its own key. */
  readonly groups: readonly string[];
  readonly labelNames: readonly string[];
  /** `[N]`: the version's own split, followed where there is one. */
  readonly splits?: readonly (string | null)[];
  /** 2..100; not used with a given split. */
  readonly folds: number;
  readonly seed: number;
  /** Resamples of the intervals; default 1000. */
  readonly bootstrapResamples?: number;
  /** Told after every fit how much is done, 0..1; awaited, and what it throws ends the probe. */
  readonly onProgress?: (done: number) => void | Promise<void>;
}

export interface ProbeSplitDescription {
  readonly kind: SplitPlan['kind'];
  readonly foldCount: number;
  readonly groupCount: number;
  readonly seed: number;
  /** sha256 of the assignment. */
  readonly digest: string;
  readonly parts: readonly ProbeFit[];
}

/** One fit, and what it was made on. */
export interface ProbeFit {
  readonly trainImageCount: number;
  readonly testImageCount: number;
  /** C, as chosen. */
  readonly inverseRegularisation: number;
  readonly iterationCount: number;
  readonly converged: boolean;
}

export interface LinearProbeResult extends Score {
  /** Images that were tested: all of them in folds. */
  readonly testedImageCount: number;
  readonly split: ProbeSplitDescription;
}

/** From strongly held back to nearly free. */
const INVERSE_REGULARISATIONS = [1e-4, 1e-3, 1e-2, 1e-1, 1, 10] as const;
/** Where a training part can not be divided again. */
const INVERSE_REGULARISATION_DEFAULT = 1e-2;
const INNER_FOLD_COUNT = 3;
const BOOTSTRAP_RESAMPLES = 1000;

/**
 * Runs the probe. Deterministic for a seed and device. Throws ProbeError: BAD_OPTION, EMBEDDING_NOT_FINITE, and all that planSplit throws.
 */
export async function runLinearProbe(input: LinearProbeInput): Promise<LinearProbeResult> {
  const embeddingDim = checkInput(input);
  const { labels, groups, labelNames, seed } = input;
  const plan = planSplit(input, input.splits, input.folds, seed);
  const probabilities = new Float64Array(labels.length * labelNames.length);
  const fits: ProbeFit[] = [];
  const tellPart = async (partDone: number): Promise<void> => {
    await input.onProgress?.((fits.length + partDone) / plan.parts.length);
    // Fits block the thread: between two of them timers and messages get their turn.
    await new Promise<void>((resolve) => setImmediate(resolve));
  };
  for (const { train, test } of plan.parts) {
    const inverseRegularisation = await chooseRegularisation(input, embeddingDim, train, seed, tellPart);
    const fitted = fitAndPredict(input, embeddingDim, train, test, [inverseRegularisation]);
    for (const { model, testProbabilities } of fitted) {
      for (const [row, image] of test.entries()) {
        probabilities.set(testProbabilities.subarray(row * labelNames.length, (row + 1) * labelNames.length), image * labelNames.length);
      }
      const { iterationCount, converged } = model;
      fits.push({ trainImageCount: train.length, testImageCount: test.length, inverseRegularisation, iterationCount, converged });
    }
    await tellPart(0);
  }
  const tested = Int32Array.from(plan.parts.flatMap((part) => [...part.test])).sort();
  const pooled = {
    truth: tested.map((image) => labels[image] ?? 0),
    probabilities: rowsOf(probabilities, labelNames.length, tested),
    groups: Array.from(tested, (image) => groups[image] ?? ''),
    labelNames,
  };
  const score = scorePredictions(pooled, input.bootstrapResamples ?? BOOTSTRAP_RESAMPLES, createRandom(seed).fork('bootstrap'));
  const { kind, groupCount, digest } = plan;
  return { ...score, testedImageCount: tested.length, split: { kind, foldCount: plan.parts.length, groupCount, seed, digest, parts: fits } };
}

/** The C of least cross-entropy over inner folds by group. */
async function chooseRegularisation(
  input: LinearProbeInput,
  embeddingDim: number,
  train: Int32Array,
  seed: number,
  tell: (done: number) => Promise<void>,
): Promise<number> {
  const inner = innerFolds(input, train, seed);
  if (inner === null) return INVERSE_REGULARISATION_DEFAULT;
  const losses = INVERSE_REGULARISATIONS.map(() => 0);
  for (let fold = 0; fold < INNER_FOLD_COUNT; fold += 1) {
    const learned = train.filter((_, row) => inner[row] !== fold);
    const held = train.filter((_, row) => inner[row] === fold);
    for (const [index, { testProbabilities }] of fitAndPredict(input, embeddingDim, learned, held, INVERSE_REGULARISATIONS).entries()) {
      losses[index] = (losses[index] ?? 0) + crossEntropySum(testProbabilities, input, held);
    }
    await tell((fold + 1) / (INNER_FOLD_COUNT + 1));
  }
  return INVERSE_REGULARISATIONS[losses.indexOf(Math.min(...losses))] ?? INVERSE_REGULARISATION_DEFAULT;
}

/** Folds within the training part, or null where its groups do not allow them. */
function innerFolds({ labels, groups, labelNames }: LabelledImages, train: Int32Array, seed: number): Int32Array | null {
  const part = { labels: train.map((image) => labels[image] ?? 0), groups: Array.from(train, (image) => groups[image] ?? ''), labelNames };
  try {
    return assignFolds(part, INNER_FOLD_COUNT, seed);
  } catch (error) {
    if (error instanceof ProbeError) return null;
    throw error;
  }
}

function crossEntropySum(probabilities: Float64Array, { labels, labelNames }: LabelledImages, images: Int32Array): number {
  return images.reduce((sum, image, row) => sum - Math.log(Math.max(probabilities[row * labelNames.length + (labels[image] ?? 0)] ?? 0, 1e-12)), 0);
}

interface FittedProbe {
  readonly model: LogisticRegression;
  /** `[tested, K]`; 0 for a label that the training part lacks. */
  readonly testProbabilities: Float64Array;
}

/** One fit for each C, ascending: each begins where the one before ended, which saves most of its iterations. */
function fitAndPredict(
  { embeddings, labels, labelNames }: LinearProbeInput,
  embeddingDim: number,
  train: Int32Array,
  test: Int32Array,
  inverseRegularisations: readonly number[],
): FittedProbe[] {
  const occurring = [...new Set(train.map((image) => labels[image] ?? 0))].sort((left, right) => left - right);
  const trainLabels = train.map((image) => occurring.indexOf(labels[image] ?? 0));
  const scaling = measureScaling(embeddings, embeddingDim, train);
  const trainInputs = probeInputs(standardise(embeddings, embeddingDim, train, scaling), embeddingDim);
  const testInputs = probeInputs(standardise(embeddings, embeddingDim, test, scaling), embeddingDim);
  try {
    let startFrom: LogisticRegression | null = null;
    const fitted: FittedProbe[] = [];
    for (const inverseRegularisation of inverseRegularisations) {
      const start: { startFrom?: LogisticRegression } = startFrom === null ? {} : { startFrom };
      const model: LogisticRegression = fitLogisticRegression(trainInputs, trainLabels, occurring.length, { inverseRegularisation, ...start });
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

interface Scaling {
  /** `[D]`. */
  readonly mean: Float64Array;
  /** `[D]`: 1 / standard deviation, or 1 where an embedding's entry never changes. */
  readonly inverseStd: Float64Array;
}

function measureScaling(embeddings: Float32Array, embeddingDim: number, images: Int32Array): Scaling {
  const mean = new Float64Array(embeddingDim);
  const squares = new Float64Array(embeddingDim);
  for (const image of images) {
    for (let entry = 0; entry < embeddingDim; entry += 1) {
      mean[entry] = (mean[entry] ?? 0) + (embeddings[image * embeddingDim + entry] ?? 0) / images.length;
    }
  }
  for (const image of images) {
    for (let entry = 0; entry < embeddingDim; entry += 1) {
      const difference = (embeddings[image * embeddingDim + entry] ?? 0) - (mean[entry] ?? 0);
      squares[entry] = (squares[entry] ?? 0) + difference ** 2 / images.length;
    }
  }
  // Below 1e-12 of the mean's square the spread is rounding.
  const varies = (variance: number, entry: number): boolean => variance > 1e-12 * (mean[entry] ?? 0) ** 2 && variance > 0;
  return { mean, inverseStd: squares.map((variance, entry) => (varies(variance, entry) ? 1 / Math.sqrt(variance) : 1)) };
}

function standardise(embeddings: Float32Array, embeddingDim: number, images: Int32Array, { mean, inverseStd }: Scaling): Float32Array {
  const rows = new Float32Array(images.length * embeddingDim);
  for (const [row, image] of images.entries()) {
    for (let entry = 0; entry < embeddingDim; entry += 1) {
      const centred = (embeddings[image * embeddingDim + entry] ?? 0) - (mean[entry] ?? 0);
      rows[row * embeddingDim + entry] = centred * (inverseStd[entry] ?? 1);
    }
  }
  return rows;
}

function rowsOf(values: Float64Array, width: number, rows: Int32Array): Float64Array {
  const picked = new Float64Array(rows.length * width);
  for (const [place, row] of rows.entries()) picked.set(values.subarray(row * width, (row + 1) * width), place * width);
  return picked;
}

/** Answers D. */
function checkInput({ embeddings, labels, groups, labelNames, splits, seed, bootstrapResamples }: LinearProbeInput): number {
  const refuse = (field: string, rule: string): never => {
    throw new ProbeError('BAD_OPTION', field, `${field} ${rule}.`);
  };
  const imageCount = labels.length;
  const embeddingDim = imageCount === 0 ? 1 : embeddings.length / imageCount;
  if (!Number.isSafeInteger(embeddingDim) || embeddingDim < 1) {
    refuse('embeddings', `must hold the same number of entries for each of ${imageCount} images`);
  }
  if (groups.length !== imageCount) refuse('groups', `must be one for each of ${imageCount} images`);
  if (splits !== undefined && splits.length !== imageCount) refuse('splits', `must be one for each of ${imageCount} images`);
  if (labels.some((label) => label < 0 || label >= labelNames.length)) refuse('labels', `must be 0..${labelNames.length - 1}`);
  if (!Number.isSafeInteger(seed)) refuse('seed', 'must be an integer');
  if (bootstrapResamples !== undefined && (!Number.isSafeInteger(bootstrapResamples) || bootstrapResamples < 0 || bootstrapResamples > 100_000)) {
    refuse('bootstrapResamples', 'must be an integer of 0..100000');
  }
  const bad = embeddings.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    const message = `The embedding of image ${Math.floor(bad / embeddingDim)} holds ${embeddings[bad]}.`;
    throw new ProbeError('EMBEDDING_NOT_FINITE', 'embeddings', message);
  }
  return embeddingDim;
}
