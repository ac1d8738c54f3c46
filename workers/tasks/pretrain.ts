/** Pretraining by SimCLR: sealed versions in, an encoder registered as a checkpoint out. */
import { z } from 'zod';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import { tensorDigestOf } from '../../src/formats/tensor-digest.ts';
import type { InputContract } from '../../src/modules/models/index.ts';
import {
  pretrainingConfigSchema,
  unplannedPretrainingSchema,
  type PretrainingConfig,
} from '../../src/modules/runs/index.ts';
import type { StoredBytes } from '../../src/platform/artifact-store.ts';
import { HALF_NORMALISATION } from '../engine/embed.ts';
import { createEncoder, encoderFromWeights } from '../engine/models/resnet.ts';
import type { NamedTensor } from '../engine/named-tensor.ts';
import { createRandom } from '../engine/rng.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import type { SimclrTrainer } from '../engine/train/simclr.ts';
import { goldenOf } from './golden.ts';
import { planWithinBudget, watchPace, type ElapsedSeconds } from './pretraining-budget.ts';
import { makeTrainer, openTrainingSteps } from './pretraining-steps.ts';
import type { Task, TaskContext, TaskResult } from './task.ts';

const SAFETENSORS_TYPE = 'application/vnd.safetensors';
const STATE_FORMAT = 'paraffin-training-state-1';

const frozenPretrainingSchema = z.union([unplannedPretrainingSchema, pretrainingConfigSchema]);

/** Begins to measure time, by a clock that nobody sets. */
function stopwatch(): ElapsedSeconds {
  const startedMs = performance.now();
  return () => (performance.now() - startedMs) / 1000;
}

export const pretrainTask: Task = {
  kind: 'PRETRAINING',
  run: async (context, rawConfig) => {
    const elapsed = stopwatch();
    const frozen = frozenPretrainingSchema.parse(rawConfig);
    await context.setEnvironment({ engine: engineInfo() });
    const initialWeights = await loadInitialWeights(context, frozen);
    // A run that ran out of memory continues with a smaller one than its config says.
    const microBatchSize = context.microBatchSize ?? frozen.microBatchSize;
    const config =
      frozen.steps === null
        ? await planWithinBudget({ context, unplanned: frozen, microBatchSize, initialWeights }, elapsed)
        : frozen;
    if (config.steps === 0) return registerUntrained(context, config, initialWeights);

    const trainer = makeTrainer(config, microBatchSize, initialWeights);
    try {
      await resumeFromLastState(context, config, trainer);
      const trained = await train(context, config, trainer, elapsed);
      return await encoderResult(context, trained, trainer.encoderWeights());
    } finally {
      trainer.dispose();
    }
  },
};

/** Trains to the last step. @returns the run as it then is: with a budget its total of steps may have changed. */
async function train(
  context: TaskContext,
  planned: PretrainingConfig,
  trainer: SimclrTrainer,
  elapsed: ElapsedSeconds,
): Promise<PretrainingConfig> {
  let config = planned;
  if (trainer.stepIndex >= config.steps) return config;
  const steps = await openTrainingSteps(context, config, trainer);
  const speed = createSpeedometer(config.batchSize);
  const pace = watchPace(config, trainer.stepIndex, elapsed);
  try {
    while (trainer.stepIndex < config.steps) {
      if (context.stopRequested() !== 'NO') {
        await keepState(context, config, trainer);
        context.throwIfStopped();
      }
      const step = trainer.stepIndex;
      const metrics = await steps.take();
      const imagesPerSecond = speed.lap();
      const measured = {
        ...metrics,
        ...(imagesPerSecond === undefined ? {} : { imagesPerSecond }),
        peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
      };
      await context.recordMetrics(trainer.stepIndex / config.steps, { step, metrics: measured });
      const next = pace?.afterStep(config, trainer.stepIndex);
      if (next !== undefined) config = await changePlan(context, next, trainer);
      if (trainer.stepIndex % config.checkpointEverySteps === 0 && trainer.stepIndex < config.steps)
        await keepState(context, config, trainer);
    }
    await keepState(context, config, trainer);
    return config;
  } finally {
    await steps.close();
  }
}

/** Frozen first: an attempt that dies here trains by the same plan when it continues. */
async function changePlan(
  context: TaskContext,
  config: PretrainingConfig,
  trainer: SimclrTrainer,
): Promise<PretrainingConfig> {
  await context.freezeConfig(config);
  await context.progress(trainer.stepIndex / config.steps, config.explanation.at(-1));
  if (trainer.stepIndex < config.steps) trainer.replan(config.steps);
  return config;
}

const SPEED_LAPS = 10;

/** Images per second of the last steps: the first lap holds one-off costs of TensorFlow and says nothing. */
function createSpeedometer(batchSize: number) {
  /** When the last steps ended, the oldest first. */
  const endsMs: number[] = [];
  return {
    lap: (): number | undefined => {
      const nowMs = performance.now();
      endsMs.push(nowMs);
      // A run takes millions of steps: what is not measured any more goes.
      if (endsMs.length > SPEED_LAPS + 1) endsMs.shift();
      const [firstMs = nowMs] = endsMs;
      return endsMs.length < 2 ? undefined : (1000 * batchSize * (endsMs.length - 1)) / (nowMs - firstMs);
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

async function resumeFromLastState(
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
  config: Pick<PretrainingConfig, 'initialCheckpointId'>,
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
