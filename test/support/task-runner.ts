/** Executes runs as the worker's child does, in this process: real database, real ledger, real files. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createLogger } from '../../src/logger.ts';
import { createDatasetService, type DatasetService } from '../../src/modules/datasets/index.ts';
import { createExportRegister, type ExportRegister } from '../../src/modules/exports/index.ts';
import { createLedger, type RunLedger } from '../../src/modules/runs/index.ts';
import { openArtifactStore, openLocalFiles, type ArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { createCalls } from '../../src/modules/workers/index.ts';
import { registryOver } from '../../src/protocol/run-calls.ts';
import { localFileOf } from '../../workers/registry/local-files.ts';
import { TaskStopped, type StopRequest, type TaskContext, type TaskResult } from '../../workers/tasks/task.ts';
import { artifactPlaceOf } from './artifact-place.ts';
import { rawFilesOf, type RawFiles } from './artifact-stage.ts';
import type { TestDatabase } from './database.ts';
import type { RunKind } from '../../src/protocol/runs.ts';

const CACHE_BYTES = 1_000_000_000;

/** A task of the product, or of a test that registers nothing at its end. */
export interface RunnableTask {
  readonly kind: RunKind;
  run(context: TaskContext, config: unknown): Promise<TaskResult | undefined>;
}

export interface TaskRunner {
  /** Deleted by `close` if the runner created it. */
  readonly base: string;
  readonly store: ArtifactStore;
  /** What the store holds, to look at and to change behind its back. */
  readonly stored: RawFiles;
  readonly ledger: RunLedger;
  readonly services: { readonly datasets: DatasetService; readonly exports: ExportRegister };
  /** Creates a run, claims it, and returns it ready to be executed. */
  launch(task: RunnableTask, config: object, stop?: () => StopRequest): Promise<LaunchedTask>;
  /** Takes a waiting run that something else has launched. */
  claim(task: RunnableTask, runId: string, stop?: () => StopRequest): Promise<LaunchedTask>;
  close(): Promise<void>;
}

export interface LaunchedTask {
  readonly runId: string;
  /** The progress that it reported. */
  readonly events: readonly string[];
  /** The steps whose metrics it reported. */
  readonly steps: readonly number[];
  /** Runs the task to its end. */
  execute(): Promise<void>;
}

/** @param dataDir a test server's folder, to share its artifacts; by default a separate folder. */
export async function createTaskRunner({ db, transact }: TestDatabase, dataDir?: string): Promise<TaskRunner> {
  const base = await realpath(dataDir ?? (await mkdtemp(path.join(tmpdir(), 'paraffin-task-'))));
  const ledger = createLedger(db, transact);
  const place = artifactPlaceOf(base);
  const store = openArtifactStore(place);
  const desk = createCalls({ db, transact, store });
  const services = { datasets: createDatasetService({ db, transact }), exports: createExportRegister(db) };
  const files = openLocalFiles({ store, folder: path.join(base, 'cache'), maxBytes: CACHE_BYTES });
  const claim: TaskRunner['claim'] = async (task, runId, stop = () => 'NO') => {
    const claimed = await ledger.claim([task.kind], 'test');
    assert.ok(claimed?.run.id === runId);
    const { run, lease } = claimed;
    const workDir = path.join(base, `work-${run.id}-${lease.epoch}`);
    await mkdir(workDir, { recursive: true });
    const events: string[] = [];
    const steps: number[] = [];
    const calls = desk(lease);
    const registry = registryOver((name, input) => calls[name](input));
    const context: TaskContext = {
      runId: run.id,
      attempt: 1,
      microBatchSize: null,
      registry,
      artifacts: store,
      localFile: localFileOf(files, registry),
      logger: createLogger('silent', 'test'),
      dataDir: base,
      workDir,
      stopRequested: stop,
      throwIfStopped: () => {
        const reason = stop();
        if (reason !== 'NO') throw new TaskStopped(reason);
      },
      progress: async (_fraction, message) => void events.push(message ?? ''),
      recordMetrics: (fraction, points) => {
        steps.push(points.step);
        return ledger.report(lease, { progress: fraction, points: [points] });
      },
      flush: async () => undefined,
      keepTrainingState: async (state, { byteSize }) => void (await registry.keepTrainingState({ state, byteSize })),
    };
    return {
      runId: run.id,
      events,
      steps,
      execute: async () => {
        const result = await task.run(context, run.config);
        if (result === undefined) await ledger.withLease(lease, (tx) => ledger.succeed(tx, lease, 'Done.'));
        else await registry.succeed(result);
      },
    };
  };
  return {
    base,
    store,
    stored: rawFilesOf(place),
    ledger,
    services,
    claim,
    launch: async (task, config, stop) => {
      const kind: RunKind = task.kind;
      const run = await db.run.create({ data: { kind, title: 'made by a test', config } });
      return claim(task, run.id, stop);
    },
    close: async () => {
      if (dataDir === undefined) await rm(base, { recursive: true, force: true });
    },
  };
}
