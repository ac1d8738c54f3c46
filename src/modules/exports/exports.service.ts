/** Files of weights for other frameworks: launches their export runs, and serves files that a worker has verified. */
import { DomainError, UnreachableCaseError } from '../../errors.ts';
import { parseInput } from '../../input.ts';
import type { ExportFormat } from '../../generated/prisma/enums.ts';
import type { Announcements } from '../../platform/announcements.ts';
import { createNotifier } from '../../platform/notifier.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import type { ModelService, UsableCheckpointRecord, WeightsFileRecord, WeightsFormat } from '../models/index.ts';
import type { RunLaunch, RunRecord, RunService } from '../runs/index.ts';
import type { ExportRecord, NewExports } from './exports.records.ts';
import { exportCheckpointSchema, mediaTypeOf, servable, titleOfExport } from './exports.rules.ts';
import type { ExportStore } from './exports.store.ts';
import type { ExportConfig } from '../../protocol/export.ts';

export interface ExportService {
  /**
   * Launches a run of kind EXPORT that makes and checks these formats again, whatever their earlier results; without
   * formats it only measures the golden embedding. Returns an active run instead if one already makes all of them.
   * Throws BAD_INPUT, CHECKPOINT_NOT_FOUND or CHECKPOINT_NOT_DOWNLOADABLE.
   */
  launch(viewer: Viewer, input: unknown): Promise<RunRecord>;
  /**
   * A file that has passed its check. If it does not exist, it is made first, by one run for all waiting requests.
   * Throws CHECKPOINT_NOT_FOUND, CHECKPOINT_NOT_DOWNLOADABLE, EXPORT_CHECK_FAILED; EXPORT_FAILED if the run failed; and
   * EXPORT_PENDING, ENGINE_MISSING or WORKER_MISSING, each with a time to retry.
   * @param clientGone aborted when the client has disconnected.
   * @param onWait called before waiting for the file, so that the wait is not measured as database time.
   */
  weightsFile(
    viewer: Viewer,
    checkpointId: string,
    format: WeightsFormat,
    clientGone: AbortSignal,
    onWait: () => void,
  ): Promise<WeightsFileRecord>;
  /**
   * For imports, in the transaction that registers the weights: queues a run that measures the checkpoint's golden
   * embedding, unless it has one or such a run exists. Throws CHECKPOINT_NOT_FOUND or
   * CHECKPOINT_NOT_DOWNLOADABLE.
   */
  queueGolden(tx: Transaction, checkpointId: string): Promise<void>;
}

export interface ExportServiceParts {
  readonly store: ExportStore;
  readonly transact: Transact;
  readonly runs: RunService;
  readonly models: ModelService;
  /** Notifies of each event of a run. */
  readonly announcements: Pick<Announcements, 'subscribe'>;
  /** What to do if TensorFlow is missing; null if it is installed. */
  readonly engineHint: () => string | null;
  readonly patience?: Partial<ExportPatience>;
}

/** How long a download waits, in ms. */
export interface ExportPatience {
  /** The wait for the file: shorter than usual timeouts of clients and proxies. */
  readonly fileMs: number;
  /** The wait for a worker to claim the run, if no worker is busy with another export. */
  readonly workerMs: number;
}

const PATIENCE: ExportPatience = { fileMs: 100_000, workerMs: 20_000 };
const RETRY_AFTER_SECONDS = 15;
/** Limit of concurrently waiting downloads; each holds a connection. */
const MAX_WAITING = 64;
/**
 * Downloads start no further export run while this many are queued or running. Runs that users launched count, too, but
 * are not refused.
 */
const MAX_LIVE_RUNS = 100;
/** The polling interval: a lost notification delays the answer by at most this long. */
const POLL_EVERY_MS = 2_000;

