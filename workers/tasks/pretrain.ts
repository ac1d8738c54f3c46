/** Pretraining by SimCLR: sealed versions in, an encoder registered as a checkpoint out. */
import { DomainError } from '../../src/errors.ts';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import { tensorDigestOf } from '../../src/formats/tensor-digest.ts';
import type { InputContract } from '../../src/modules/models/index.ts';
import { pretrainingConfigSchema, type PretrainingConfig } from '../../src/modules/runs/index.ts';
import type { StoredBytes } from '../../src/platform/artifact-store.ts';
import { createAugmenter } from '../engine/augment/augmenter.ts';
import { openTrainingBatches } from '../engine/data/batches.ts';
import { HALF_NORMALISATION } from '../engine/embed.ts';
import { createEncoder, encoderFromWeights } from '../engine/models/resnet.ts';
import type { NamedTensor } from '../engine/named-tensor.ts';
import { createRandom } from '../engine/rng.ts';
import { engineInfo, tf, type Tensor4D } from '../engine/tensorflow.ts';
import {
  createSimclrTrainer,
  NonFiniteLossError,
  UnsupportedPrecisionError,
  type SimclrTrainer,
} from '../engine/train/simclr.ts';
import type { StepViews } from '../engine/train/step-views.ts';
import { goldenOf } from './golden.ts';
import { verifiedShardPaths, type Task, type TaskContext, type TaskResult } from './task.ts';

const SAFETENSORS_TYPE = 'application/vnd.safetensors';
const STATE_FORMAT = 'paraffin-training-state-1';

export const pretrainTask: Task = {
  kind: 'PRETRAINING',
  run: async (context, rawConfig) => {
    const config = pretrainingConfigSchema.parse(rawConfig);
    await context.setEnvironment({ engine: engineInfo() });
    const initialWeights = await loadInitialWeights(context, config);
    // A run that ran out of memory continues with a smaller one than its config says.
    const microBatchSize = context.microBatchSize ?? config.microBatchSize;
    if (config.steps === 0) return registerUntrained(context, config, initialWeights);

    const trainer = makeTrainer(config, microBatchSize, initialWeights);
    try {
      await goOnFromLastState(context, config, trainer);
      await train(context, config, trainer);
      return await encoderResult(context, config, trainer.encoderWeights());
    } finally {
      trainer.dispose();
    }
  },
};

function makeTrainer(
  config: PretrainingConfig,
  microBatchSize: number | null,
  initialWeights: readonly NamedTensor[] | undefined,
): SimclrTrainer {
  try {
    return createSimclrTrainer({
      architecture: config.encoder,
      projectionDim: config.projectionDim,
      temperature: config.temperature,
      totalSteps: config.steps,
      warmupSteps: config.warmupSteps,
      peakLearningRate: config.learningRate,
      optimizer: { name: 'LARS', momentum: config.momentum, weightDecay: config.weightDecay },
      seedRandom: createRandom(config.seed).fork('weights'),
      computeDtype: config.precision === 'BFLOAT16' ? 'bfloat16' : 'float32',
      ...(microBatchSize === null ? {} : { microBatchSize }),
      ...(initialWeights === undefined ? {} : { initialWeights }),
    });
  } catch (error) {
    if (!(error instanceof UnsupportedPrecisionError)) throw error;
    throw new DomainError({
      code: 'PRECISION_UNSUPPORTED',
      message: error.message,
      field: 'input.precision',
      hint: 'Launch with FLOAT32, or give the run to a worker with AVX-512 or a GPU.',
      cause: error,
    });
  }
}

