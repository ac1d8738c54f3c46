/**
 * The calls that a run's process may make to the registry, by name: the schema of what goes in and of what comes out.
 * Reads are of what a run needs; every write may be repeated, because an answer can be lost on its way, and is refused
 * with LEASE_LOST once another worker holds the run.
 */
import { z } from 'zod';
import { sha256Schema } from './artifacts.ts';
import {
  pretrainingDataSchema,
  trainedEncoderSchema,
  trainingStateSchema,
  usableCheckpointSchema,
} from './checkpoint.ts';
import { datasetLineageSchema, previousVersionSchema, sealedVersionSchema } from './dataset-version.ts';
import {
  embeddingBlockSchema,
  embeddingKeySchema,
  embeddingSetSchema,
  engineFactsSchema,
  newEmbeddingBlockSchema,
  newEmbeddingSetSchema,
} from './embeddings.ts';
import { importBlockSchema, importReportSchema, newImportBlockSchema } from './import.ts';
import { runOutcomeSchema } from './outcome.ts';
import { PARTS_MAX, partStateSchema, plannedPartSchema } from './part-calls.ts';
import { frozenPretrainingSchema } from './pretraining/config.ts';
import { numberedReportSchema, RUN_STATUSES, runFailureSchema } from './runs.ts';

const IDS_MAX = 1000;
const ids = z.array(z.uuid()).max(IDS_MAX).readonly();
const done = z.null();
const message = z.string().max(10_000);

export const RUN_CALLS = {
  /** Sealed versions in the order of their ids. Throws DATASET_VERSION_NOT_FOUND and DATASET_VERSION_NOT_SEALED. */
  sealedVersions: { input: z.strictObject({ ids }), output: z.array(sealedVersionSchema) },
  /** The dataset's latest sealed version, or null. */
  latestVersion: { input: z.strictObject({ datasetId: z.uuid() }), output: previousVersionSchema.nullable() },
  /** The collections that each of the datasets was cut from. */
  lineages: { input: z.strictObject({ datasetIds: ids }), output: z.array(datasetLineageSchema) },
  /** Throws CHECKPOINT_NOT_FOUND, and CHECKPOINT_NOT_DOWNLOADABLE for one whose weights are not stored. */
  checkpoint: { input: z.strictObject({ id: z.string() }), output: usableCheckpointSchema },
  /** The known training data of a checkpoint. */
  pretrainingData: { input: z.strictObject({ checkpointId: z.uuid() }), output: pretrainingDataSchema },
  /** A set that some run has already computed, or null. */
  embeddingSet: { input: z.strictObject({ key: embeddingKeySchema }), output: embeddingSetSchema.nullable() },
  /** The blocks of a set that this run has stored with the same engine, from the first one on without a gap. */
  embeddingBlocks: {
    input: z.strictObject({ key: embeddingKeySchema, engine: engineFactsSchema }),
    output: z.array(embeddingBlockSchema),
  },
  /** The state that this run continues from, or null; and the one that its probe found best. */
  latestTrainingState: { input: z.strictObject({}), output: trainingStateSchema.nullable() },
  bestTrainingState: { input: z.strictObject({}), output: trainingStateSchema.nullable() },

  /** The blocks that earlier attempts of this import have kept, in the order of their positions. */
  importBlocks: { input: z.strictObject({}), output: z.array(importBlockSchema) },

  /**
   * Renews the lease for LEASE_SECONDS, or for a shorter time if the run is CANCELING. A lease that lapsed while the
   * worker could not be heard is taken up again, unless another worker has the run.
   * `busySeconds`: running time over all attempts, which is that of the claim and the time since. A total can be sent
   * twice: an answer that was lost costs the run none of its `maxDurationSeconds`.
   */
  renew: {
    input: z.strictObject({ busySeconds: z.number().min(0) }),
    output: z.object({ status: z.enum(RUN_STATUSES), busySeconds: z.number() }),
  },

  /** Engine, device and versions of this attempt. */
  setEnvironment: { input: z.strictObject({ environment: engineFactsSchema }), output: done },
  /**
   * Completes or changes the plan of a pretraining, which depends on the device; every later attempt uses it. Throws
   * BAD_INPUT for a config that changes what the launch decided, such as the model or the datasets.
   */
  freezeConfig: { input: z.strictObject({ config: frozenPretrainingSchema }), output: done },
  /** The findings of an import, stored before the run ends, even if the import is then refused. */
  setImportReport: { input: z.strictObject({ report: importReportSchema }), output: done },
  /**
   * Progress, and the metrics of one or several steps, as one event. A report is accepted once: one with a number that
   * was accepted before changes nothing. Throws REPORT_OUT_OF_ORDER if the report before it has not arrived.
   */
  report: { input: numberedReportSchema, output: done },
  /** Everything needed to continue from a step; the artifact was stored before. */
  keepTrainingState: {
    input: z.strictObject({ state: trainingStateSchema, byteSize: z.number().int().min(0) }),
    output: done,
  },
  /** A block of an import, behind which the next attempt continues; it replaces that at its position and all after. */
  keepImportBlock: { input: z.strictObject({ block: newImportBlockSchema }), output: done },
  /**
   * The parts of an import that other workers may read from now on; it replaces those of before. What a part with the
   * same plan has given stays, and so does the lease of its worker.
   */
  planParts: {
    input: z.strictObject({ parts: z.array(plannedPartSchema).max(PARTS_MAX).readonly() }),
    output: done,
  },
  /** Takes a part for this worker if nobody has it, or if the lease of who has it has lapsed. Throws NOT_FOUND. */
  takePart: { input: z.strictObject({ number: plannedPartSchema.shape.number }), output: partStateSchema },
  /** Registers the encoder of a step while the run goes on. */
  registerEncoder: { input: z.strictObject({ encoder: trainedEncoderSchema }), output: done },
  /** The same block of several sets. */
  keepEmbeddingBlocks: { input: z.strictObject({ blocks: z.array(newEmbeddingBlockSchema).readonly() }), output: done },
  /** A finished set, whose blocks are no longer needed; if another run registered it first, that set is kept. */
  registerEmbeddingSet: { input: z.strictObject({ set: newEmbeddingSetSchema }), output: done },
  /** The bytes of an artifact do not match its digest: the registry verifies them again and sets them aside. */
  reportDamage: { input: z.strictObject({ sha256: sha256Schema }), output: done },

  /**
   * Ends the run: its outcome is registered in the transaction that marks it SUCCEEDED, so that both happen or neither.
   * A run that was cancelled meanwhile becomes CANCELED, and nothing is registered.
   * Throws OUTCOME_INVALID for an outcome that does not fit the run, ARTIFACT_NOT_FOUND for one whose artifacts are not
   * stored.
   */
  succeed: { input: z.strictObject({ outcome: runOutcomeSchema, message }), output: done },
  /** The attempt failed: the run is queued again if another attempt may succeed, and otherwise FAILED. */
  fail: { input: z.strictObject({ failure: runFailureSchema }), output: done },
  /** The worker has freed the resources of a cancelled run. */
  cancel: { input: z.strictObject({}), output: done },
  /** The worker stops: the run is queued again. */
  release: { input: z.strictObject({ message }), output: done },
} as const satisfies Readonly<Record<string, { readonly input: z.ZodType; readonly output: z.ZodType }>>;

