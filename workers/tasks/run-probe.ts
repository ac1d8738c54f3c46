/**
 * The probe inside a pretraining: a fixed subset of labelled images is decoded once, and the encoder is compared on it
 * with the random encoder and colour statistics, using the same images, folds and resamples.
 */
import { DomainError } from '../../src/errors.ts';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import type { SealedVersion } from '../../src/protocol/dataset-version.ts';
import { CLASSIFICATION_METRICS } from '../../src/statistics/classification-score.ts';
import { differencesOf } from '../../src/statistics/estimate.ts';
import type { ManifestImage, ManifestImages } from '../engine/data/manifest.ts';
import { embeddingBatchSize, embedPixels } from '../engine/embed.ts';
import { openEncoder, untrainedWeights } from '../engine/encoders/index.ts';
import type { NamedTensor } from '../engine/named-tensor.ts';
import { COLOUR_STATISTICS_DIM, colourStatistics } from '../engine/probe/colour-statistics.ts';
import { ProbeError } from '../engine/probe/errors.ts';
import {
  chooseProbeImages,
  createTrainingProbe,
  defaultProbeInterval,
  PROBE_IMAGES_MAX,
  probeRandom,
  type ProbeImage,
  type ProbeResult,
  type TrainingProbe,
} from '../engine/probe/training-probe.ts';
import { createRandom } from '../engine/rng.ts';
import { openPixels, type Pixels } from './evaluation/pixels.ts';
import { findSamePixels, identitiesOf } from './evaluation/seen-images.ts';
import type { TaskContext } from './task.ts';
import { hasImageHashes, imagesOfVersion, sealedVersion } from './version-manifest.ts';
import {
  probeOverlapSentence,
  type CheckpointProbeRecord,
  type PairedDifference,
} from '../../src/protocol/checkpoint-probe.ts';
import { inputContractOf, type PretrainingConfig } from '../../src/protocol/pretraining/config.ts';
import type { ProbeConfig } from '../../src/protocol/pretraining/monitoring.ts';

/** Often enough to see that it goes on; a manifest of ten million images has a thousand blocks of rows. */
const PROGRESS_EVERY_MS = 1000;
/** Number of resamples for the paired intervals, as in an evaluation. */
const BOOTSTRAP_RESAMPLES = 1000;

export interface RunProbe {
  /** Steps between two probes. */
  readonly everySteps: number;
  /** Time that the probe has taken so far, decoding included. */
  durationMs(): number;
  /**
   * Measures the encoder with these weights and adds the result to the run's series; undefined if a stop was requested
   * meanwhile. Throws DomainError TRAINING_DIVERGED for an encoder that gives no finite numbers.
   */
  measure(step: number, weights: readonly NamedTensor[]): Promise<CheckpointProbeRecord | undefined>;
  close(): Promise<void>;
}

/**
 * Undefined for a run without a probe. Throws DomainError PROBE_TOO_SMALL, and ImageDataError for damaged shards.
 * @param fraction the fraction of the run that is done, 0..1.
 */
export async function openRunProbe(
  context: TaskContext,
  config: PretrainingConfig,
  fraction: number,
): Promise<RunProbe | undefined> {
  if (config.probe === null) return undefined;
  const startedMs = performance.now();
  const wanted = config.probe;
  const version = await sealedVersion(context.registry, wanted.datasetVersionId);
  const { images, rows } = chooseImages(await imagesOfVersion(context, version), version.digest);
  const probe = probeOf(images);
  const overlap = await overlapOf(context, config, version, rows, (message) => context.progress(fraction, message));
  const pixels = await openPixels(context, {
    inputContract: inputContractOf(config),
    version,
    images,
    onProgress: (done) =>
      context.progress(fraction, `Decoding the probe: ${Math.round(100 * done)} % of ${images.length} images.`),
  });
  const overlapText = probeOverlapSentence({ imageCount: images.length, groupCount: probe.groupCount, ...overlap });
  await context.progress(
    fraction,
    `The probe has ${images.length} images of ${probe.labelNames.length} labels from ${wanted.datasetVersionName}, ${DIVIDED[probe.split]}.${overlapText === null ? '' : ` ${overlapText}`}`,
  );
  return createRunProbe({
    context,
    config,
    wanted,
    probe,
    pixels,
    images,
    overlap,
    preparationMs: performance.now() - startedMs,
  });
}

const DIVIDED: Readonly<Record<TrainingProbe['split'], string>> = {
  GIVEN: 'divided by the split of the version',
  GROUPS: 'divided by group',
  IMAGES: 'divided by image, since no division by group has every label on both sides',
};

