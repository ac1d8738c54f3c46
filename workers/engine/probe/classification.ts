/**
 * The common evaluation of every classifier: fit it on some groups, test it on others, pool the predictions, score
 * them.
 */
import {
  CLASSIFICATION_METRICS,
  classificationMeasure,
  scorePredictions,
  type ClassificationMetricName,
  type ClassificationScore,
  type PooledPredictions,
} from '../../../src/statistics/classification-score.ts';
import { groupResamples } from '../../../src/statistics/bootstrap.ts';
import { estimatesOf, type MetricEstimate } from '../../../src/statistics/estimate.ts';
import { createRandom, type Random } from '../rng.ts';
import { ProbeError } from './errors.ts';
import type { LabelledImages } from './folds.ts';
import { drawLabels, type LabelBudget } from './label-budget.ts';
import { planSplit, type SplitPart, type SplitPlan } from './split.ts';

export interface ClassificationInput extends LabelledImages {
  /** `[N]`: the version's own split, used if there is one. */
  readonly splits?: readonly (string | null)[];
  /** 2..100; not used with a given split. */
  readonly folds: number;
  readonly seed: number;
  /** Resamples of the intervals; default 1000. */
  readonly bootstrapResamples?: number;
  /** Budgets of labels with which the fits are repeated, for the learning curve; default none. */
  readonly budgets?: readonly LabelBudget[];
  /** How often each budget is drawn; default 10. */
  readonly drawCount?: number;
  /**
   * Called after every fit with the fraction that is done, 0..1; awaited, and an error that it throws ends the
   * evaluation.
   */
  readonly onProgress?: (done: number) => void | Promise<void>;
}

/** A method of classification. `Facts` describe one fit. */
export interface Classifier<Facts extends object> {
  /**
   * Fits the images `train` without using any label of `test`. `onProgress` is called with the fraction of this fit
   * that is done, 0..1.
   */
  classify(
    train: Int32Array,
    test: Int32Array,
    onProgress: (done: number) => Promise<void>,
  ): Promise<Classified<Facts>>;
}

export interface Classified<Facts extends object> {
  /** `[test, K]`, rows summing to 1. */
  readonly probabilities: Float64Array;
  readonly facts: Facts;
}

export interface SplitDescription<Facts extends object> {
  readonly kind: SplitPlan['kind'];
  readonly foldCount: number;
  readonly groupCount: number;
  readonly seed: number;
  /** sha256 of the assignment. */
  readonly digest: string;
  readonly parts: readonly (Facts & { readonly trainImageCount: number; readonly testImageCount: number })[];
}

export interface CurveMetric extends MetricEstimate {
  /** Standard deviation over the draws. */
  readonly drawDeviation: number;
}

/** The results of the same protocol with fewer labels. */
export interface CurvePoint {
  readonly budget: LabelBudget;
  readonly drawCount: number;
  /** Mean over draws and parts. */
  readonly trainImageCount: number;
  /** Means over the draws; the intervals are over groups and draws. */
  readonly metrics: Readonly<Record<ClassificationMetricName, CurveMetric>>;
}

export interface ClassificationResult<Facts extends object> extends ClassificationScore {
  /** Images that were tested, ascending; with folds, all images. */
  readonly testedImages: Int32Array;
  readonly testedImageCount: number;
  /** Predicted probabilities of the tested images: `[tested, K]`. */
  readonly probabilities: Float64Array;
  readonly split: SplitDescription<Facts>;
  /** One for each budget, in their order. */
  readonly learningCurve: readonly CurvePoint[];
}

const BOOTSTRAP_RESAMPLES = 1000;
const DRAW_COUNT = 10;