export type RunCallName = keyof typeof RUN_CALLS;

export function isRunCall(name: string): name is RunCallName {
  return Object.hasOwn(RUN_CALLS, name);
}

/**
 * The registry as a run's process sees it, whichever way the calls take.
 * @throws DomainError of the call, LEASE_LOST among them.
 */
export type RunRegistry = {
  readonly [Name in RunCallName]: (
    input: z.input<(typeof RUN_CALLS)[Name]['input']>,
  ) => Promise<z.output<(typeof RUN_CALLS)[Name]['output']>>;
};

/**
 * @param send carries a call to the registry and returns its answer, or throws the DomainError of the call.
 */
export function registryOver(send: (name: RunCallName, input: unknown) => Promise<unknown>): RunRegistry {
  const call =
    <In extends z.ZodType, Out extends z.ZodType>(
      name: RunCallName,
      { output }: { readonly input: In; readonly output: Out },
    ): ((input: z.input<In>) => Promise<z.output<Out>>) =>
    async (input) =>
      output.parse(await send(name, input));
  return {
    sealedVersions: call('sealedVersions', RUN_CALLS.sealedVersions),
    latestVersion: call('latestVersion', RUN_CALLS.latestVersion),
    lineages: call('lineages', RUN_CALLS.lineages),
    checkpoint: call('checkpoint', RUN_CALLS.checkpoint),
    pretrainingData: call('pretrainingData', RUN_CALLS.pretrainingData),
    embeddingSet: call('embeddingSet', RUN_CALLS.embeddingSet),
    embeddingBlocks: call('embeddingBlocks', RUN_CALLS.embeddingBlocks),
    latestTrainingState: call('latestTrainingState', RUN_CALLS.latestTrainingState),
    bestTrainingState: call('bestTrainingState', RUN_CALLS.bestTrainingState),
    importBlocks: call('importBlocks', RUN_CALLS.importBlocks),
    keepImportBlock: call('keepImportBlock', RUN_CALLS.keepImportBlock),
    planParts: call('planParts', RUN_CALLS.planParts),
    takePart: call('takePart', RUN_CALLS.takePart),
    renew: call('renew', RUN_CALLS.renew),
    setEnvironment: call('setEnvironment', RUN_CALLS.setEnvironment),
    freezeConfig: call('freezeConfig', RUN_CALLS.freezeConfig),
    setImportReport: call('setImportReport', RUN_CALLS.setImportReport),
    report: call('report', RUN_CALLS.report),
    keepTrainingState: call('keepTrainingState', RUN_CALLS.keepTrainingState),
    registerEncoder: call('registerEncoder', RUN_CALLS.registerEncoder),
    keepEmbeddingBlocks: call('keepEmbeddingBlocks', RUN_CALLS.keepEmbeddingBlocks),
    registerEmbeddingSet: call('registerEmbeddingSet', RUN_CALLS.registerEmbeddingSet),
    reportDamage: call('reportDamage', RUN_CALLS.reportDamage),
    succeed: call('succeed', RUN_CALLS.succeed),
    fail: call('fail', RUN_CALLS.fail),
    cancel: call('cancel', RUN_CALLS.cancel),
    release: call('release', RUN_CALLS.release),
  };
}
