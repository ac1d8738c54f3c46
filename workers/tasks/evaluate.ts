/** Evaluation: a checkpoint and a labelled version in, metrics with intervals and baselines out. */
import { DomainError } from '../../src/errors.ts';
import { evaluationConfigSchema, type EvaluationConfig, type EvaluationMetricRecord } from '../../src/modules/evaluations/index.ts';
import { parseManifest, type ManifestImage } from '../engine/data/manifest.ts';
import { ProbeError } from '../engine/probe/errors.ts';
import { runLinearProbe, type LinearProbeResult } from '../engine/probe/linear-probe.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import { evaluatedEmbeddings, type Embeddings } from './embeddings.ts';
import type { Task, TaskContext } from './task.ts';

/** Share of the run's time that embedding takes, for an honest progress bar. */
const EMBEDDING_SHARE = 0.6;

export const evaluateTask: Task = {
  kind: 'EVALUATION',
  run: async (context, rawConfig) => {
    const config = evaluationConfigSchema.parse(rawConfig);
    await context.setEnvironment({ engine: engineInfo() });
    const checkpoint = await context.services.models.checkpointForUse(config.checkpointId, 'checkpointId');
    const [version] = await context.services.datasets.requireSealedVersions([config.datasetVersionId]);
    if (version === undefined) throw new DomainError({ code: 'DATASET_VERSION_NOT_FOUND', message: 'The dataset version is gone.', field: 'datasetVersionId' });

    const manifest = parseManifest((await context.artifacts.read(version.manifestSha256)).toString('utf8'));
    const labelled = [...manifest.keys()].filter((row) => manifest[row]?.label != null);
    const images = labelled.flatMap((row) => manifest[row] ?? []);
    const onProgress = (fraction: number, message: string): Promise<void> => context.progress(EMBEDDING_SHARE * fraction, message);
    const described = await evaluatedEmbeddings(context, { checkpoint, version, images: manifest, seed: config.seed, onProgress });
    const labelledRows = (embeddings: Embeddings): Float32Array => rowsOf(embeddings, labelled);
    const labelNames = [...new Set(images.flatMap((image) => (image.label === null ? [] : [image.label])))].sort();
    const probe = (embeddings: Float32Array, part: number): Promise<LinearProbeResult> => probeEmbeddings(context, config, images, labelNames, embeddings, part);
    const pretrained = await probe(labelledRows(described.pretrained), 0);
    const random = await probe(labelledRows(described.random), 1);
    const colour = await probe(labelledRows(described.colour), 2);
    const macroF1 = pretrained.metrics.macroF1.value;
    return {
      message: `macroF1 ${macroF1.toFixed(3)} on ${pretrained.testedImageCount} images.`,
      finish: async (tx) => {
        await context.services.evaluations.register(tx, {
          checkpointId: config.checkpointId,
          datasetVersionId: config.datasetVersionId,
          protocol: config.protocol,
          runId: context.runId,
          seed: config.seed,
          options: config.options,
          split: pretrained.split,
          metrics: metricRecords(pretrained),
          confusionMatrix: { labelNames, counts: pretrained.confusionMatrix },
          perClass: pretrained.labelReports.map(({ labelName, precision, recall, f1, support }) => ({ label: labelName, precision, recall, f1Score: f1, support })),
          baselines: [
            { kind: 'RANDOM_ENCODER', metrics: metricRecords(random) },
            { kind: 'COLOUR_STATISTICS', metrics: metricRecords(colour) },
          ],
        });
      },
    };
  },
};

/** The rows of these images, `[rows, D]`. */
function rowsOf({ values, embeddingDim }: Embeddings, rows: readonly number[]): Float32Array {
  const picked = new Float32Array(rows.length * embeddingDim);
  for (const [place, row] of rows.entries()) picked.set(values.subarray(row * embeddingDim, (row + 1) * embeddingDim), place * embeddingDim);
  return picked;
}

async function probeEmbeddings(
  context: TaskContext,
  config: EvaluationConfig,
  images: readonly ManifestImage[],
  labelNames: readonly string[],
  embeddings: Float32Array,
  part: number,
): Promise<LinearProbeResult> {
  try {
    return await runLinearProbe({
      embeddings,
      labels: Int32Array.from(images, (image) => labelNames.indexOf(image.label ?? '')),
      groups: images.map((image) => image.group ?? image.key),
      labelNames,
      splits: images.map((image) => image.split),
      folds: config.folds,
      seed: config.seed,
      bootstrapResamples: config.options.bootstrapResamples,
      onProgress: async (done) => {
        context.throwIfStopped();
        await context.progress(EMBEDDING_SHARE + ((1 - EMBEDDING_SHARE) * (part + done)) / 3, 'Fitting probes.');
      },
    });
  } catch (error) {
    if (!(error instanceof ProbeError)) throw error;
    const code = error.code === 'TOO_FEW_LABELS' || error.code === 'TOO_FEW_IMAGES' || error.code === 'TOO_FEW_GROUPS' ? error.code : 'BAD_INPUT';
    throw new DomainError({ code, message: error.message, field: 'input.datasetVersionId', hint: 'Give every label images of several groups, or take fewer folds.', cause: error });
  }
}

function metricRecords(result: LinearProbeResult): EvaluationMetricRecord[] {
  return Object.entries(result.metrics).map(([name, { value, ci95Low, ci95High }]) => ({ name, value, ci95Low, ci95High }));
}