async function train(context: TaskContext, config: PretrainingConfig, trainer: SimclrTrainer): Promise<void> {
  if (trainer.stepIndex >= config.steps) return;
  const versions = await context.services.datasets.requireSealedVersions(
    config.datasets.map((dataset) => dataset.datasetVersionId),
  );
  const datasets = [];
  for (const { datasetVersionId, imageCount, weight, maxImages } of config.datasets) {
    const shardPaths = await verifiedShardPaths(
      context,
      versions.find((version) => version.id === datasetVersionId)?.shards ?? [],
    );
    datasets.push({ shardPaths, imageCount, weight, ...(maxImages === null ? {} : { maxImages }) });
  }
  const batches = openTrainingBatches({
    datasets,
    sampling: config.sampling,
    batchSize: config.batchSize,
    sourceSizePx: config.sourceSizePx,
    seed: config.seed,
    startStep: trainer.stepIndex,
  });
  const augmenter = createAugmenter(config.augmentation, config.imageSizePx);
  const random = createRandom(config.seed);
  const speed = createSpeedometer(config.batchSize);
  try {
    while (trainer.stepIndex < config.steps) {
      if (context.stopRequested() !== 'NO') {
        await keepState(context, config, trainer);
        context.throwIfStopped();
      }
      const step = trainer.stepIndex;
      const { images } = await batches.next();
      // Drawn from the step's own stream: a resumed run makes the same views without any state to keep, and so does a
      // step in parts.
      const drawn = augmenter.draw(config.batchSize, config.sourceSizePx, random.fork(`views of step ${step}`));
      const metrics = await takeStep(trainer, {
        imageCount: config.batchSize,
        make: (start, count) => {
          const pixels = imagesOnDevice(images, config.sourceSizePx, start, count);
          const views = drawn.make(pixels, start);
          pixels.dispose();
          return views;
        },
      });
      const imagesPerSecond = speed.lap();
      const measured = {
        ...metrics,
        ...(imagesPerSecond === undefined ? {} : { imagesPerSecond }),
        peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
      };
      await context.recordMetrics(trainer.stepIndex / config.steps, { step, metrics: measured });
      if (trainer.stepIndex % config.checkpointEverySteps === 0 && trainer.stepIndex < config.steps)
        await keepState(context, config, trainer);
    }
    await keepState(context, config, trainer);
  } finally {
    await batches.close();
  }
}

/** Images `start`..`start + count - 1` of uint8 `[N, S, S, 3]`. */
function imagesOnDevice(images: Uint8Array, sizePx: number, start: number, count: number): Tensor4D {
  const imageBytes = sizePx * sizePx * 3;
  return tf.tensor4d(
    images.subarray(start * imageBytes, (start + count) * imageBytes),
    [count, sizePx, sizePx, 3],
    'int32',
  );
}

async function takeStep(trainer: SimclrTrainer, views: StepViews): Promise<Record<string, number>> {
  try {
    return { ...(await trainer.step(views)) };
  } catch (error) {
    if (!(error instanceof NonFiniteLossError)) throw error;
    throw new DomainError({
      code: 'TRAINING_DIVERGED',
      message: error.message,
      hint: 'Resume with the weights of the last checkpoint under a lower learningRate, or look at the data.',
      cause: error,
    });
  }
}

/** Images per second of the last steps: the first lap holds one-off costs of TensorFlow and says nothing. */
function createSpeedometer(batchSize: number) {
  const laps: number[] = [];
  let lastMs: number | undefined;
  return {
    lap: (): number | undefined => {
      const nowMs = performance.now();
      if (lastMs !== undefined) laps.push(nowMs - lastMs);
      lastMs = nowMs;
      const recent = laps.slice(-10);
      if (recent.length === 0) return undefined;
      return (1000 * batchSize * recent.length) / recent.reduce((sum, lapMs) => sum + lapMs, 0);
    },
  };
}