/** Deterministic for a seed and device. Throws ProbeError BAD_OPTION and the errors of planSplit and the classifier. */
export async function runClassification<Facts extends object>(
  input: ClassificationInput,
  classifier: Classifier<Facts>,
): Promise<ClassificationResult<Facts>> {
  checkInput(input);
  const { labels, groups, labelNames, seed, budgets = [], drawCount = DRAW_COUNT } = input;
  const plan = planSplit(input, input.splits, input.folds, seed);
  const testedImages = Int32Array.from(plan.parts.flatMap((part) => [...part.test])).sort();
  const drawsOf = (budget: LabelBudget): number => (usesAllLabels(budget) ? 0 : drawCount);
  const progress = createProgress(
    input,
    plan.parts.length * (1 + budgets.reduce((sum, budget) => sum + drawsOf(budget), 0)),
  );
  const pooledOf = (probabilities: Float64Array): PooledPredictions => ({
    truth: testedImages.map((image) => labels[image] ?? 0),
    probabilities,
    groups: Array.from(testedImages, (image) => groups[image] ?? ''),
    labelNames,
  });

  const whole = await classifyParts(
    plan.parts,
    labelNames.length,
    testedImages,
    classifier,
    progress,
    ({ train }) => train,
  );
  const pooled = pooledOf(whole.probabilities);
  const score = scorePredictions(
    pooled,
    input.bootstrapResamples ?? BOOTSTRAP_RESAMPLES,
    createRandom(seed).fork('bootstrap'),
  );

  const learningCurve: CurvePoint[] = [];
  for (const [index, budget] of budgets.entries()) {
    const draws: PooledPredictions[] = [];
    const trainCounts: number[] = [];
    if (usesAllLabels(budget)) {
      draws.push(pooled);
      trainCounts.push(...plan.parts.map((part) => part.train.length));
    }
    for (let draw = 0; draw < drawsOf(budget); draw += 1) {
      const random = createRandom(seed).fork(`labels of budget ${index}, draw ${draw}`);
      const drawn = await classifyParts(
        plan.parts,
        labelNames.length,
        testedImages,
        classifier,
        progress,
        ({ train }, part) => {
          const chosen = drawLabels(budget, input, train, random.fork(`part ${part}`));
          trainCounts.push(chosen.length);
          return chosen;
        },
      );
      draws.push(pooledOf(drawn.probabilities));
    }
    learningCurve.push({
      budget,
      drawCount: draws.length,
      trainImageCount: trainCounts.reduce((sum, count) => sum + count, 0) / trainCounts.length,
      metrics: scoreDraws(
        draws,
        input.bootstrapResamples ?? BOOTSTRAP_RESAMPLES,
        createRandom(seed).fork(`bootstrap of budget ${index}`),
      ),
    });
  }
  const { kind, groupCount, digest } = plan;
  const parts = plan.parts.map(({ train, test }, part) => ({
    trainImageCount: train.length,
    testImageCount: test.length,
    ...whole.factsOf(part),
  }));
  return {
    ...score,
    testedImages,
    testedImageCount: testedImages.length,
    probabilities: whole.probabilities,
    split: { kind, foldCount: plan.parts.length, groupCount, seed, digest, parts },
    learningCurve,
  };
}

/** With all labels there is nothing to draw at random. */
function usesAllLabels(budget: LabelBudget): boolean {
  return budget.kind === 'FRACTION' && budget.fraction === 1;
}

interface Progress {
  within(done: number): Promise<void>;
  next(): Promise<void>;
}

function createProgress({ onProgress }: ClassificationInput, fitCount: number): Progress {
  let fitsDone = 0;
  const within = async (done: number): Promise<void> => {
    await onProgress?.((fitsDone + done) / fitCount);
    // A fit blocks the thread: timers and messages are served between two fits.
    await new Promise<void>((resolve) => setImmediate(resolve));
  };
  return {
    within,
    next: async () => {
      fitsDone += 1;
      await within(0);
    },
  };
}

