/** One run in one process: TensorFlow blocks its thread, and whatever goes wrong here dies alone. */
import { createArtifactService } from '../src/modules/artifacts/index.ts';
import { createDatasetService } from '../src/modules/datasets/index.ts';
import { createEmbeddingService } from '../src/modules/embeddings/index.ts';
import { createEvaluationRegister } from '../src/modules/evaluations/index.ts';
import { createModelService } from '../src/modules/models/index.ts';
import { CancelRequestedError, createLedger, type RunKind, type RunLedger } from '../src/modules/runs/index.ts';
import { createLogger, type Logger } from '../src/logger.ts';
import { openArtifactStore } from '../src/platform/artifact-store.ts';
import { openDatabase, transactionsOf } from '../src/platform/db.ts';
import { UnreachableCaseError } from '../src/errors.ts';
import { agentMessageSchema, type StartMessage } from './child-protocol.ts';
import { failureOf } from './failure.ts';
import { createProgressReporter } from './progress-reporter.ts';
import { TaskStopped, type StopRequest, type Task, type TaskContext } from './tasks/task.ts';

let stop: StopRequest = 'NO';
let started = false;

// The terminal's Ctrl-C reaches every process of its group; the agent alone decides when we end.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
// Without an agent nobody renews our lease: whatever we would write is refused anyway.
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
      carry(message).catch((error: unknown) => {
        console.error(error);
        process.exit(1);
      });
      return;
    default:
      throw new UnreachableCaseError(message);
  }
});

async function taskFor(kind: RunKind): Promise<Task> {
  // Imported when needed: an import never loads TensorFlow.
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

async function carry(start: StartMessage): Promise<void> {
  const logger = createLogger(start.logLevel, 'run').child({ runId: start.run.id, attempt: start.run.attempt });
  const db = openDatabase(start.databaseUrl, { maxConnections: 3 });
  const ledger = createLedger(db, transactionsOf(db));
  const reporter = createProgressReporter((report) => ledger.report(start.lease, report));
  const store = openArtifactStore(start.artifactsDir);
  const artifacts = createArtifactService({ db, store });
  const context: TaskContext = {
    runId: start.run.id,
    lease: start.lease,
    attempt: start.run.attempt,
    services: {
      datasets: createDatasetService({ db, transact: transactionsOf(db) }),
      models: createModelService({ db, transact: transactionsOf(db) }),
      embeddings: createEmbeddingService({ db }),
      evaluations: createEvaluationRegister(db),
      artifacts,
    },
    artifacts: store,
    logger,
    workDir: start.workDir,
    stopRequested: () => stop,
    throwIfStopped: () => {
      if (stop !== 'NO') throw new TaskStopped(stop);
    },
    progress: reporter.progress,
    recordMetrics: reporter.recordMetrics,
    flush: reporter.flush,
    withLease: (work) => ledger.withLease(start.lease, work),
    keepTrainingState: (tx, state) => ledger.keepTrainingState(tx, start.lease, state),
    latestTrainingState: () => ledger.latestTrainingState(start.run.id),
    setEnvironment: (environment) => ledger.setEnvironment(start.lease, { ...environment, codeRevision: start.codeRevision, node: process.version }),
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
  process.send?.({ kind: 'SETTLED' }, () => process.exit(0));
}

async function settleFailure(ledger: RunLedger, start: StartMessage, error: unknown, logger: Logger): Promise<void> {
  if (error instanceof CancelRequestedError) {
    await ledger.cancelNow(start.lease);
    return;
  }
  if (error instanceof TaskStopped) {
    if (error.reason === 'CANCEL') await ledger.cancelNow(start.lease);
    else await ledger.release(start.lease, 'The worker stopped; the run goes on at its next start.');
    return;
  }
  logger.error({ error }, 'the run failed');
  await ledger.fail(start.lease, failureOf(error));
}
