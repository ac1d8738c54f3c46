/**
 * Evaluation: a checkpoint and a labelled version in, metrics with intervals, baselines, predictions and leakage out.
 */
import { FINE_TUNABLE_ENCODERS } from '../../src/formats/encoders/index.ts';
import { encoderWeights } from '../../src/formats/encoder-file.ts';
import { DomainError, UnreachableCaseError } from '../../src/errors.ts';
import type { EmbeddingSource } from '../../src/protocol/embeddings.ts';
import { imagesAt, splitUnitOf, type ManifestImages } from '../engine/data/manifest.ts';
import type { NamedTensor } from '../engine/named-tensor.ts';
import type { ClassificationInput, Classifier } from '../engine/probe/classification.ts';
import { ProbeError } from '../engine/probe/errors.ts';
import type { LabelBudget } from '../engine/probe/label-budget.ts';
import { linearProbe } from '../engine/probe/linear-probe.ts';
import { nearestNeighbours } from '../engine/probe/nearest-neighbours.ts';
import { ridge } from '../engine/probe/regression.ts';
import { embeddedImages, type EmbeddedImages } from '../engine/probe/scaling.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import { fineTuned } from '../engine/train/fine-tune.ts';
import {
  evaluatedEmbeddings,
  randomEncoderOf,
  type EmbeddingRequest,
  type ReadEmbeddings,
} from './evaluation/embeddings.ts';
import { evaluateClassifiers, evaluateRegressors, type Candidates, type Outcome } from './evaluation/outcome.ts';
import { leakageOf } from './evaluation/leakage.ts';
import { openPixels } from './evaluation/pixels.ts';
import { DECODING_SHARE, EMBEDDING_SHARE, LEAKAGE_FROM } from './evaluation/progress-shares.ts';
import type { Task, TaskContext } from './task.ts';
import { imagesOfVersion, sealedVersion } from './version-manifest.ts';
import { jsonLinesOf } from './text-stream.ts';
import { evaluationConfigSchema, type EvaluationConfig } from '../../src/protocol/evaluation.ts';

export const evaluateTask: Task = {
  kind: 'EVALUATION',
  run: async (context, rawConfig) => {
    const config = evaluationConfigSchema.parse(rawConfig);
    const { registry } = context;
    await registry.setEnvironment({ environment: { engine: engineInfo() } });
    const checkpoint = await registry.checkpoint({ id: config.checkpointId });
    const version = await sealedVersion(registry, config.datasetVersionId);
    const manifest = await imagesOfVersion(context, version);
    const labelledRows = Int32Array.from({ length: manifest.length }, (_, row) => row).filter(
      (row) => manifest.at(row)?.label != null,
    );
    const subject = {
      context,
      config,
      request: {
        checkpoint,
        version,
        images: manifest,
        randomEncoderSeed: config.randomEncoderSeed ?? config.seed,
      },
      labelledRows,
      images: imagesAt(manifest, labelledRows),
    };

    const outcome = await outcomeOf(subject);
    const predictions = await context.artifacts.put(jsonLinesOf(outcome.predictionLines));
    const testedRows = outcome.testedImages.map((image) => labelledRows[image] ?? 0);
    const leakage = await leakageOf(context, {
      ...{ checkpointId: checkpoint.id, version, testedRows },
      onProgress: progressOf(subject, LEAKAGE_FROM, 1),
    });
    return {
      message: `${outcome.headline} on ${outcome.testedImages.length} images.`,
      outcome: {
        kind: 'EVALUATION',
        ...outcome.records,
        split: { ...outcome.records.split, groupCount: knownGroupCount(subject.images) },
        predictions,
        ungroupedImageCount: Iterator.from(subject.images)
          .filter(({ group }) => group === null)
          .reduce((count) => count + 1, 0),
        leakage,
      },
    };
  },
};

interface Subject {
  readonly context: TaskContext;
  readonly config: EvaluationConfig;
  readonly request: Omit<EmbeddingRequest, 'onProgress' | 'sources'>;
  /** Rows of the manifest that have a label. */
  readonly labelledRows: Int32Array;
  /** Their images. */
  readonly images: ManifestImages;
}