export function createExportService({
  store,
  transact,
  runs,
  models,
  announcements,
  engineHint,
  ...parts
}: ExportServiceParts): ExportService {
  const patience = { ...PATIENCE, ...parts.patience };
  let waiting = 0;

  const launchOf = async (
    checkpoint: UsableCheckpointRecord,
    formats: readonly ExportFormat[],
    { idempotencyKey = null, tx }: { readonly idempotencyKey?: string | null; readonly tx?: Transaction },
  ): Promise<RunLaunch> => {
    const config: ExportConfig = {
      checkpointId: checkpoint.id,
      checkpointSha256: checkpoint.sha256,
      formats: [...formats],
    };
    return {
      kind: 'EXPORT',
      title: titleOfExport(await models.nameOf(checkpoint, tx), formats),
      config,
      idempotencyKey,
      input: config,
    };
  };

  const findLiveRun = async (
    tx: Transaction,
    checkpointId: string,
    formats: readonly ExportFormat[],
  ): Promise<string | undefined> =>
    (await store.liveRunsOf(tx, checkpointId)).find(({ config }) =>
      formats.every((format) => config.formats.includes(format)),
    )?.runId;

  /** The id of the run that makes the file. */
  const launchOnce = (checkpoint: UsableCheckpointRecord, format: ExportFormat): Promise<string> =>
    transact(async (tx) => {
      await store.lockCheckpoint(tx, checkpoint.id);
      const liveRun = await findLiveRun(tx, checkpoint.id, [format]);
      if (liveRun !== undefined) return liveRun;
      if ((await store.countLiveRuns(tx)) >= MAX_LIVE_RUNS)
        throw pending(
          'Too many exports wait for a worker.',
          'Try again when some of them are done; runs(filter: { kinds: [EXPORT] }) lists them.',
        );
      return (await runs.enqueue(await launchOf(checkpoint, [format], { tx }), tx)).id;
    });

  /** Resolves when the run has succeeded. Throws the errors that `weightsFile` documents. */
  const waitFor = async (viewer: Viewer, runId: string, clientGone: AbortSignal): Promise<void> => {
    const startedMs = performance.now();
    const notifier = createNotifier();
    const unsubscribe = announcements.subscribe(runId, notifier.notify);
    clientGone.addEventListener('abort', notifier.stop);
    try {
      for (;;) {
        notifier.reset();
        const run = await runs.get(viewer, runId);
        if (run === undefined) throw new Error(`Run ${runId} no longer exists.`);
        const waitedMs = performance.now() - startedMs;
        if (await hasSucceeded(run, waitedMs)) return;
        if (clientGone.aborted || waitedMs >= patience.fileMs)
          throw pending(
            `Run ${run.id} is making this file; it is ${run.status}.`,
            'Try again later, or follow the run.',
          );
        await notifier.wait(Math.min(POLL_EVERY_MS, patience.fileMs - waitedMs));
      }
    } finally {
      unsubscribe();
      clientGone.removeEventListener('abort', notifier.stop);
    }
  };

  const hasSucceeded = async (run: RunRecord, waitedMs: number): Promise<boolean> => {
    switch (run.status) {
      case 'SUCCEEDED':
        return true;
      case 'FAILED':
        throw new DomainError({
          code: 'EXPORT_FAILED',
          message: `The export failed: ${run.failure?.message ?? 'the run failed.'}`,
          hint: `${run.failure?.hint ?? 'See the events of the run.'} The run is ${run.id}.`,
        });
      case 'CANCELING':
      case 'CANCELED':
        throw new DomainError({
          code: 'EXPORT_FAILED',
          message: `Run ${run.id}, which should have made the file, was cancelled.`,
          hint: 'Request the file again, which starts a new run.',
          retryable: true,
        });
      case 'RUNNING':
        return false;
      case 'QUEUED': {
        if (waitedMs < patience.workerMs || (await store.isAnyRunning())) return false;
        const hint = engineHint();
        if (hint !== null)
          throw new DomainError({
            code: 'ENGINE_MISSING',
            message: `The export needs TensorFlow, which is not installed; run ${run.id} waits.`,
            hint,
            retryable: true,
            retryAfterSeconds: RETRY_AFTER_SECONDS,
          });
        throw new DomainError({
          code: 'WORKER_MISSING',
          message: `No worker has started run ${run.id}, which makes the file.`,
          hint: 'Start a worker.',
          retryable: true,
          retryAfterSeconds: RETRY_AFTER_SECONDS,
        });
      }
      default:
        throw new UnreachableCaseError(run.status);
    }
  };

  const ensureExport = async (
    viewer: Viewer,
    checkpoint: UsableCheckpointRecord,
    format: ExportFormat,
    clientGone: AbortSignal,
    onWait: () => void,
  ): Promise<ExportRecord> => {
    const known = await store.find(checkpoint.id, format);
    if (known !== undefined) return known;
    const runId = await launchOnce(checkpoint, format);
    if (waiting >= MAX_WAITING)
      throw pending(
        `Run ${runId} is making this file.`,
        'Many requests wait already. Try again later, or follow the run.',
      );
    waiting += 1;
    onWait();
    await waitFor(viewer, runId, clientGone).finally(() => (waiting -= 1));
    const found = await store.find(checkpoint.id, format);
    if (found === undefined) throw new Error(`Run ${runId} succeeded without ${format}.`);
    return found;
  };

  return {
    launch: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const { checkpointId, formats, idempotencyKey } = parseInput(exportCheckpointSchema, raw);
      const checkpoint = await models.checkpointForUse(checkpointId, 'input.checkpointId');
      if (idempotencyKey != null) return runs.enqueue(await launchOf(checkpoint, formats, { idempotencyKey }));
      return transact(async (tx) => {
        await store.lockCheckpoint(tx, checkpoint.id);
        const liveRun = await findLiveRun(tx, checkpoint.id, formats);
        return (
          (liveRun === undefined ? undefined : await runs.get(viewer, liveRun)) ??
          runs.enqueue(await launchOf(checkpoint, formats, { tx }), tx)
        );
      });
    },
    weightsFile: async (viewer, checkpointId, format, clientGone, onWait) => {
      if (format === 'SAFETENSORS') return models.weightsFile(viewer, checkpointId);
      authorise(viewer, 'READER');
      const checkpoint = await models.checkpointForUse(checkpointId, 'id');
      const { sha256, byteSize } = servable(await ensureExport(viewer, checkpoint, format, clientGone, onWait));
      return {
        sha256,
        byteSize,
        mediaType: mediaTypeOf(format),
        fileName: await models.weightsFileName(checkpoint, format),
      };
    },
    queueGolden: async (tx, checkpointId) => {
      await store.lockCheckpoint(tx, checkpointId);
      if ((await store.hasGolden(tx, checkpointId)) || (await findLiveRun(tx, checkpointId, [])) !== undefined) return;
      await runs.enqueue(
        await launchOf(await models.checkpointForUse(checkpointId, 'checkpointId', tx), [], { tx }),
        tx,
      );
    },
  };
}

export interface ExportRegister {
  /** For the export task, in the transaction that ends its run. Replaces earlier results of these formats. */
  register(tx: Transaction, created: NewExports): Promise<void>;
}

export function createExportRegister(store: ExportStore): ExportRegister {
  return {
    register: async (tx, created) => {
      const files = created.exports.flatMap((each) =>
        each.status === 'AVAILABLE'
          ? [{ sha256: each.sha256, byteSize: each.byteSize, mediaType: mediaTypeOf(each.format) }]
          : [],
      );
      await recordArtifacts(tx, files);
      await store.put(tx, created);
    },
  };
}

function pending(message: string, hint: string): DomainError {
  return new DomainError({
    code: 'EXPORT_PENDING',
    message,
    hint,
    retryable: true,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}
