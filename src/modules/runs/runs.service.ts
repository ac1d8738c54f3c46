/** Launching, monitoring, cancelling and resuming runs. */
import { randomInt } from 'node:crypto';
import { DomainError } from '../../errors.ts';
import { describeEncoder } from '../../formats/encoders/index.ts';
import { digestOfInput, isId, parseInput } from '../../input.ts';
import { RUN_JOBS } from '../../jobs/index.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import { resolveImportFile, resolveImportPath } from '../../platform/import-roots.ts';
import type { Page, PageArguments } from '../../platform/page.ts';
import type { Queue } from '../../platform/queue.ts';
import type { RunKind } from '../../generated/prisma/enums.ts';
import { authorise, personOf, type Viewer } from '../access/index.ts';
import type { DatasetService, SealedVersionRecord } from '../datasets/index.ts';
import type { ModelService } from '../models/index.ts';
import { checkImportChoice, slideOptionsOf, importDatasetVersionSchema, titleOfImport } from './imports.rules.ts';
import {
  CANCELING_LEASE_SECONDS,
  isTerminal,
  metricWindowOf,
  requirementsOf,
  type MetricWindow,
  type Nullish,
} from './runs.rules.ts';
import {
  checkPretrainingChoice,
  launchPretrainingSchema,
  type LaunchPretrainingInput,
} from './pretraining-input.rules.ts';
import { freezePretraining } from './pretraining.rules.ts';
import { isProbeable, checkProbeVersion, checkRegisterSteps, freezeMonitoring } from './monitoring.rules.ts';
import type { MetricSeriesRecord, RunEventRecord, RunRecord } from './runs.records.ts';
import type { RunQueueStore } from './runs.queue.store.ts';
import type { RunFilter, RunStore } from './runs.store.ts';
import type { RunTelemetryStore } from './runs.telemetry.store.ts';
import { importConfigSchema } from '../../protocol/import.ts';
import { titleOfPretraining } from '../../protocol/pretraining/config.ts';
import { NO_REQUIREMENTS, type RunRequirements } from '../../protocol/requirements.ts';
import type { MonitoringConfig } from '../../protocol/pretraining/monitoring.ts';

export interface RunService {
  get(viewer: Viewer, id: string): Promise<RunRecord | undefined>;
  list(viewer: Viewer, page: PageArguments, filter: RunFilter): Promise<Page<RunRecord>>;
  /** A run of kind IMPORT. Throws the DomainErrors of bad input, IMPORT_PATH_* among them. */
  launchImport(viewer: Viewer, input: unknown): Promise<RunRecord>;
  launchPretraining(viewer: Viewer, input: unknown): Promise<RunRecord>;
  /**
   * Creates the row and its queue message in one transaction, or in the caller's; for other modules that launch kinds
   * of their own.
   */
  enqueue(launch: RunLaunch, tx?: Transaction): Promise<RunRecord>;
  /**
   * QUEUED becomes CANCELED, RUNNING becomes CANCELING; repeating it changes nothing. Throws RUN_NOT_CANCELABLE for a
   * run that has FAILED or SUCCEEDED.
   */
  cancel(viewer: Viewer, id: string): Promise<RunRecord>;
  /**
   * Requeues a FAILED or CANCELED run, which continues from its last checkpoint; a queued or running one is not
   * changed. Throws RUN_NOT_FOUND and RUN_NOT_RESUMABLE.
   */
  resume(viewer: Viewer, id: string): Promise<RunRecord>;
  /**
   * @param names null means every series.
   * @param window the requested part; by default the whole of each series, thinned to METRIC_POINTS_DEFAULT points.
   * @throws DomainError BAD_INPUT for a window out of range.
   */
  metrics(
    viewer: Viewer,
    runId: string,
    names: readonly string[] | null,
    window?: Nullish<MetricWindow>,
  ): Promise<MetricSeriesRecord[]>;
  eventsAfter(viewer: Viewer, runId: string, sequence: number): Promise<RunEventRecord[]>;
  /** Folders below which a path may be imported. */
  importRoots(viewer: Viewer): readonly string[];
  /** The folder from which an import read, as it was given; null for any other run, and for one that is gone. */
  folderOfImport(runId: string): Promise<string | null>;
  queuePosition(run: RunRecord): Promise<number | null>;
  countByStatus(): Promise<Record<string, number>>;
  /** For the server's own monitoring: the work that would be lost if all workers died now. */
  unfinishedWork(): Promise<{ readonly runCount: number; readonly unkeptStepCount: number }>;
}

