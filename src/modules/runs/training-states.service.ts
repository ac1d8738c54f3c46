/** Registers kept training states of a pretraining as checkpoints. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { encoderFileOf, encoderTensorsOf } from '../../formats/encoder-file.ts';
import { readSafetensors } from '../../formats/safetensors.ts';
import { tensorDigestOf } from '../../formats/tensor-digest.ts';
import { createTurns } from '../../in-turn.ts';
import { isId, parseInput } from '../../input.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import type { CheckpointRecord, ModelService } from '../models/index.ts';
import { architectureNamed, describeEncoder } from '../../formats/encoders/index.ts';
import type { RunRecord } from './runs.records.ts';
import type { RunStore } from './runs.store.ts';
import type { TrainingStateStore } from './training-states.store.ts';
import { inputContractOf, pretrainingConfigSchema } from '../../protocol/pretraining/config.ts';

export interface TrainingStateService {
  /**
   * Registers the kept state of a run's step as a checkpoint, with the same bytes, lineage and probe as if the run had
   * registered it itself; an export run then measures its golden embedding. A second call returns the existing
   * checkpoint. Throws BAD_INPUT, RUN_NOT_FOUND, TRAINING_STATE_NOT_FOUND, ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT.
   */
  register(viewer: Viewer, input: unknown): Promise<CheckpointRecord>;
}

export interface TrainingStateServiceParts {
  readonly runs: Pick<RunStore, 'find'>;
  readonly trainingStates: TrainingStateStore;
  readonly transact: Transact;
  readonly artifacts: ArtifactStore;
  readonly models: ModelService;
  /** Queues the measurement of the checkpoint's golden embedding, in the transaction that registers it. */
  readonly queueGolden: (tx: Transaction, checkpointId: string) => Promise<void>;
}

const registerSchema = z.strictObject({ runId: z.string(), step: z.number().int() });

export function createTrainingStateService({
  runs,
  trainingStates,
  transact,
  artifacts,
  models,
  queueGolden,
}: TrainingStateServiceParts): TrainingStateService {
  /**
   * States are processed one after another, because each is read whole and is three to four times the size of the
   * encoder.
   */
  const inTurn = createTurns();

  const findRun = async (id: string): Promise<RunRecord> => {
    const run = isId(id) ? await runs.find(id) : undefined;
    if (run !== undefined) return run;
    throw new DomainError({
      code: 'RUN_NOT_FOUND',
      message: 'No run has this id.',
      field: 'input.runId',
      hint: 'List the runs with the query `runs`.',
    });
  };

  return {
    register: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const { runId, step } = parseInput(registerSchema, raw);
      const run = await findRun(runId);
      const registered = await models.checkpointOfRun(run.id, step);
      if (registered !== undefined) return registered;
      const states = await trainingStates.keptStates([run.id]);
      const state = states.find((kept) => kept.step === step);
      if (state === undefined)
        throw notKept(
          step,
          states.map((kept) => kept.step),
        );

      const config = pretrainingConfigSchema.parse(run.config);
      const inputContract = inputContractOf(config);
      const architecture = architectureNamed(config.encoder);
      const stored = await inTurn(async () => {
        const { tensors } = readSafetensors(await artifacts.read(state.sha256));
        const encoder = encoderTensorsOf(architecture, tensors);
        const bytes = await artifacts.put(encoderFileOf(architecture, encoder, inputContract));
        return { ...bytes, tensorDigest: tensorDigestOf(encoder) };
      });
      return transact(async (tx) => {
        const checkpoint = await models.registerCheckpoint(tx, {
          modelSlug: config.modelSlug,
          encoder: config.encoder,
          embeddingDim: describeEncoder(architecture).embeddingDim(inputContract.pooling),
          inputContract,
          sourceRunId: run.id,
          step,
          epoch: (config.epochs * step) / config.steps,
          probe: state.probe,
          ...stored,
          golden: null,
          initialCheckpointId: config.initialCheckpointId,
          trainedOnVersionIds: step === 0 ? [] : config.datasets.map((dataset) => dataset.datasetVersionId),
        });
        await queueGolden(tx, checkpoint.id);
        return checkpoint;
      });
    },
  };
}

function notKept(step: number, kept: readonly number[]): DomainError {
  return new DomainError({
    code: 'TRAINING_STATE_NOT_FOUND',
    message: `The state of step ${step} was not kept, or has been removed since.`,
    field: 'input.step',
    hint:
      kept.length === 0
        ? 'This run has no kept states. Launch it again with registerSteps and the same seed to get the same state.'
        : `The kept steps are ${kept.join(', ')}. For another step launch the run again with registerSteps.`,
  });
}
