/** Executes runs as the worker's child does, in this process: real database, real ledger, real files. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createLogger } from '../../src/logger.ts';
import { createLedger, type RunKind } from '../../src/modules/runs/index.ts';
import { openArtifactStore, openLocalFiles, type ArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { createTaskServices, localFileOf } from '../../workers/task-services.ts';
import {
  TaskStopped,
  type StopRequest,
  type Task,
  type TaskContext,
  type TaskServices,
} from '../../workers/tasks/task.ts';
import { artifactPlaceOf } from './artifact-place.ts';
import { rawFilesOf, type RawFiles } from './artifact-stage.ts';
import type { TestDatabase } from './database.ts';

const CACHE_BYTES = 1_000_000_000;

export interface TaskRunner {
  /** Deleted by `close` if the runner created it. */
  readonly base: string;
  readonly store: ArtifactStore;
  /** What the store holds, to look at and to change behind its back. */
  readonly stored: RawFiles;
  readonly services: TaskServices;
  /** Creates a run, claims it, and returns it ready to be executed. */
  launch(task: Task, config: object, stop?: () => StopRequest): Promise<LaunchedTask>;
  /** Takes a waiting run that something else has launched. */
  claim(task: Task, runId: string, stop?: () => StopRequest): Promise<LaunchedTask>;
  close(): Promise<void>;
}

export interface LaunchedTask {
  readonly runId: string;
  /** The progress that it reported. */
  readonly events: readonly string[];
  /** Runs the task to its end. */
  execute(): Promise<void>;
}

/** @param dataDir a test server's folder, to share its artifacts; by default a separate folder. */
export async function createTaskRunner({ db, transact }: TestDatabase, dataDir?: string): Promise<TaskRunner> {
  const base = await realpath(dataDir ?? (await mkdtemp(path.join(tmpdir(), 'paraffin-task-'))));
  const ledger = createLedger(db, transact);
  const place = artifactPlaceOf(base);
  const store = openArtifactStore(place);
  const services = createTaskServices({ db, transact, store });
  const files = openLocalFiles({ store, folder: path.join(base, 'cache'), maxBytes: CACHE_BYTES });
  const claim: TaskRunner['claim'] = async (task, runId, stop = () => 'NO') => {
    const claimed = await ledger.claim([task.kind], 'test');
    assert.ok(claimed?.run.id === runId);
    const { run, lease } = claimed;
    const workDir = path.join(base, `work-${run.id}-${lease.epoch}`);
    await mkdir(workDir, { recursive: true });
    const events: string[] = [];
    const context: TaskContext = {
      runId: run.id,
      lease,
      attempt: 1,
      microBatchSize: null,
      services,
      artifacts: store,
      localFile: localFileOf(files, services),
      logger: createLogger('silent', 'test'),
      dataDir: base,
      workDir,
      stopRequested: stop,
      throwIfStopped: () => {
        const reason = stop();
        if (reason !== 'NO') throw new TaskStopped(reason);
      },
      progress: async (_fraction, message) => void events.push(message ?? ''),
      recordMetrics: (fraction, points) => ledger.report(lease, { progress: fraction, points: [points] }),
      flush: async () => undefined,
      withLease: (work) => ledger.withLease(lease, work),
      keepTrainingState: (tx, state) => ledger.keepTrainingState(tx, lease, state),
      latestTrainingState: () => ledger.latestTrainingState(run.id),
      setImportReport: (report) => ledger.setImportReport(lease, report),
      keepImportBlock: (block) => ledger.keepImportBlock(lease, block),
      importBlocks: () => ledger.importBlocks(run.id),
      freezeConfig: (config) => ledger.freezeConfig(lease, config),
      bestTrainingState: () => ledger.bestTrainingState(run.id),
      setEnvironment: (environment) => ledger.setEnvironment(lease, environment),
    };
    return {
      runId: run.id,
      events,
      execute: async () => {
        const result = await task.run(context, run.config);
        await ledger.withLease(lease, async (tx) => {
          await result.finish(tx);
          await ledger.succeed(tx, lease, result.message);
        });
      },
    };
  };
  return {
    base,
    store,
    stored: rawFilesOf(place),
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