export interface RunLaunch {
  readonly kind: RunKind;
  /** A one-line title: the inputs and the output. */
  readonly title: string;
  readonly config: object;
  readonly idempotencyKey: string | null;
  /** The launcher: the queue rotates among people. Left out for runs that the program launches itself. */
  readonly viewer?: Viewer;
  readonly maxDurationSeconds?: number | null;
  /** What its worker must have; default: nothing. */
  readonly requirements?: RunRequirements;
  /** The original input, to distinguish a repeated request from a different one. */
  readonly input: object;
}

export interface RunServiceParts {
  readonly store: RunStore;
  readonly queueStore: RunQueueStore;
  readonly telemetry: RunTelemetryStore;
  readonly transact: Transact;
  readonly queue: Queue;
  readonly datasets: DatasetService;
  readonly models: ModelService;
  readonly importRoots: readonly string[];
}

const EVENTS_AT_ONCE = 500;

export function createRunService(parts: RunServiceParts): RunService {
  const { store, queueStore, telemetry, transact, queue } = parts;

  const create = async (tx: Transaction, launch: RunLaunch): Promise<RunRecord> => {
    const inputDigest = digestOfInput(launch.input);
    if (launch.idempotencyKey !== null) {
      const earlier = await store.findByIdempotencyKey(tx, launch.idempotencyKey);
      if (earlier !== undefined) return sameInputOrThrow(earlier, launch.kind, inputDigest);
    }
    const { kind, title, config, idempotencyKey, maxDurationSeconds = null } = launch;
    const requirements = launch.requirements ?? NO_REQUIREMENTS;
    const launchedBy = launch.viewer === undefined ? null : personOf(launch.viewer);
    const turn = await queueStore.nextTurn(tx, kind, launchedBy);
    const run = await store.create(tx, {
      kind,
      title,
      config,
      idempotencyKey,
      inputDigest,
      launchedBy,
      maxDurationSeconds,
      requirements,
      turn,
    });
    await telemetry.appendEvent(tx, run.id, { kind: 'QUEUED', status: 'QUEUED' });
    await queue.send(tx, RUN_JOBS[launch.kind], { runId: run.id });
    return run;
  };

  const findOrThrow = async (tx: Transaction, id: string): Promise<RunRecord> => {
    const run = isId(id) ? await store.lock(tx, id) : undefined;
    if (run === undefined)
      throw new DomainError({
        code: 'RUN_NOT_FOUND',
        message: 'No run has this id.',
        field: 'id',
        hint: 'List the runs with the query `runs`.',
      });
    return run;
  };

  const service: RunService = {
    get: async (viewer, id) => {
      authorise(viewer, 'READER');
      return isId(id) ? store.find(id) : undefined;
    },
    list: (viewer, page, filter) => {
      authorise(viewer, 'READER');
      return store.list(page, filter);
    },
    folderOfImport: async (runId) => {
      const run = await store.find(runId);
      return run?.kind === 'IMPORT' ? importConfigSchema.parse(run.config).path : null;
    },
    enqueue: async (launch, tx) => {
      if (tx !== undefined) return create(tx, launch);
      try {
        return await transact((own) => create(own, launch));
      } catch (error) {
        // If two concurrent requests have the same new key, the second one finds the first one's run.
        if (launch.idempotencyKey === null || error instanceof DomainError) throw error;
        return transact(async (own) => {
          const earlier = await store.findByIdempotencyKey(own, launch.idempotencyKey ?? '');
          if (earlier === undefined) throw error;
          return sameInputOrThrow(earlier, launch.kind, digestOfInput(launch.input));
        });
      }
    },
    launchImport: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const input = parseInput(importDatasetVersionSchema, raw);
      checkImportChoice(input);
      const dataset = await parts.datasets.get(viewer, { id: input.datasetId });
      if (dataset === undefined)
        throw new DomainError({
          code: 'DATASET_NOT_FOUND',
          message: 'No dataset has this id.',
          field: 'input.datasetId',
          hint: 'Find the id with the query `datasets`, or create a dataset with createDataset.',
        });
      const path = await resolveImportPath(input.path, parts.importRoots, 'input.path');
      const labelsCsvPath =
        typeof input.labelsCsvPath === 'string'
          ? await resolveImportFile(input.labelsCsvPath, parts.importRoots, 'input.labelsCsvPath')
          : null;
      const annotationsPath = input.slides?.annotations?.path;
      const config = {
        datasetId: dataset.id,
        path,
        layout: input.layout,
        labelsCsvPath,
        csvColumns: input.csvColumns ?? {},
        labelLevel: input.labelLevel ?? null,
        groupLevel: input.groupLevel ?? null,
        slides: slideOptionsOf(
          input,
          annotationsPath == null
            ? null
            : await resolveImportPath(annotationsPath, parts.importRoots, 'input.slides.annotations.path'),
        ),
        patchSizePx: input.patchSizePx ?? null,
        sampleBits: input.sampleBits ?? null,
        keepConflicts: input.keepConflicts ?? false,
        accept: input.accept ?? [],
        dryRun: input.dryRun ?? false,
        importRoots: parts.importRoots,
      };
      return service.enqueue({
        kind: 'IMPORT',
        title: titleOfImport(dataset.slug, path, config.dryRun),
        config,
        idempotencyKey: input.idempotencyKey ?? null,
        viewer,
        maxDurationSeconds: input.maxDurationSeconds ?? null,
        input,
      });
    },
    launchPretraining: async (viewer, raw) => {
      authorise(viewer, 'OPERATOR');
      const input = parseInput(launchPretrainingSchema, raw);
      checkPretrainingChoice(input);
      const ids = input.datasets.map((dataset) => dataset.datasetVersionId);
      const versions = await parts.datasets.requireSealedVersions(
        ids,
        (index) => `input.datasets.${index}.datasetVersionId`,
      );
      if (typeof input.initialCheckpointId === 'string')
        await requireSameEncoder(parts.models, input.initialCheckpointId, input.encoder);
      const config = freezePretraining(
        input,
        versions.map(({ id, digest, imageCount }) => ({ id, digest, imageCount })),
        randomInt(2 ** 31 - 1),
        await monitoringOf(parts.datasets, input, versions),
      );
      if (config.steps !== null) checkRegisterSteps(config, config.steps);
      const title = titleOfPretraining(config, await parts.datasets.namesOf(versions));
      return service.enqueue({
        kind: 'PRETRAINING',
        title,
        config,
        idempotencyKey: input.idempotencyKey ?? null,
        viewer,
        maxDurationSeconds: input.maxDurationSeconds ?? null,
        requirements: requirementsOf(input.requirements, { bfloat16: config.precision === 'BFLOAT16' }),
        input,
      });
    },
    cancel: async (viewer, id) => {
      authorise(viewer, 'CONTRIBUTOR');
      return transact(async (tx) => {
        const run = await findOrThrow(tx, id);
        switch (run.status) {
          case 'QUEUED':
            await store.setStatus(tx, run.id, 'CANCELED', null);
            await telemetry.appendEvent(tx, run.id, {
              kind: 'CANCELED',
              status: 'CANCELED',
              message: 'Cancelled before it began.',
            });
            break;
          case 'RUNNING':
            await store.setStatus(tx, run.id, 'CANCELING', null);
            await queueStore.shortenLease(tx, run.id, CANCELING_LEASE_SECONDS);
            await telemetry.appendEvent(tx, run.id, { kind: 'CANCELING', status: 'CANCELING' });
            break;
          case 'CANCELING':
          case 'CANCELED':
            break;
          default:
            throw new DomainError({
              code: 'RUN_NOT_CANCELABLE',
              message: `The run has already ${run.status === 'FAILED' ? 'failed' : 'succeeded'}.`,
              field: 'id',
              hint: 'A run that has ended cannot be cancelled.',
            });
        }
        return (await store.find(run.id, tx)) ?? run;
      });
    },
    resume: async (viewer, id) => {
      // Resuming needs the permission to launch, because it occupies the machine in the same way.
      authorise(viewer, 'OPERATOR');
      return transact(async (tx) => {
        const run = await findOrThrow(tx, id);
        if (run.status === 'CANCELING') {
          throw new DomainError({
            code: 'RUN_NOT_RESUMABLE',
            message: 'The run is still being cancelled.',
            field: 'id',
            hint: 'Wait until it is CANCELED.',
            retryable: true,
          });
        }
        if (!isTerminal(run.status)) return run;
        if (run.status === 'SUCCEEDED') {
          throw new DomainError({
            code: 'RUN_NOT_RESUMABLE',
            message: 'The run has succeeded and cannot be resumed.',
            field: 'id',
            hint: 'Launch a new one with initialCheckpointId to train further.',
          });
        }
        if (run.kind !== 'PRETRAINING') {
          throw new DomainError({
            code: 'RUN_NOT_RESUMABLE',
            message: `Only a pretraining can be resumed; this is an ${run.kind.toLowerCase()}.`,
            field: 'id',
            hint: 'Launch the run again.',
          });
        }
        await store.setStatus(tx, run.id, 'QUEUED', null);
        await queueStore.requeueNow(tx, run.id, await queueStore.nextTurn(tx, run.kind, run.launchedBy));
        await telemetry.appendEvent(tx, run.id, { kind: 'REQUEUED', status: 'QUEUED', message: 'Resumed.' });
        await queue.send(tx, RUN_JOBS[run.kind], { runId: run.id });
        return (await store.find(run.id, tx)) ?? run;
      });
    },
    metrics: (viewer, runId, names, window = {}) => {
      authorise(viewer, 'READER');
      return telemetry.metrics(runId, names, metricWindowOf(window));
    },
    eventsAfter: async (viewer, runId, sequence) => {
      authorise(viewer, 'READER');
      return telemetry.eventsAfter(runId, sequence, EVENTS_AT_ONCE);
    },
    importRoots: (viewer) => {
      authorise(viewer, 'CONTRIBUTOR');
      return parts.importRoots;
    },
    queuePosition: async (run) =>
      run.status === 'QUEUED' ? ((await queueStore.queuePositions([run.id])).get(run.id) ?? null) : null,
    countByStatus: () => store.countByStatus(),
    unfinishedWork: () => store.unfinishedWork(),
  };
  return service;
}

