/** Evaluation: a checkpoint and a labelled version in, metrics with intervals and baselines out. */
import { DomainError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import { evaluationConfigSchema, type EvaluationConfig, type EvaluationMetricRecord } from '../../src/modules/evaluations/index.ts';
import { openEvaluationImages } from '../engine/data/batches.ts';
import { parseManifest, type ManifestImage } from '../engine/data/manifest.ts';
import { embeddingBatchSize, embedPixels, type Normalisation } from '../engine/embed.ts';
import { createEncoder, encoderFromWeights, type Encoder } from '../engine/models/resnet.ts';
import { colourStatistics } from '../engine/probe/colour-statistics.ts';
import { ProbeError } from '../engine/probe/errors.ts';
import { runLinearProbe, type LinearProbeResult } from '../engine/probe/linear-probe.ts';
import { createRandom } from '../engine/rng.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import { verifiedShardPaths, type Task, type TaskContext } from './task.ts';

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
    const images = manifest.filter((image) => image.label !== null);
    const encoder = encoderFromWeights(checkpoint.encoder, readSafetensors(await context.artifacts.read(checkpoint.sha256)).tensors);
    const randomEncoder = createEncoder(checkpoint.encoder, createRandom(config.seed).fork('random encoder'));
    try {
      const shardPaths = await verifiedShardPaths(context, version.shards);
      const described = await describeImages(context, { shardPaths, images, encoder, randomEncoder, imageSizePx: checkpoint.inputContract.imageSizePx, normalisation: checkpoint.inputContract });
      const labelNames = [...new Set(images.flatMap((image) => (image.label === null ? [] : [image.label])))].sort();
      const probe = (embeddings: Float32Array, part: number): Promise<LinearProbeResult> => probeEmbeddings(context, config, images, labelNames, embeddings, part);
      const pretrained = await probe(described.embeddings, 0);
      const random = await probe(described.randomEmbeddings, 1);
      const colour = await probe(described.colour, 2);
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
    } finally {
      encoder.dispose();
      randomEncoder.dispose();
    }
  },
};

interface Describing {
  readonly shardPaths: readonly string[];
  readonly images: readonly ManifestImage[];
  readonly encoder: Encoder;
  readonly randomEncoder: Encoder;
  readonly imageSizePx: number;
  readonly normalisation: Normalisation;
}

/** One pass over the images gives all three descriptions: `[N, D]`, `[N, D]` and `[N, C]`. */
async function describeImages(context: TaskContext, task: Describing): Promise<{ embeddings: Float32Array; randomEmbeddings: Float32Array; colour: Float32Array }> {
  const parts: { embeddings: Float32Array[]; randomEmbeddings: Float32Array[]; colour: Float32Array[] } = { embeddings: [], randomEmbeddings: [], colour: [] };
  const reading = openEvaluationImages({ shardPaths: task.shardPaths, images: task.images, batchSize: embeddingBatchSize(task.imageSizePx), imageSizePx: task.imageSizePx });
  let done = 0;
  for await (const batch of reading) {
    context.throwIfStopped();
    const count = batch.images.length / (task.imageSizePx * task.imageSizePx * 3);
    parts.embeddings.push(embedPixels(task.encoder, batch.images, count, task.imageSizePx, task.normalisation));
    parts.randomEmbeddings.push(embedPixels(task.randomEncoder, batch.images, count, task.imageSizePx, task.normalisation));
    parts.colour.push(colourStatistics(batch.images, count));
    done += count;
    await context.progress((EMBEDDING_SHARE * done) / task.images.length, `Embedded ${done} of ${task.images.length} images.`);
  }
  return { embeddings: joined(parts.embeddings), randomEmbeddings: joined(parts.randomEmbeddings), colour: joined(parts.colour) };
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
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