/** The probe images of a pretraining that does not configure its probe depend on the version alone. */
function chooseImages(manifest: ManifestImages, digest: string): ChosenImages {
  const rows = chooseProbeImages(manifest, PROBE_IMAGES_MAX, probeRandom(digest));
  const images = Array.from(rows).flatMap((row) => {
    const image = manifest.at(row);
    return image?.label == null ? [] : [{ ...image, label: image.label }];
  });
  return { images, rows };
}

interface ChosenImages {
  readonly images: readonly (ManifestImage & ProbeImage)[];
  /** Their rows of the manifest. */
  readonly rows: Int32Array;
}

function probeOf(images: readonly ProbeImage[]): TrainingProbe {
  try {
    return createTrainingProbe(images);
  } catch (error) {
    if (!(error instanceof ProbeError)) throw error;
    throw new DomainError({
      code: 'PROBE_TOO_SMALL',
      message: error.message,
      field: 'input.probe.datasetVersionId',
      hint: 'Name a version with more labelled images, or launch without a probe.',
      cause: error,
    });
  }
}

interface Overlap {
  /** Null if one of the versions was sealed before images were hashed. */
  readonly sharedImageCount: number | null;
  readonly sharedGroupCount: number;
}

/** Images are identified by their pixels, groups by patient or slide. */
async function overlapOf(
  context: TaskContext,
  config: PretrainingConfig,
  version: SealedVersion,
  rows: Int32Array,
  onProgress: (message: string) => Promise<void>,
): Promise<Overlap> {
  const seenVersions = await context.registry.sealedVersions({
    ids: config.datasets.map((each) => each.datasetVersionId),
  });
  let rowsRead = 0;
  let reportedAtMs = performance.now();
  const progress = {
    onRowsRead: async (rowCount: number): Promise<void> => {
      rowsRead += rowCount;
      if (performance.now() - reportedAtMs < PROGRESS_EVERY_MS) return;
      reportedAtMs = performance.now();
      await onProgress(`Comparing the probe with the images of the training: ${rowsRead} rows of manifests read.`);
    },
  };
  const seenGroups = new Set<string>();
  for (const seen of seenVersions)
    for (const group of await identitiesOf(context, { version: seen, rows: 'ALL' }, progress)) seenGroups.add(group);
  const own = { version, rows: rows.toSorted() };
  const groups = await identitiesOf(context, own, progress);
  const isShared = [version, ...seenVersions].every(hasImageHashes)
    ? await findSamePixels(context, own, seenVersions, progress)
    : null;
  return {
    sharedImageCount: isShared?.reduce((count, shared) => count + shared, 0) ?? null,
    sharedGroupCount: [...groups].filter((group) => seenGroups.has(group)).length,
  };
}

interface RunProbeParts {
  readonly context: TaskContext;
  readonly config: PretrainingConfig;
  readonly wanted: ProbeConfig;
  readonly probe: TrainingProbe;
  readonly pixels: Pixels;
  readonly images: readonly ProbeImage[];
  readonly overlap: Overlap;
  /** Time that opening the probe took. */
  readonly preparationMs: number;
}

/** The baselines that every encoder of the run is compared with. */
interface References {
  readonly random: ProbeResult;
  readonly colour: ProbeResult;
}

