/** The services that tasks use, wired once, for the worker's child and for the tests of tasks. */
import { DomainError } from '../src/errors.ts';
import { createArtifactService } from '../src/modules/artifacts/index.ts';
import { createDatasetService } from '../src/modules/datasets/index.ts';
import { createEmbeddingService } from '../src/modules/embeddings/index.ts';
import { createEvaluationRegister } from '../src/modules/evaluations/index.ts';
import { createExportRegister } from '../src/modules/exports/index.ts';
import { createModelService } from '../src/modules/models/index.ts';
import type { ArtifactStore, LocalFiles } from '../src/platform/artifact-store/index.ts';
import type { Database, Transact } from '../src/platform/db.ts';
import type { TaskContext, TaskServices } from './tasks/task.ts';

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

/** Local files of artifacts; a damaged artifact is reported, so that it is marked and moved to quarantine. */
export function localFileOf(
  files: LocalFiles,
  { artifacts }: Pick<TaskServices, 'artifacts'>,
): TaskContext['localFile'] {
  return async (sha256) => {
    try {
      return await files.hold(sha256);
    } catch (error) {
      if (error instanceof DomainError && error.code === 'ARTIFACT_CORRUPT') await artifacts.reportDamage(sha256);
      throw error;
    }
  };
}