function sameInputOrThrow(earlier: RunRecord, kind: RunKind, inputDigest: string): RunRecord {
  if (earlier.kind === kind && earlier.inputDigest === inputDigest) return earlier;
  throw new DomainError({
    code: 'IDEMPOTENCY_KEY_REUSED',
    message: 'The idempotencyKey was already used with another input.',
    field: 'input.idempotencyKey',
    hint: `Use a new key; the old one belongs to run ${earlier.id}.`,
  });
}

/**
 * Chooses the version to probe on: the one that the input names, else the first labelled version of the training, else
 * the latest labelled version of one of its datasets.
 */
async function monitoringOf(
  datasets: DatasetService,
  input: LaunchPretrainingInput,
  trainingVersions: readonly SealedVersionRecord[],
): Promise<MonitoringConfig> {
  // A run without training steps has no probe.
  if (input.steps === 0) return freezeMonitoring({ ...input, probe: { enabled: false } }, null);
  const wanted = input.probe?.datasetVersionId;
  const version =
    wanted == null
      ? input.probe?.enabled === false
        ? undefined
        : (trainingVersions.find(isProbeable) ??
          (await datasets.labelledVersionsOf(trainingVersions.map(({ datasetId }) => datasetId))).find(isProbeable))
      : (await datasets.requireSealedVersions([wanted], () => 'input.probe.datasetVersionId'))[0];
  if (version === undefined) return freezeMonitoring(input, null);
  if (wanted != null) checkProbeVersion(version);
  const [name = ''] = await datasets.namesOf([version]);
  return freezeMonitoring(input, { id: version.id, digest: version.digest, labelCounts: version.labelCounts, name });
}

async function requireSameEncoder(models: ModelService, checkpointId: string, encoder: string): Promise<void> {
  const field = 'input.initialCheckpointId';
  const checkpoint = await models.checkpointForUse(checkpointId, field);
  if (checkpoint.encoder === encoder) return;
  throw new DomainError({
    code: 'CHECKPOINT_INCOMPATIBLE',
    message: `The checkpoint is a ${describeEncoder(checkpoint.architecture).name}, but the run needs a ${encoder}.`,
    field,
    hint:
      checkpoint.encoder === 'OTHER'
        ? "Choose a checkpoint of torchvision's ResNet-18, 34, 50 or 101, or of timm's ViT-Ti, S or B with patches of 16 px."
        : `Set encoder to ${checkpoint.encoder}.`,
  });
}