async function outcomeOf(subject: Subject): Promise<Outcome> {
  try {
    switch (subject.config.protocol) {
      case 'LINEAR_PROBE':
        return await classifyEmbeddings(subject, subject.config, linearProbe);
      case 'KNN':
        return await classifyEmbeddings(subject, subject.config, nearestNeighbours);
      case 'FINE_TUNE':
        return await fineTuneNetworks(subject, subject.config);
      case 'REGRESSION':
        return await regress(subject, subject.config);
      default:
        throw new UnreachableCaseError(subject.config);
    }
  } catch (error) {
    throw error instanceof ProbeError ? domainErrorOf(error) : error;
  }
}

type ConfigOf<Protocol extends EvaluationConfig['protocol']> = Extract<
  EvaluationConfig,
  { readonly protocol: Protocol }
>;

async function classifyEmbeddings(
  subject: Subject,
  { options }: ConfigOf<'LINEAR_PROBE' | 'KNN'>,
  make: (embedded: EmbeddedImages, images: ClassificationInput, seed: number) => Classifier<object>,
): Promise<Outcome> {
  const readEmbeddings = await evaluatedEmbeddings(subject.context, {
    ...subject.request,
    sources: ['CHECKPOINT', 'RANDOM_ENCODER', 'COLOUR_STATISTICS'],
    onProgress: progressOf(subject, 0, EMBEDDING_SHARE),
  });
  const budgets: LabelBudget[] = [
    ...options.labelFractions.map((fraction): LabelBudget => ({ kind: 'FRACTION', fraction })),
    ...options.shotsPerClass.map((shotsPerClass): LabelBudget => ({ kind: 'SHOTS', shotsPerClass })),
  ];
  const input = { ...classificationInputOf(subject), budgets, drawCount: options.drawCount };
  const candidates = candidatesOf((source) => async () => {
    return make(await labelledEmbeddings(subject, readEmbeddings, source), input, subject.config.seed);
  });
  return evaluateClassifiers(subject.images, input, candidates, progressOf(subject, EMBEDDING_SHARE, LEAKAGE_FROM));
}

async function fineTuneNetworks(subject: Subject, { options }: ConfigOf<'FINE_TUNE'>): Promise<Outcome> {
  const { context, config, request } = subject;
  const { checkpoint, version } = request;
  const { inputContract, sha256 } = checkpoint;
  const encoder = FINE_TUNABLE_ENCODERS.find((each) => each === checkpoint.encoder);
  // The launch refuses it too; here before any image is decoded.
  if (encoder === undefined)
    throw new DomainError({
      code: 'CHECKPOINT_INCOMPATIBLE',
      message: "Only torchvision's ResNets can be fine-tuned; this checkpoint is another network.",
      hint: 'Use LINEAR_PROBE or KNN, which embed the images without training the encoder.',
    });
  const pixels = await openPixels(context, {
    inputContract,
    version,
    images: subject.images,
    onProgress: progressOf(subject, 0, DECODING_SHARE),
  });
  try {
    const readEmbeddings = await evaluatedEmbeddings(context, {
      ...request,
      sources: ['COLOUR_STATISTICS'],
      onProgress: progressOf(subject, DECODING_SHARE, 2 * DECODING_SHARE),
    });
    const input = classificationInputOf(subject);
    const tuned = (initialWeights: readonly NamedTensor[]) =>
      fineTuned({
        architecture: encoder,
        initialWeights,
        normalisation: inputContract,
        imageSizePx: inputContract.imageSizePx,
        images: input,
        readPixels: pixels.read,
        options,
        seed: config.seed,
      });
    const classifiers: Candidates<Classifier<object>> = {
      pretrained: async () => tuned(encoderWeights(await context.artifacts.read(sha256))),
      random: async () => tuned(randomEncoderOf(checkpoint, request.randomEncoderSeed)),
      colour: async () => {
        const embedded = await labelledEmbeddings(subject, readEmbeddings, 'COLOUR_STATISTICS');
        return linearProbe(embedded, input, config.seed);
      },
    };
    return await evaluateClassifiers(
      subject.images,
      input,
      classifiers,
      progressOf(subject, 2 * DECODING_SHARE, LEAKAGE_FROM),
    );
  } finally {
    await pixels.close();
  }
}

