/** Runs one run in one process, because TensorFlow blocks its thread, and a crash must end only this run. */
import { CancelRequestedError, createLedger, type RunKind, type RunLedger } from '../src/modules/runs/index.ts';
import { createLogger, type Logger } from '../src/logger.ts';
import { openArtifactStore, openLocalFiles } from '../src/platform/artifact-store/index.ts';
import { isDatabaseFault } from '../src/platform/database-fault.ts';
import { openDatabase, transactionsOf, type Persist } from '../src/platform/db.ts';
import { UnreachableCaseError } from '../src/errors.ts';
import { agentMessageSchema, type ChildMessage, type StartMessage, type StopReason } from './child-protocol.ts';
import { untilDatabaseAnswers } from './database-patience.ts';
import { DATABASE_UNREACHABLE, failureOf, TIMED_OUT_RUN } from './failure.ts';
import { folderOf } from './lease-folder.ts';
import { createProgressReporter } from './progress-reporter.ts';
import { createTaskServices, localFileOf } from './task-services.ts';
import { TaskStopped, type StopRequest, type Task, type TaskContext } from './tasks/task.ts';

/** Often enough for an agent that waits for minutes. */
const ALIVE_EVERY_MS = 1_000;
/** Longer than any statement of a task takes. */
const SILENCE_MS = 30_000;

let stop: StopRequest = 'NO';
let started = false;

// No signal is handled here, for the reason given at startChild: the agent asks by message, or kills the process.

// Without an agent nothing renews the lease, so any write would be refused.
process.on('disconnect', () => process.exit(1));
process.on('message', (raw) => {
  const message = agentMessageSchema.parse(raw);
  switch (message.kind) {
    case 'STOP':
      stop = message.reason;
      return;
    case 'START':
      if (started) throw new Error('A child runs one run.');
      started = true;
      execute(message).catch((error: unknown) => {
        // The agent, which holds no tensors, waits for the database and writes the outcome.
        console.error(isDatabaseFault(error) ? new Error(DATABASE_UNREACHABLE, { cause: error }) : error);
        process.exit(1);
      });
      return;
    default:
      throw new UnreachableCaseError(message);
  }
});

function sendToAgent(kind: ChildMessage['kind'], sent: () => void = () => undefined): void {
  const message: ChildMessage = { kind };
  process.send?.(message, sent);
}

let lastAliveMs = Number.NEGATIVE_INFINITY;

function sendAlive(): void {
  if (performance.now() - lastAliveMs < ALIVE_EVERY_MS) return;
  lastAliveMs = performance.now();
  sendToAgent('ALIVE');
}

async function taskFor(kind: RunKind): Promise<Task> {
  // Imported on demand, so that an import never loads TensorFlow.
  switch (kind) {
    case 'IMPORT':
      return (await import('./tasks/import-dataset.ts')).importDatasetTask;
    case 'PRETRAINING':
      return (await import('./tasks/pretrain.ts')).pretrainTask;
    case 'EVALUATION':
      return (await import('./tasks/evaluate.ts')).evaluateTask;
    case 'EXPORT':
      return (await import('./tasks/export.ts')).exportTask;
    default:
      throw new UnreachableCaseError(kind);
  }
}

async function execute(start: StartMessage): Promise<void> {
  const logger = createLogger(start.logLevel, 'run').child({ runId: start.run.id, attempt: start.run.attempt });
  // Everything that a task reads and writes waits for the database, because the memory of this process holds what would
  // be lost with it.
  const persist: Persist = (work) => untilDatabaseAnswers(work, sendAlive);
  const db = openDatabase(start.databaseUrl, { maxConnections: 3, silenceTimeoutMs: SILENCE_MS, persist });
  const transact = transactionsOf(db, persist);
  const ledger = createLedger(db, transact);
  const reporter = createProgressReporter((report) => ledger.report(start.lease, report));
  const isTraining = start.run.kind === 'PRETRAINING';
  let isStateWritten = false;
  const store = openArtifactStore(start.artifacts, folderOf(start.lease));
  const services = createTaskServices({ db, transact, store });
  const files = openLocalFiles({ store, folder: start.cacheDir, maxBytes: start.cacheBytes });
  const context: TaskContext = {
    runId: start.run.id,
    lease: start.lease,
    attempt: start.run.attempt,
    services,
    artifacts: store,
    localFile: localFileOf(files, services),
    logger,
    dataDir: start.dataDir,
    workDir: start.workDir,
    microBatchSize: start.run.microBatchSize,
    stopRequested: () => {
      sendAlive();
      return stop;
    },
    throwIfStopped: () => {
      sendAlive();
      if (stop !== 'NO') throw new TaskStopped(stop);
    },
    progress: async (fraction, message) => {
      sendAlive();
      await reporter.progress(fraction, message);
    },
    recordMetrics: async (fraction, points) => {
      sendAlive();
      if (isTraining) sendToAgent('UNSAVED_PROGRESS');
      await reporter.recordMetrics(fraction, points);
    },
    flush: reporter.flush,
    withLease: async (work) => {
      const result = await ledger.withLease(start.lease, work);
      if (isStateWritten) sendToAgent('STATE_SAVED');
      isStateWritten = false;
      return result;
    },
    keepTrainingState: async (tx, state) => {
      await ledger.keepTrainingState(tx, start.lease, state);
      isStateWritten = true;
    },
    latestTrainingState: () => ledger.latestTrainingState(start.run.id),
    setImportReport: (report) => ledger.setImportReport(start.lease, report),
    keepImportBlock: (block) => ledger.keepImportBlock(start.lease, block),
    importBlocks: () => ledger.importBlocks(start.run.id),
    freezeConfig: (config) => ledger.freezeConfig(start.lease, config),
    bestTrainingState: () => ledger.bestTrainingState(start.run.id),
    setEnvironment: (environment) =>
      ledger.setEnvironment(start.lease, { ...environment, codeRevision: start.codeRevision, node: process.version }),
  };
  try {
    const task = await taskFor(start.run.kind);
    const result = await task.run(context, start.run.config);
    await reporter.flush();
    await ledger.withLease(start.lease, async (tx) => {
      await result.finish(tx);
      await ledger.succeed(tx, start.lease, result.message);
    });
  } catch (error) {
    await settleFailure(ledger, start, error, logger);
  } finally {
    await db.$disconnect();
  }
  sendToAgent('SETTLED', () => process.exit(0));
}

async function settleFailure(ledger: RunLedger, start: StartMessage, error: unknown, logger: Logger): Promise<void> {
  if (error instanceof CancelRequestedError) {
    await ledger.cancelNow(start.lease);
    return;
  }
  if (error instanceof TaskStopped) {
    await settleStop(ledger, start, error.reason);
    return;
  }
  if (isDatabaseFault(error)) throw error;
  logger.error({ error }, 'the run failed');
  await ledger.fail(start.lease, failureOf(error));
}

async function settleStop(ledger: RunLedger, start: StartMessage, reason: StopReason): Promise<void> {
  switch (reason) {
    case 'CANCEL':
      return ledger.cancelNow(start.lease);
    case 'DRAIN':
      return ledger.release(start.lease, 'The worker stopped; the run continues at its next start.');
    case 'TIMEOUT':
      return ledger.fail(start.lease, TIMED_OUT_RUN);
    default:
      throw new UnreachableCaseError(reason);
  }
}
