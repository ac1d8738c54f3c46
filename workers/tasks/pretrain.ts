/** Pretraining: trains an encoder on sealed versions and registers it as a checkpoint. */
import { architectureNamed, type Architecture } from '../../src/formats/encoders/index.ts';
import { encoderFileOf, encoderTensorsOf, encoderWeights } from '../../src/formats/encoder-file.ts';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import { tensorDigestOf } from '../../src/formats/tensor-digest.ts';
import { DEFAULT_SHUFFLE } from '../../src/protocol/pretraining/shuffle.ts';
import type { GoldenRecord, InputContract, TrainedEncoder } from '../../src/protocol/checkpoint.ts';
import { openEncoder, openTrainableEncoder, untrainedWeights } from '../engine/encoders/index.ts';
import type { NamedTensor } from '../engine/named-tensor.ts';
import { createRandom } from '../engine/rng.ts';
import { engineInfo } from '../engine/tensorflow.ts';
import type { Trainer } from '../engine/train/trainer.ts';
import { goldenOf } from './golden.ts';
import { planWithinBudget, watchPace, type ElapsedSeconds } from './pretraining-budget.ts';
import { makeTrainer, openTrainingSteps } from './pretraining-steps.ts';
import { openRunProbe, type RunProbe } from './run-probe.ts';
import { TaskStopped, type Task, type TaskContext, type TaskResult } from './task.ts';
import { weightsRounding } from './weights-rounding.ts';
import { probeSentence, type CheckpointProbeRecord } from '../../src/protocol/checkpoint-probe.ts';
import {
  frozenPretrainingSchema,
  inputContractOf,
  type FrozenPretraining,
  type PretrainingConfig,
} from '../../src/protocol/pretraining/config.ts';

const STATE_FORMAT = 'paraffin-training-state-1';

/** Starts to measure time by the monotonic clock. */
function stopwatch(): ElapsedSeconds {
  const startedMs = performance.now();
  return () => (performance.now() - startedMs) / 1000;
}

export const pretrainTask: Task = {
  kind: 'PRETRAINING',
  run: async (context, rawConfig) => {
    const elapsed = stopwatch();
    const parsed = frozenPretrainingSchema.parse(rawConfig);
    await context.registry.setEnvironment({ environment: { engine: engineInfo() } });
    const frozen = parsed.shuffle === null ? await withPresentShuffle(context, parsed) : parsed;
    const initialWeights = await loadInitialWeights(context, frozen);
    // A run that ran out of memory continues with a smaller micro-batch than its config specifies.
    const microBatchSize = context.microBatchSize ?? frozen.microBatchSize;
    const config =
      frozen.steps === null
        ? await planWithinBudget({ context, unplanned: frozen, microBatchSize, initialWeights }, elapsed)
        : frozen;
    if (config.steps === 0) return registerUntrained(context, config, initialWeights);

    const trainer = makeTrainer(config, microBatchSize, initialWeights);
    try {
      await resumeFromLastState(context, config, trainer);
      return await trainAndRegister(context, config, trainer, elapsed);
    } finally {
      trainer.dispose();
    }
  },
};

/**
 * A run that began under an earlier order of images continues in the present one: it says so, and its config names the
 * step from which its seed gives these images.
 */
async function withPresentShuffle<Config extends FrozenPretraining>(
  context: TaskContext,
  earlier: Config,
): Promise<Config> {
  const state = await context.registry.latestTrainingState({});
  const sinceStep = state?.step ?? 0;
  const config = { ...earlier, shuffle: { ...DEFAULT_SHUFFLE, sinceStep } };
  await context.registry.freezeConfig({ config });
  if (sinceStep > 0 && earlier.steps !== null)
    await context.progress(
      sinceStep / earlier.steps,
      `This run began under an earlier version, which shuffled images in another order. From step ${sinceStep} its images follow from the seed in the present order.`,
    );
  return config;
}

async function trainAndRegister(
  context: TaskContext,
  planned: PretrainingConfig,
  trainer: Trainer,
  elapsed: ElapsedSeconds,
): Promise<TaskResult> {
  const probe = await openRunProbe(context, planned, trainer.stepIndex / planned.steps);
  try {
    const { config, verdict } = await train(context, planned, trainer, { elapsed, probe });
    const best = config.registerBest ? await bestEncoder(context, config) : undefined;
    const last = await storeEncoder(context, config, {
      weights: trainer.encoderWeights(),
      step: config.steps,
      probe: verdict ?? null,
    });
    return {
      message: [
        registeredSentence(config, last),
        ...describeProbe(verdict, best?.probe ?? null),
        ...describeProbeCost(probe, elapsed()),
      ].join(' '),
      // The best comes first, so that the last step is the model's newest version.
      outcome: { kind: 'PRETRAINING', encoders: best === undefined ? [last] : [best, last] },
    };
  } finally {
    await probe?.close();
  }
}