async function regress(subject: Subject, { options, folds, seed }: ConfigOf<'REGRESSION'>): Promise<Outcome> {
  const readEmbeddings = await evaluatedEmbeddings(subject.context, {
    ...subject.request,
    sources: ['CHECKPOINT', 'RANDOM_ENCODER', 'COLOUR_STATISTICS'],
    onProgress: progressOf(subject, 0, EMBEDDING_SHARE),
  });
  const { images } = subject;
  const input = {
    targets: Float64Array.from(images, (image) => Number(image.label)),
    groups: Array.from(images, splitUnitOf),
    splits: Array.from(images, ({ split }) => split),
    folds,
    seed,
    bootstrapResamples: options.bootstrapResamples,
  };
  const candidates = candidatesOf((source) => async () => {
    return ridge(await labelledEmbeddings(subject, readEmbeddings, source), input, seed);
  });
  return evaluateRegressors(images, input, candidates, progressOf(subject, EMBEDDING_SHARE, LEAKAGE_FROM));
}

function classificationInputOf({ config, images }: Subject): ClassificationInput {
  const labelNames = [...new Set(Iterator.from(images).flatMap(({ label }) => (label === null ? [] : [label])))].sort();
  const places = new Map(labelNames.map((name, place) => [name, place]));
  return {
    labels: Int32Array.from(images, (image) => places.get(image.label ?? '') ?? -1),
    groups: Array.from(images, splitUnitOf),
    labelNames,
    splits: Array.from(images, ({ split }) => split),
    folds: config.folds,
    seed: config.seed,
    bootstrapResamples: config.options.bootstrapResamples,
  };
}

function knownGroupCount(images: ManifestImages): number {
  return new Set(Iterator.from(images).flatMap(({ group }) => (group === null ? [] : [group]))).size;
}

function candidatesOf<Method>(load: (source: EmbeddingSource) => () => Promise<Method>): Candidates<Method> {
  return { pretrained: load('CHECKPOINT'), random: load('RANDOM_ENCODER'), colour: load('COLOUR_STATISTICS') };
}

/** The embeddings of the labelled images, `[labelled, D]`. */
async function labelledEmbeddings(
  { labelledRows }: Subject,
  readEmbeddings: ReadEmbeddings,
  source: EmbeddingSource,
): Promise<EmbeddedImages> {
  return embeddedImages(await readEmbeddings(source, labelledRows), labelledRows.length);
}

/** Reports progress within a part of the run's time, and throws TaskStopped if a stop was requested. */
function progressOf({ context }: Subject, from: number, to: number): (done: number, message: string) => Promise<void> {
  return async (done, message) => {
    context.throwIfStopped();
    await context.progress(from + (to - from) * done, message);
  };
}

function domainErrorOf(error: ProbeError): DomainError {
  switch (error.code) {
    case 'TOO_FEW_LABELS':
    case 'TOO_FEW_IMAGES':
    case 'TOO_FEW_GROUPS':
      return new DomainError({
        code: error.code,
        message: error.message,
        field: 'input.datasetVersionId',
        hint: 'Give every label images of several groups, or take fewer folds.',
        cause: error,
      });
    case 'TRAINING_DIVERGED':
      return new DomainError({
        code: 'TRAINING_DIVERGED',
        message: error.message,
        field: error.field,
        hint: 'Use a lower learningRate.',
        cause: error,
      });
    case 'SPLIT_INVALID':
    case 'BAD_OPTION':
    case 'EMBEDDING_NOT_FINITE':
      return new DomainError({
        code: 'BAD_INPUT',
        message: error.message,
        field: 'input.datasetVersionId',
        hint: 'Check the labels, groups and split of the version.',
        cause: error,
      });
    default:
      throw new UnreachableCaseError(error.code);
  }
}