async function classifyParts<Facts extends object>(
  parts: readonly SplitPart[],
  labelCount: number,
  testedImages: Int32Array,
  classifier: Classifier<Facts>,
  progress: Progress,
  trainOf: (part: SplitPart, index: number) => Int32Array,
): Promise<{ readonly probabilities: Float64Array; factsOf(part: number): Facts }> {
  const placeOf = new Map(Array.from(testedImages, (image, place) => [image, place]));
  const probabilities = new Float64Array(testedImages.length * labelCount);
  const facts: Facts[] = [];
  for (const [index, part] of parts.entries()) {
    const classified = await classifier.classify(trainOf(part, index), part.test, progress.within);
    for (const [row, image] of part.test.entries()) {
      probabilities.set(
        classified.probabilities.subarray(row * labelCount, (row + 1) * labelCount),
        (placeOf.get(image) ?? 0) * labelCount,
      );
    }
    facts.push(classified.facts);
    await progress.next();
  }
  return {
    probabilities,
    factsOf: (part) => {
      const found = facts[part];
      if (found === undefined) throw new RangeError(`No part ${part}.`);
      return found;
    },
  };
}

/**
 * Means over draws. A bootstrap resample draws both groups and draws, so that the interval covers the variance of both.
 */
function scoreDraws(
  draws: readonly PooledPredictions[],
  resamples: number,
  random: Random,
): Record<ClassificationMetricName, CurveMetric> {
  const measures = draws.map(classificationMeasure);
  const meanOver = (numbers: readonly number[]): number =>
    numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const values = valuesOf((name) => meanOver(measures.map((measure) => measure.values[name])));
  const replicates = valuesOf((): number[] => []);
  const drawRandom = random.fork('draws');
  for (const imageCounts of groupResamples(draws[0]?.groups ?? [], resamples, random)) {
    const chosen = measures
      .map(() => measures[drawRandom.integer(measures.length)])
      .flatMap((measure) => measure?.resample(imageCounts) ?? []);
    for (const name of CLASSIFICATION_METRICS) replicates[name].push(meanOver(chosen.map((drawn) => drawn[name])));
  }
  const estimates = estimatesOf(CLASSIFICATION_METRICS, values, replicates);
  return valuesOf((name) => {
    const drawDeviation = Math.sqrt(meanOver(measures.map((measure) => (measure.values[name] - values[name]) ** 2)));
    return { ...estimates[name], drawDeviation };
  });
}

function valuesOf<Value>(valueOf: (name: ClassificationMetricName) => Value): Record<ClassificationMetricName, Value> {
  return {
    macroF1: valueOf('macroF1'),
    balancedAccuracy: valueOf('balancedAccuracy'),
    accuracy: valueOf('accuracy'),
    macroAuroc: valueOf('macroAuroc'),
  };
}

function checkInput({
  labels,
  groups,
  labelNames,
  splits,
  seed,
  bootstrapResamples,
  drawCount,
}: ClassificationInput): void {
  const refuse = (field: string, rule: string): never => {
    throw new ProbeError('BAD_OPTION', field, `${field} ${rule}.`);
  };
  const imageCount = labels.length;
  if (groups.length !== imageCount) refuse('groups', `must be one for each of ${imageCount} images`);
  if (splits !== undefined && splits.length !== imageCount)
    refuse('splits', `must be one for each of ${imageCount} images`);
  if (labels.some((label) => label < 0 || label >= labelNames.length))
    refuse('labels', `must be 0..${labelNames.length - 1}`);
  if (!Number.isSafeInteger(seed)) refuse('seed', 'must be an integer');
  if (
    bootstrapResamples !== undefined &&
    (!Number.isSafeInteger(bootstrapResamples) || bootstrapResamples < 0 || bootstrapResamples > 100_000)
  ) {
    refuse('bootstrapResamples', 'must be an integer of 0..100000');
  }
  if (drawCount !== undefined && (!Number.isSafeInteger(drawCount) || drawCount < 1))
    refuse('drawCount', 'must be an integer from 1');
}