function createRunProbe(parts: RunProbeParts): RunProbe {
  const { context, config, wanted, probe, pixels, images, overlap } = parts;
  const { imageSizePx } = config;
  const architecture = architectureNamed(config.encoder);
  const contract = inputContractOf(config);
  const batchSize = embeddingBatchSize(imageSizePx);
  let references: References | undefined;
  let durationMs = parts.preparationMs;

  /** Descriptors `[N, D]` from `describe`, batch after batch; undefined if a stop was requested meanwhile. */
  const describeImages = (
    embeddingDim: number,
    describe: (pixels: Uint8Array, imageCount: number) => Float32Array,
  ): Float32Array | undefined => {
    const values = new Float32Array(images.length * embeddingDim);
    for (let start = 0; start < images.length; start += batchSize) {
      if (context.stopRequested() !== 'NO') return undefined;
      const count = Math.min(batchSize, images.length - start);
      values.set(
        describe(pixels.read(Int32Array.from({ length: count }, (_, index) => start + index)), count),
        start * embeddingDim,
      );
    }
    return values;
  };

  const embed = (weights: readonly NamedTensor[]): Float32Array | undefined => {
    const encoder = openEncoder(architecture, weights, contract.pooling);
    try {
      return describeImages(encoder.embeddingDim, (batch, count) =>
        embedPixels(encoder, batch, count, imageSizePx, contract),
      );
    } finally {
      encoder.dispose();
    }
  };

  const measureEmbeddings = async (embeddings: Float32Array | undefined): Promise<ProbeResult | undefined> =>
    embeddings === undefined ? undefined : probe.measure(embeddings, BOOTSTRAP_RESAMPLES);

  const referencesOf = async (): Promise<References | undefined> => {
    if (references !== undefined) return references;
    // These are the initial weights of a run without an initial checkpoint, whose first point therefore lies on this
    // line.
    const random = await measureEmbeddings(
      embed(untrainedWeights(architecture, createRandom(config.seed).fork('weights').fork('encoder'))),
    );
    const colour = await measureEmbeddings(describeImages(COLOUR_STATISTICS_DIM, colourStatistics));
    if (random === undefined || colour === undefined) return undefined;
    references = { random, colour };
    return references;
  };

  const measure = async (step: number, weights: readonly NamedTensor[]): Promise<CheckpointProbeRecord | undefined> => {
    const fraction = step / config.steps;
    const beside = await referencesOf();
    const result = beside === undefined ? undefined : await measureEmbeddings(embed(weights));
    if (beside === undefined || result === undefined) return undefined;
    const record: CheckpointProbeRecord = {
      ...scoresOf(result),
      datasetVersionId: wanted.datasetVersionId,
      datasetVersionName: wanted.datasetVersionName,
      imageCount: images.length,
      groupCount: probe.groupCount,
      ungroupedImageCount: probe.ungroupedImageCount,
      split: probe.split,
      step,
      randomEncoder: scoresOf(beside.random),
      colourStatistics: scoresOf(beside.colour),
      overRandomEncoder: differenceOf(result, beside.random),
      overColourStatistics: differenceOf(result, beside.colour),
      ...overlap,
    };
    await reportProgress(fraction, record);
    return record;
  };

  const reportProgress = async (fraction: number, record: CheckpointProbeRecord): Promise<void> => {
    const { step, ridgeMacroF1, knnMacroF1, randomEncoder, colourStatistics: colour } = record;
    // The chart's two baselines; a resumed run reports them again, and the series keeps the first values.
    await context.recordMetrics(fraction, {
      step: 0,
      metrics: {
        probeRandomRidgeMacroF1: randomEncoder.ridgeMacroF1,
        probeRandomKnnMacroF1: randomEncoder.knnMacroF1,
        probeColourRidgeMacroF1: colour.ridgeMacroF1,
        probeColourKnnMacroF1: colour.knnMacroF1,
      },
    });
    await context.flush();
    await context.recordMetrics(fraction, {
      step,
      metrics: { probeRidgeMacroF1: ridgeMacroF1, probeKnnMacroF1: knnMacroF1 },
    });
    await context.progress(
      fraction,
      `Probe at step ${step} on ${wanted.datasetVersionName}: macro-F1 ${ridgeMacroF1.toFixed(3)} by ridge, ${knnMacroF1.toFixed(3)} by kNN (random encoder ${randomEncoder.ridgeMacroF1.toFixed(3)}, ${randomEncoder.knnMacroF1.toFixed(3)}).`,
    );
    // This is a separate event: if it were joined with a step's, a page that follows the run would not see it.
    await context.flush();
  };

  return {
    everySteps:
      wanted.everySteps ??
      defaultProbeInterval({ steps: config.steps, batchSize: config.batchSize, probeImageCount: images.length }),
    durationMs: () => durationMs,
    measure: async (step, weights) => {
      const startedMs = performance.now();
      try {
        return await measure(step, weights);
      } catch (error) {
        throw error instanceof ProbeError ? diverged(step, error) : error;
      } finally {
        durationMs += performance.now() - startedMs;
      }
    },
    close: pixels.close,
  };
}

function diverged(step: number, error: ProbeError): DomainError {
  return new DomainError({
    code: 'TRAINING_DIVERGED',
    message: `The encoder of step ${step} cannot be probed: ${error.message}`,
    hint: 'Resume with the weights of the last checkpoint under a lower learningRate, or look at the data.',
    cause: error,
  });
}

function scoresOf({ ridge, nearest }: ProbeResult): { ridgeMacroF1: number; knnMacroF1: number } {
  return { ridgeMacroF1: ridge.metrics.macroF1.value, knnMacroF1: nearest.metrics.macroF1.value };
}

function differenceOf(first: ProbeResult, second: ProbeResult): PairedDifference {
  const { value, ci95Low, ci95High } = differencesOf(CLASSIFICATION_METRICS, first.ridge, second.ridge).macroF1;
  return { value, ci95Low, ci95High };
}
