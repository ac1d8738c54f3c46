/** The services that tasks use, wired once, for the worker's child and for the tests of tasks. */
import { createArtifactService } from '../src/modules/artifacts/index.ts';
import { createDatasetService } from '../src/modules/datasets/index.ts';
import { createEmbeddingService } from '../src/modules/embeddings/index.ts';
import { createEvaluationRegister } from '../src/modules/evaluations/index.ts';
import { createExportRegister } from '../src/modules/exports/index.ts';
import { createModelService } from '../src/modules/models/index.ts';
import type { ArtifactStore } from '../src/platform/artifact-store.ts';
import type { Database, Transact } from '../src/platform/db.ts';
import type { TaskServices } from './tasks/task.ts';

export function createTaskServices({
  db,
  transact,
  store,
}: {
  readonly db: Database;
  readonly transact: Transact;
  readonly store: ArtifactStore;
}): TaskServices {
  return {
    datasets: createDatasetService({ db, transact }),
    models: createModelService({ db, transact }),
    embeddings: createEmbeddingService({ db }),
    evaluations: createEvaluationRegister(db),
    exports: createExportRegister(db),
    artifacts: createArtifactService({ db, store }),
  };
}