interface Trained {
  /** The run's current config: with a budget its total number of steps may have changed. */
  readonly config: PretrainingConfig;
  /** The probe's result at the last step, if the run has a probe. */
  readonly verdict: CheckpointProbeRecord | undefined;
}

/** Trains to the last step. */
async function train(
  context: TaskContext,
  planned: PretrainingConfig,
  trainer: Trainer,
  { elapsed, probe }: { readonly elapsed: ElapsedSeconds; readonly probe: RunProbe | undefined },
): Promise<Trained> {
  let config = planned;
  const steps = await openTrainingSteps(context, config, trainer);
  const speed = createSpeedometer(config.batchSize);
  const firstStep = trainer.stepIndex;
  const pace = watchPace(config, firstStep, elapsed);
  try {
    for (;;) {
      const verdict = await visit(context, config, trainer, { probe, firstStep });
      const step = trainer.stepIndex;
      if (step >= config.steps) return { config, verdict };
      const metrics = await steps.take().catch(async (error: unknown) => {
        if (error instanceof TaskStopped) await keepState(context, config, trainer, verdict ?? null);
        throw error;
      });
      const imagesPerSecond = speed.lap();
      const measured = {
        ...metrics,
        ...(imagesPerSecond === undefined ? {} : { imagesPerSecond }),
        peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
      };
      await context.recordMetrics(trainer.stepIndex / config.steps, { step, metrics: measured });
      const next = pace?.afterStep(config, trainer.stepIndex);
      if (next !== undefined) config = await changePlan(context, next, trainer);
    }
  } finally {
    await steps.close();
  }
}

/**
 * Does the work that is due between two steps: probing, saving the state, registering the encoder. If a stop was
 * requested, it saves everything and throws TaskStopped; work that was left out is done when the run continues from
 * there.
 * @returns the probe's result, if a probe was due.
 */
async function visit(
  context: TaskContext,
  config: PretrainingConfig,
  trainer: Trainer,
  { probe, firstStep }: { readonly probe: RunProbe | undefined; readonly firstStep: number },
): Promise<CheckpointProbeRecord | undefined> {
  const step = trainer.stepIndex;
  const isLast = step === config.steps;
  const isNew = step > firstStep;
  const isRegistered = config.registerSteps.includes(step) && !isLast;
  const isProbed = probe !== undefined && (step % probe.everySteps === 0 || isLast || isRegistered);
  const verdict = isProbed ? await probe.measure(step, trainer.encoderWeights()) : undefined;
  const stop = context.stopRequested();
  const isBest = verdict !== undefined && step > 0 && (await isBestSoFar(context, verdict));
  if (stop !== 'NO' || isBest || (isNew && (isLast || step % config.checkpointEverySteps === 0)))
    await keepState(context, config, trainer, verdict ?? null);
  if (stop !== 'NO') context.throwIfStopped();
  if (isRegistered) {
    const encoder = await storeEncoder(context, config, {
      weights: trainer.encoderWeights(),
      step,
      probe: verdict ?? null,
    });
    await context.registry.registerEncoder({ encoder });
    await context.progress(
      step / config.steps,
      [registeredSentence(config, encoder), ...describeProbe(verdict, null)].join(' '),
    );
  }
  return verdict;
}

/** Whether no saved state has a better probe result, or an equal one at an earlier step. */
async function isBestSoFar(context: TaskContext, { ridgeMacroF1 }: CheckpointProbeRecord): Promise<boolean> {
  const best = await context.registry.bestTrainingState({});
  return best?.probe == null || ridgeMacroF1 > best.probe.ridgeMacroF1;
}

/** The encoder with the best probe result, unless it is that of the last step. */
async function bestEncoder(context: TaskContext, config: PretrainingConfig): Promise<TrainedEncoder | undefined> {
  const best = await context.registry.bestTrainingState({});
  if (best === null || best.step === config.steps) return undefined;
  const { tensors } = readSafetensors(await context.artifacts.read(best.sha256));
  const weights = encoderTensorsOf(architectureNamed(config.encoder), tensors);
  return storeEncoder(context, config, { weights, step: best.step, probe: best.probe });
}

function describeProbe(last: CheckpointProbeRecord | undefined, best: CheckpointProbeRecord | null): string[] {
  if (last === undefined) return [];
  return [
    `It is ${probeSentence(last)}.`,
    ...(best === null ? [] : [`The best probe, at step ${best.step}, is registered too: ${probeSentence(best)}.`]),
  ];
}

/** Of this attempt. */
function describeProbeCost(probe: RunProbe | undefined, elapsedSeconds: number): string[] {
  if (probe === undefined) return [];
  return [`The probe took ${Math.round(probe.durationMs() / 10 / elapsedSeconds)} % of the time.`];
}

