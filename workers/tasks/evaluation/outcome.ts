/** A result, its baselines and its predictions for every image, as they are registered. */
import { CLASSIFICATION_METRICS, mostProbable } from '../../../src/statistics/classification-score.ts';
import { differencesOf, type MetricEstimate } from '../../../src/statistics/estimate.ts';
import { REGRESSION_METRICS } from '../../../src/statistics/regression-score.ts';
import type { ManifestImages } from '../../engine/data/manifest.ts';
import {
  runClassification,
  type ClassificationInput,
  type ClassificationResult,
  type Classifier,
  type CurvePoint,
} from '../../engine/probe/classification.ts';
import { majorityClass } from '../../engine/probe/majority-class.ts';
import {
  meanOfTraining,
  runRegression,
  type RegressionInput,
  type RegressionResult,
  type Regressor,
} from '../../engine/probe/regression.ts';
import type {
  BaselineKind,
  EvaluationBaselineRecord,
  EvaluationMetricRecord,
  LearningCurvePointRecord,
  PredictionLine,
  EvaluationOutcome,
} from '../../../src/protocol/evaluation.ts';

export interface Outcome {
  readonly records: Pick<
    EvaluationOutcome,
    'metrics' | 'confusionMatrix' | 'perClass' | 'baselines' | 'learningCurve'
  > & { readonly split: object };
  /** One for each tested image, made as they are read. */
  readonly predictionLines: Iterable<PredictionLine>;
  /** Ascending indexes of images. */
  readonly testedImages: Int32Array;
  /** For the last event: `macroF1 0.812`. */
  readonly headline: string;
}

/**
 * The encoder under test, the same one freshly initialised, and colour alone. Each is loaded when its turn comes, so
 * that memory holds the embeddings of one.
 */
export interface Candidates<Method> {
  readonly pretrained: () => Promise<Method>;
  readonly random: () => Promise<Method>;
  readonly colour: () => Promise<Method>;
}

type ReportProgress = (done: number, message: string) => Promise<void>;

/**
 * All use the same folds and resamples, so that differences are paired. `images` are those of the input, in its order.
 */
export async function evaluateClassifiers(
  images: ManifestImages,
  input: ClassificationInput,
  candidates: Candidates<Classifier<object>>,
  reportProgress: ReportProgress,
): Promise<Outcome> {
  const { pretrained, random, colour } = candidates;
  const entries = [
    ['RANDOM_ENCODER', random],
    ['COLOUR_STATISTICS', colour],
    ['MAJORITY_CLASS', async () => majorityClass(input)],
  ] as const;
  const run = (classifier: Classifier<object>, place: number): Promise<ClassificationResult<object>> =>
    runClassification(
      {
        ...input,
        onProgress: (done) => reportProgress((place + done) / (entries.length + 1), 'Learning and testing.'),
      },
      classifier,
    );
  const main = await run(await pretrained(), 0);
  const baselines: EvaluationBaselineRecord[] = [];
  for (const [index, [kind, load]] of entries.entries()) {
    const result = await run(await load(), index + 1);
    baselines.push({
      kind,
      metrics: metricRecords(result.metrics),
      differences: metricRecords(differencesOf(CLASSIFICATION_METRICS, main, result)),
      learningCurve: result.learningCurve.map(curveRecord),
    });
  }
  const labelCount = input.labelNames.length;
  const predicted = mostProbable(main.probabilities, labelCount);
  return {
    records: {
      split: main.split,
      metrics: metricRecords(main.metrics),
      confusionMatrix: { labelNames: input.labelNames, counts: main.confusionMatrix },
      perClass: main.labelReports.map(({ labelName, precision, recall, f1, support }) => ({
        label: labelName,
        precision,
        recall,
        f1Score: f1,
        support,
      })),
      baselines,
      learningCurve: main.learningCurve.map(curveRecord),
    },
    predictionLines: main.testedImages.entries().map(([row, image]) => ({
      key: images.at(image)?.key ?? '',
      group: images.at(image)?.group ?? null,
      resamplingUnit: input.groups[image] ?? '',
      label: input.labelNames[input.labels[image] ?? 0] ?? '',
      predicted: input.labelNames[predicted[row] ?? 0] ?? '',
      probabilities: [...main.probabilities.subarray(row * labelCount, (row + 1) * labelCount)],
    })),
    testedImages: main.testedImages,
    headline: `macroF1 ${main.metrics.macroF1.value.toFixed(3)}`,
  };
}

/** Like `evaluateClassifiers`, for predicting numbers. */
export async function evaluateRegressors(
  images: ManifestImages,
  input: RegressionInput,
  candidates: Candidates<Regressor<object>>,
  reportProgress: ReportProgress,
): Promise<Outcome> {
  const { pretrained, random, colour } = candidates;
  const entries: readonly (readonly [BaselineKind, () => Promise<Regressor<object>>])[] = [
    ['RANDOM_ENCODER', random],
    ['COLOUR_STATISTICS', colour],
    ['MEAN_LABEL', async () => meanOfTraining(input)],
  ];
  const run = (regressor: Regressor<object>, place: number): Promise<RegressionResult<object>> =>
    runRegression(
      {
        ...input,
        onProgress: (done) => reportProgress((place + done) / (entries.length + 1), 'Learning and testing.'),
      },
      regressor,
    );
  const main = await run(await pretrained(), 0);
  const baselines: EvaluationBaselineRecord[] = [];
  for (const [index, [kind, load]] of entries.entries()) {
    const result = await run(await load(), index + 1);
    // The mean is constant within a fold and ranks nothing: its correlation would be an artefact of the folds.
    const isOrdered = ({ name }: EvaluationMetricRecord): boolean =>
      kind !== 'MEAN_LABEL' || name !== 'spearmanCorrelation';
    baselines.push({
      kind,
      metrics: metricRecords(result.metrics).filter(isOrdered),
      differences: metricRecords(differencesOf(REGRESSION_METRICS, main, result)).filter(isOrdered),
      learningCurve: [],
    });
  }
  return {
    records: {
      split: main.split,
      metrics: metricRecords(main.metrics),
      confusionMatrix: null,
      perClass: [],
      baselines,
      learningCurve: [],
    },
    predictionLines: main.testedImages.entries().map(([row, image]) => ({
      key: images.at(image)?.key ?? '',
      group: images.at(image)?.group ?? null,
      resamplingUnit: input.groups[image] ?? '',
      target: input.targets[image] ?? 0,
      predicted: main.predicted[row] ?? 0,
    })),
    testedImages: main.testedImages,
    headline: `meanAbsoluteError ${main.metrics.meanAbsoluteError.value.toPrecision(3)}`,
  };
}

function metricRecords(metrics: Readonly<Record<string, MetricEstimate>>): EvaluationMetricRecord[] {
  return Object.entries(metrics).map(([name, { value, ci95Low, ci95High }]) => ({ name, value, ci95Low, ci95High }));
}

function curveRecord({ budget, drawCount, trainImageCount, metrics }: CurvePoint): LearningCurvePointRecord {
  return {
    labelFraction: budget.kind === 'FRACTION' ? budget.fraction : null,
    shotsPerClass: budget.kind === 'SHOTS' ? budget.shotsPerClass : null,
    drawCount,
    trainImageCount,
    metrics: Object.entries(metrics).map(([name, { value, ci95Low, ci95High, drawDeviation }]) => ({
      name,
      value,
      ci95Low,
      ci95High,
      drawDeviation,
    })),
  };
}
