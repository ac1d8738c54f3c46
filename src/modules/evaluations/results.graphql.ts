/** API types of an evaluation's results: metrics, baselines, learning curves and leakage. */
import path from 'node:path';
import { enumType, objectType } from '../../api/nexus.ts';
import { BASELINE_KINDS } from '../../protocol/evaluation.ts';

const records = path.join(import.meta.dirname, 'evaluations.records.ts');

export const BaselineKind = enumType({
  name: 'BaselineKind',
  description:
    'RANDOM_ENCODER: the same architecture, freshly initialised. COLOUR_STATISTICS: only means and standard deviations of colour. MAJORITY_CLASS: the most frequent label of the training part. MEAN_LABEL: its mean, for REGRESSION.',
  members: BASELINE_KINDS,
});

export const EvaluationMetric = objectType({
  name: 'EvaluationMetric',
  sourceType: { module: records, export: 'EvaluationMetricRecord' },
  definition(t) {
    t.nonNull.string('name', {
      description:
        'macroF1, balancedAccuracy, accuracy, macroAuroc; of REGRESSION meanAbsoluteError, spearmanCorrelation, rSquared.',
    });
    t.nonNull.float('value');
    t.float('ci95Low', { description: '95 % interval, by a bootstrap over groups.' });
    t.float('ci95High');
  },
});

export const ConfusionMatrix = objectType({
  name: 'ConfusionMatrix',
  sourceType: { module: records, export: 'ConfusionMatrixRecord' },
  description: 'Rows are the true labels, columns the predicted ones, both in the order of labelNames.',
  definition(t) {
    t.nonNull.list.nonNull.string('labelNames', { resolve: (matrix) => [...matrix.labelNames] });
    t.nonNull.list.nonNull.list.nonNull.int('counts', { resolve: (matrix) => matrix.counts.map((row) => [...row]) });
  },
});

export const ClassReport = objectType({
  name: 'ClassReport',
  sourceType: { module: records, export: 'ClassReportRecord' },
  definition(t) {
    t.nonNull.string('label');
    t.nonNull.float('precision');
    t.nonNull.float('recall');
    t.nonNull.float('f1Score');
    t.nonNull.int('support', { description: 'Number of images whose true label is this one.' });
  },
});

export const LearningCurveMetric = objectType({
  name: 'LearningCurveMetric',
  sourceType: { module: records, export: 'LearningCurveMetricRecord' },
  definition(t) {
    t.nonNull.string('name');
    t.nonNull.float('value', { description: 'Mean over the draws.' });
    t.float('ci95Low', { description: '95 % interval, by a bootstrap over groups and draws.' });
    t.float('ci95High');
    t.nonNull.float('drawDeviation', { description: 'Standard deviation over the draws.' });
  },
});

export const LearningCurvePoint = objectType({
  name: 'LearningCurvePoint',
  sourceType: { module: records, export: 'LearningCurvePointRecord' },
  description: 'The same protocol and folds, trained with fewer labels.',
  definition(t) {
    t.float('labelFraction', { description: 'Share of the labels, drawn group by group.' });
    t.int('shotsPerClass', { description: 'Images of each label, drawn one by one.' });
    t.nonNull.int('drawCount');
    t.nonNull.float('trainImageCount', { description: 'Mean over draws and parts of the split.' });
    t.nonNull.list.nonNull.field('metrics', { type: 'LearningCurveMetric', resolve: (point) => [...point.metrics] });
  },
});

export const EvaluationBaseline = objectType({
  name: 'EvaluationBaseline',
  sourceType: { module: records, export: 'EvaluationBaselineRecord' },
  definition(t) {
    t.nonNull.field('kind', { type: 'BaselineKind' });
    t.nonNull.list.nonNull.field('metrics', { type: 'EvaluationMetric', resolve: (baseline) => [...baseline.metrics] });
    t.nonNull.list.nonNull.field('differences', {
      type: 'EvaluationMetric',
      description: 'Result minus baseline, over the same folds and resamples: the interval is of the difference.',
      resolve: (baseline) => [...baseline.differences],
    });
    t.nonNull.list.nonNull.field('learningCurve', {
      type: 'LearningCurvePoint',
      resolve: (baseline) => [...baseline.learningCurve],
    });
  },
});

export const Leakage = objectType({
  name: 'Leakage',
  sourceType: { module: records, export: 'LeakageRecord' },
  description:
    'Overlap of the tested images with the pretraining of the checkpoint, including that of the checkpoints from which it was trained.',
  definition(t) {
    t.nonNull.boolean('isComplete', {
      description: 'False if the training started from an imported checkpoint, so that there may be more overlap.',
    });
    t.nonNull.boolean('isUpperBound', {
      description:
        'True if a training used only a part of a version (maxImages), so that some of the counted images may not have been seen.',
    });
    t.nonNull.int('testImageCount');
    t.int('exactImageCount', {
      description: 'Images with the same pixels. Null if a version was sealed before images were hashed.',
    });
    t.int('nearDuplicateImageCount', {
      description: 'Near-duplicates: recompressed, resized, mirrored or rotated copies.',
    });
    t.nonNull.int('testGroupCount');
    t.nonNull.int('sharedGroupCount', {
      description: 'Shared patients or slides, matched by name within a dataset and by TCGA barcode across datasets.',
    });
    t.nonNull.list.nonNull.string('sharedDatasets', { resolve: (leakage) => [...leakage.sharedDatasets] });
    t.nonNull.list.nonNull.string('sharedCollections', {
      description: 'Parent collections from which both were taken, such as tcga.',
      resolve: (leakage) => [...leakage.sharedCollections],
    });
    t.nonNull.int('unhashedVersionCount');
  },
});
