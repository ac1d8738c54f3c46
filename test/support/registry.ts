/** Services over a test database, wired as the server wires them, without HTTP. */
import { RUN_JOBS } from '../../src/jobs/index.ts';
import type { Viewer } from '../../src/modules/access/index.ts';
import { createDatasetService, type DatasetService } from '../../src/modules/datasets/index.ts';
import { createEvaluations, type EvaluationService } from '../../src/modules/evaluations/index.ts';
import { createModelService, type ModelService } from '../../src/modules/models/index.ts';
import { createLedger, createRuns, type RunLedger, type RunService } from '../../src/modules/runs/index.ts';
import { openArtifactStore } from '../../src/platform/artifact-store.ts';
import { openQueue, type Queue } from '../../src/platform/queue.ts';
import type { TestDatabase } from './database.ts';
import { keyHolder } from './viewers.ts';

export interface TestRegistry {
  readonly datasets: DatasetService;
  readonly models: ModelService;
  readonly runs: RunService;
  readonly evaluations: EvaluationService;
  /** What a worker would hold. */
  readonly ledger: RunLedger;
  readonly queue: Queue;
  close(): Promise<void>;
}

export const ADMIN: Viewer = keyHolder('ADMIN');

export async function openTestRegistry(
  { db, transact, url }: TestDatabase,
  importRoots: readonly string[],
  artifactsDir = '/nonexistent',
): Promise<TestRegistry> {
  const queue = await openQueue({ url, jobs: Object.values(RUN_JOBS), onError: () => undefined });
  const datasets = createDatasetService({ db, transact });
  const models = createModelService({ db, transact });
  const runs = createRuns(db, { transact, queue, datasets, models, importRoots });
  const evaluations = createEvaluations(db, {
    runs,
    datasets,
    models,
    readArtifact: openArtifactStore(artifactsDir).read,
  });
  return { datasets, models, runs, evaluations, ledger: createLedger(db, transact), queue, close: () => queue.close() };
}
