/** The steps of a pretraining: batches of a run's datasets, their views, and a trainer that learns from them. */
import { DomainError } from '../../src/errors.ts';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { DEFAULT_SHUFFLE } from '../../src/protocol/pretraining/shuffle.ts';
import { createAugmenter } from '../engine/augment/augmenter.ts';
import { openTrainingBatches } from '../engine/data/batches.ts';
import { UnsupportedPrecisionError } from '../engine/kernels/compute-dtype.ts';
import type { NamedTensor } from '../engine/named-tensor.ts';
import { createRandom } from '../engine/rng.ts';
import { tf, type Tensor4D } from '../engine/tensorflow.ts';
import { createTrainer, NonFiniteLossError, type Trainer } from '../engine/train/trainer.ts';
import type { StepViews } from '../engine/train/step-views.ts';
import { openShardSources, type FetchedShards } from './shard-sources.ts';
import { storedDecoderOf } from './stored-decoder.ts';
import type { TaskContext } from './task.ts';
import type { PretrainingConfig } from '../../src/protocol/pretraining/config.ts';

/** A person who waits this long wants to know for what. */
const WAIT_REPORT_MS = 2_000;

/**
 * @param microBatchSize null: the whole batch.
 * @param initialWeights of an encoder to start from; undefined: new weights are drawn from the seed.
 * @throws DomainError PRECISION_UNSUPPORTED.
 */
export function makeTrainer(
  config: PretrainingConfig,
  microBatchSize: number | null,
  initialWeights: readonly NamedTensor[] | undefined,
): Trainer {
  try {
    return createTrainer({
      architecture: architectureNamed(config.encoder),
      method: config.method,
      totalSteps: config.steps,
      earlierPlans: config.earlierPlans,
      warmupSteps: config.warmupSteps,
      peakLearningRate: config.learningRate,
      optimizer: config.optimizer,
      dropPathRate: config.dropPathRate,
      layerDecay: config.layerDecay,
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

export interface TrainingSteps {
  /**
   * Takes the trainer's next step.
   * @returns its metrics by name.
   * @throws DomainError TRAINING_DIVERGED; TaskStopped, before the step, if a stop was requested while it had to wait
   * for a shard; ImageDataError and the errors of the artifact store.
   */
  take(): Promise<Record<string, number>>;
  /** Stops reading images; the caller keeps ownership of the trainer. */
  close(): Promise<void>;
}

/** Starts to read the run's images at the trainer's next step. */
export async function openTrainingSteps(
  context: TaskContext,
  config: PretrainingConfig,
  trainer: Trainer,
): Promise<TrainingSteps> {
  const versions = await context.registry.sealedVersions({
    ids: config.datasets.map((dataset) => dataset.datasetVersionId),
  });
  const { windowShards, firstWindowShards } = config.shuffle ?? DEFAULT_SHUFFLE;
  const fetched: FetchedShards = { pendingCount: 0, readyCount: 0 };
  await using opened = new AsyncDisposableStack();
  const datasets = versions.map((version, index) => ({
    shards: opened.use(openShardSources(context, version, fetched)).shards,
    weight: config.datasets[index]?.weight,
    maxImages: config.datasets[index]?.maxImages ?? undefined,
  }));
  const batches = openTrainingBatches({
    datasets,
    sampling: config.sampling,
    batchSize: config.batchSize,
    sourceSizePx: config.sourceSizePx,
    seed: config.seed,
    ...{ windowShards, firstWindowShards },
    startStep: trainer.stepIndex,
    openDecoder: storedDecoderOf(context),
  });
  const sources = opened.move();
  const augmenter = createAugmenter(trainer.views({ sizePx: config.viewSizePx, augmentation: config.augmentation }));
  const random = createRandom(config.seed);
  return {
    take: async () => {
      const step = trainer.stepIndex;
      const { images } = await reportingEvery(WAIT_REPORT_MS, batches.next(), async () => {
        if (fetched.pendingCount > 0)
          await context.progress(
            step / config.steps,
            `Step ${step + 1} waits for shards: ${fetched.readyCount} have been fetched and verified.`,
          );
      });
      // Views are drawn from the step's own random stream, so that a resumed run, and a step in parts, make the same
      // views without any saved state.
      const drawn = augmenter.draw(config.batchSize, config.sourceSizePx, random.fork(`views of step ${step}`));
      return takeStep(trainer, {
        imageCount: config.batchSize,
        viewCounts: augmenter.viewCounts,
        make: (start, count, group) => {
          const pixels = imagesOnDevice(images, config.sourceSizePx, start, count);
          const views = drawn.make(pixels, start, group);
          pixels.dispose();
          return views;
        },
      });
    },
    close: async () => {
      await batches.close();
      await sources.disposeAsync();
    },
  };
}

/** Calls `report` at intervals until `work` has ended. */
async function reportingEvery<Result>(
  intervalMs: number,
  work: Promise<Result>,
  report: () => Promise<void>,
): Promise<Result> {
  // A report that fails says that the run was lost, which the next step finds out.
  const timer = setInterval(() => void report().catch(() => undefined), intervalMs);
  try {
    return await work;
  } finally {
    clearInterval(timer);
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

async function takeStep(trainer: Trainer, views: StepViews): Promise<Record<string, number>> {
  try {
    const { series, ...metrics } = await trainer.step(views);
    return { ...metrics, ...series };
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