async function keepState(context: TaskContext, config: PretrainingConfig, trainer: SimclrTrainer): Promise<void> {
  await context.flush();
  const bytes = writeSafetensors(trainer.saveState(), {
    format: STATE_FORMAT,
    step: String(trainer.stepIndex),
    seed: String(config.seed),
  });
  const stored = await context.artifacts.put(bytes);
  await context.withLease(async (tx) => {
    await context.services.artifacts.record(tx, { ...stored, mediaType: SAFETENSORS_TYPE });
    await context.keepTrainingState(tx, { step: trainer.stepIndex, sha256: stored.sha256 });
  });
}

async function goOnFromLastState(
  context: TaskContext,
  config: PretrainingConfig,
  trainer: SimclrTrainer,
): Promise<void> {
  const state = await context.latestTrainingState();
  if (state === undefined) return;
  trainer.restoreState(readSafetensors(await context.artifacts.read(state.sha256)).tensors);
  await context.progress(state.step / config.steps, `Goes on from step ${state.step}.`);
}

async function loadInitialWeights(
  context: TaskContext,
  config: PretrainingConfig,
): Promise<readonly NamedTensor[] | undefined> {
  if (config.initialCheckpointId === null) return undefined;
  const checkpoint = await context.services.models.checkpointForUse(config.initialCheckpointId, 'initialCheckpointId');
  return readSafetensors(await context.artifacts.read(checkpoint.sha256)).tensors;
}

/** `steps: 0`: the encoder as it is before any training, the control that every comparison needs. */
async function registerUntrained(
  context: TaskContext,
  config: PretrainingConfig,
  initialWeights: readonly NamedTensor[] | undefined,
): Promise<TaskResult> {
  const encoder =
    initialWeights === undefined
      ? createEncoder(config.encoder, createRandom(config.seed).fork('weights').fork('encoder'))
      : encoderFromWeights(config.encoder, initialWeights);
  try {
    return await encoderResult(context, config, encoder.weights());
  } finally {
    encoder.dispose();
  }
}

/** Stores the encoder's weights, measures its golden embedding, and says how to register both. */
async function encoderResult(
  context: TaskContext,
  config: PretrainingConfig,
  weights: readonly NamedTensor[],
): Promise<TaskResult> {
  const inputContract: InputContract = {
    imageSizePx: config.imageSizePx,
    channelMean: [...HALF_NORMALISATION.channelMean],
    channelStd: [...HALF_NORMALISATION.channelStd],
    valueRange: [0, 1],
    channelOrder: 'RGB',
    resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
    embeddingLayer: 'avgpool',
    micronsPerPixelMin: null,
    micronsPerPixelMax: null,
  };
  const stored: StoredBytes = await context.artifacts.put(
    // Nothing of this run's own name or time: the same config and seed give the same file, and so the same sha256.
    writeSafetensors(weights, {
      format: 'pt',
      architecture: config.encoder,
      inputContract: JSON.stringify(inputContract),
    }),
  );
  // Read back from the store and loaded again: what is registered is what was proven to load.
  const { tensors } = readSafetensors(await context.artifacts.read(stored.sha256));
  const tensorDigest = tensorDigestOf(tensors);
  const encoder = encoderFromWeights(config.encoder, tensors);
  const golden = goldenOf(encoder, inputContract);
  const { embeddingDim } = encoder;
  encoder.dispose();
  return {
    message: `Registered ${config.encoder} after ${config.steps} steps.`,
    finish: async (tx) => {
      await context.services.artifacts.record(tx, { ...stored, mediaType: SAFETENSORS_TYPE });
      await context.services.models.registerCheckpoint(tx, {
        modelSlug: config.modelSlug,
        encoder: config.encoder,
        embeddingDim,
        inputContract,
        sourceRunId: context.runId,
        step: config.steps,
        epoch: config.steps === 0 ? 0 : config.epochs,
        sha256: stored.sha256,
        byteSize: stored.byteSize,
        tensorDigest,
        golden,
        initialCheckpointId: config.initialCheckpointId,
        trainedOnVersionIds: config.steps === 0 ? [] : config.datasets.map((dataset) => dataset.datasetVersionId),
      });
    },
  };
}
