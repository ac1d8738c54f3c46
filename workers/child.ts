/** Runs one run, or a part of one, in one process: TensorFlow blocks its thread, and a crash must end only this run. */
import type { StoredBytes } from '../src/protocol/artifacts.ts';
import type { PartRegistry } from '../src/protocol/part-calls.ts';
import type { RunRegistry } from '../src/protocol/run-calls.ts';
import { createLogger, type Logger } from '../src/logger.ts';
import { openArtifactStore, openLocalFiles } from '../src/platform/artifact-store/index.ts';
import { DomainError, UnreachableCaseError } from '../src/errors.ts';
import { agentMessageSchema, type ChildMessage, type StartMessage, type StopReason } from './child-protocol.ts';
import { failureOf, TIMED_OUT_RUN } from './failure.ts';
import { createProgressReporter } from './progress-reporter.ts';
import { createHttpArtifacts } from './registry/artifacts.ts';
import { createPartRegistry, createRunRegistry } from './registry/http.ts';
import { localFileOf } from './registry/local-files.ts';
import { TaskStopped, type StopRequest, type Task, type TaskContext } from './tasks/task.ts';
import { leaseName, type RunKind } from '../src/protocol/runs.ts';

/** Often enough for an agent that waits for minutes. */
const ALIVE_EVERY_MS = 1_000;

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
        console.error(error);
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
    case 'EMBEDDING':
      return (await import('./tasks/embed.ts')).embedTask;
    case 'EXPORT':
      return (await import('./tasks/export.ts')).exportTask;
    default:
      throw new UnreachableCaseError(kind);
  }
}

async function execute(start: StartMessage): Promise<void> {
  const { claim, run } = start;
  const logger = createLogger(start.logLevel, 'run').child({ ...claim.lease, attempt: run.attempt });
  const door = { url: start.url, token: start.token };
  // Whatever a task reads and writes waits for the registry, because the memory of this process holds what would be
  // lost with it. The agent, which renews the lease, ends the process if the run is lost.
  const patience = { onWait: sendAlive };
  const artifacts =
    start.artifactsDir === null
      ? createHttpArtifacts({
          ...{ door, runId: run.id, workDir: start.workDir, patience },
          onBucketClosed: (error) =>
            logger.warn({ error }, 'the bucket of the registry cannot be reached; bytes go by way of the registry'),
        })
      : openArtifactStore(start.artifactsDir, leaseName(claim.lease));
  const parts = { logger, artifacts };
  await (claim.plan === null
    ? executeRun(start, createRunRegistry(door, run.id, { patience }), parts)
    : executePart(start, claim.plan, createPartRegistry(door, claim.lease, { patience }), parts));
  sendToAgent('SETTLED', () => process.exit(0));
}

interface ChildParts {
  readonly logger: Logger;
  readonly artifacts: ReturnType<typeof createHttpArtifacts> | ReturnType<typeof openArtifactStore>;
}

function throwIfStopped(): void {
  sendAlive();
  if (stop !== 'NO') throw new TaskStopped(stop);
}

async function executePart(
  start: StartMessage,
  plan: StoredBytes,
  registry: PartRegistry,
  { logger, artifacts }: ChildParts,
): Promise<void> {
  try {
    const { readImportPart } = await import('./tasks/import-part.ts');
    const context = { artifacts, logger, dataDir: start.dataDir, workDir: start.workDir, throwIfStopped };
    await registry.settle({ outcome: await readImportPart(context, start.run.config, plan) });
  } catch (error) {
    if (error instanceof DomainError && error.code === 'LEASE_LOST') throw error;
    logger.warn({ error }, 'the part is given back');
    await registry.giveBack({ reason: error instanceof TaskStopped ? null : failureOf(error).message });
  }
}

async function executeRun(
  start: StartMessage,
  registry: RunRegistry,
  { logger, artifacts }: ChildParts,
): Promise<void> {
  const reporter = createProgressReporter(async (report) => void (await registry.report(report)));
  const isTraining = start.run.kind === 'PRETRAINING';
  const files = openLocalFiles({ store: artifacts, folder: start.cacheDir, maxBytes: start.cacheBytes });
  const context: TaskContext = {
    runId: start.run.id,
    attempt: start.run.attempt,
    registry: {
      ...registry,
      setEnvironment: async ({ environment }) => {
        const done = await registry.setEnvironment({
          environment: { ...environment, codeRevision: start.codeRevision, node: process.version },
        });
        if (start.device === 'GPU' && isOnCpu(environment['engine'])) throw noGpuFound();
        return done;
      },
    },
    artifacts,
    localFile: localFileOf(files, registry),
    logger,
    dataDir: start.dataDir,
    workDir: start.workDir,
    microBatchSize: start.run.microBatchSize,
    stopRequested: () => {
      sendAlive();
      return stop;
    },
    throwIfStopped,
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
    keepTrainingState: async (state, { byteSize }) => {
      await registry.keepTrainingState({ state, byteSize });
      sendToAgent('STATE_SAVED');
    },
  };
  try {
    const task = await taskFor(start.run.kind);
    const { outcome, message } = await task.run(context, start.run.config);
    await reporter.flush();
    await registry.succeed({ outcome, message });
  } catch (error) {
    await settleFailure(registry, error, logger);
  }
}

function isOnCpu(engine: unknown): boolean {
  return typeof engine === 'object' && engine !== null && 'device' in engine && engine.device === 'CPU';
}

function noGpuFound(): DomainError {
  return new DomainError({
    code: 'GPU_UNREACHABLE',
    message: 'The worker gave the run a GPU, but TensorFlow found none.',
    hint: 'Run "paraffin doctor" on the machine of the worker: it names the libraries that are missing.',
  });
}

async function settleFailure(registry: RunRegistry, error: unknown, logger: Logger): Promise<void> {
  if (error instanceof TaskStopped) {
    await settleStop(registry, error.reason);
    return;
  }
  // Another worker has the run, and nothing is left to say.
  if (error instanceof DomainError && error.code === 'LEASE_LOST') throw error;
  logger.error({ error }, 'the run failed');
  await registry.fail({ failure: failureOf(error) });
}

async function settleStop(registry: RunRegistry, reason: StopReason): Promise<void> {
  switch (reason) {
    case 'CANCEL':
      await registry.cancel({});
      return;
    case 'DRAIN':
      await registry.release({ message: 'The worker stopped; the run continues at its next start.' });
      return;
    case 'TIMEOUT':
      await registry.fail({ failure: TIMED_OUT_RUN });
      return;
    default:
      throw new UnreachableCaseError(reason);
  }
}