/** The plan is frozen first, so that an attempt that dies here continues with the same plan. */
async function changePlan(
  context: TaskContext,
  config: PretrainingConfig,
  trainer: Trainer,
): Promise<PretrainingConfig> {
  await context.registry.freezeConfig({ config });
  await context.progress(trainer.stepIndex / config.steps, config.explanation.at(-1));
  if (trainer.stepIndex < config.steps) trainer.replan(config.steps);
  return config;
}

const SPEED_LAPS = 10;

/**
 * Images per second over the last steps. The first interval is left out, because it contains one-off costs of
 * TensorFlow.
 */
function createSpeedometer(batchSize: number) {
  /** When the last steps ended, the oldest first. */
  const endsMs: number[] = [];
  return {
    lap: (): number | undefined => {
      const nowMs = performance.now();
      endsMs.push(nowMs);
      // A run takes millions of steps, so times that are no longer needed are removed.
      if (endsMs.length > SPEED_LAPS + 1) endsMs.shift();
      const [firstMs = nowMs] = endsMs;
      return endsMs.length < 2 ? undefined : (1000 * batchSize * (endsMs.length - 1)) / (nowMs - firstMs);
    },
  };
}

async function keepState(
  context: TaskContext,
  config: PretrainingConfig,
  trainer: Trainer,
  probe: CheckpointProbeRecord | null,
): Promise<void> {
  await context.flush();
  const bytes = writeSafetensors(trainer.saveState(), {
    format: STATE_FORMAT,
    step: String(trainer.stepIndex),
    seed: String(config.seed),
  });
  const stored = await context.artifacts.put(bytes);
  await context.keepTrainingState({ step: trainer.stepIndex, sha256: stored.sha256, probe }, stored);
}

async function resumeFromLastState(context: TaskContext, config: PretrainingConfig, trainer: Trainer): Promise<void> {
  const state = await context.registry.latestTrainingState({});
  if (state === null) return;
  trainer.restoreState(readSafetensors(await context.artifacts.read(state.sha256)).tensors);
  await context.progress(state.step / config.steps, `Continues from step ${state.step}.`);
}

async function loadInitialWeights(
  context: TaskContext,
  config: Pick<PretrainingConfig, 'initialCheckpointId'>,
): Promise<readonly NamedTensor[] | undefined> {
  if (config.initialCheckpointId === null) return undefined;
  const checkpoint = await context.registry.checkpoint({ id: config.initialCheckpointId });
  return encoderWeights(await context.artifacts.read(checkpoint.sha256));
}

/** `steps: 0`: the untrained encoder, the control that every comparison needs. */
async function registerUntrained(
  context: TaskContext,
  config: PretrainingConfig,
  initialWeights: readonly NamedTensor[] | undefined,
): Promise<TaskResult> {
  const architecture = architectureNamed(config.encoder);
  const encoder = openTrainableEncoder(
    architecture,
    initialWeights ?? untrainedWeights(architecture, createRandom(config.seed).fork('weights').fork('encoder')),
    inputContractOf(config).pooling,
  );
  try {
    const untrained = await storeEncoder(context, config, { weights: encoder.weights(), step: 0, probe: null });
    return {
      message: registeredSentence(config, untrained),
      outcome: { kind: 'PRETRAINING', encoders: [untrained] },
    };
  } finally {
    encoder.dispose();
  }
}

/** The encoder after a step. */
interface EncoderOfStep {
  readonly weights: readonly NamedTensor[];
  readonly step: number;
  readonly probe: CheckpointProbeRecord | null;
}

/** Stores the encoder's weights and computes its golden embedding. */
async function storeEncoder(
  context: TaskContext,
  config: PretrainingConfig,
  { weights, step, probe }: EncoderOfStep,
): Promise<TrainedEncoder> {
  const inputContract = inputContractOf(config);
  const architecture = architectureNamed(config.encoder);
  const stored = await context.artifacts.put(encoderFileOf(architecture, weights, inputContract));
  // The weights are read back from the store and loaded, so that only weights that are proven to load are registered.
  const { tensors } = readSafetensors(await context.artifacts.read(stored.sha256));
  const golden = measuredGolden(architecture, tensors, inputContract);
  return { step, probe, weights: stored, tensorDigest: tensorDigestOf(tensors), golden };
}

/** As the export of a checkpoint measures it, so that it is the same whoever measures it. */
function measuredGolden(
  architecture: Architecture,
  tensors: readonly NamedTensor[],
  inputContract: InputContract,
): GoldenRecord {
  const encoder = openEncoder(architecture, tensors, inputContract.pooling);
  let golden: GoldenRecord;
  try {
    golden = goldenOf(encoder, inputContract);
  } finally {
    encoder.dispose();
  }
  return { ...golden, rounding: weightsRounding(architecture, tensors, inputContract, golden) };
}

function registeredSentence({ encoder }: PretrainingConfig, { step }: TrainedEncoder): string {
  return `Registered ${encoder} after ${step} steps.`;
}
