/** Workers: what the processes that execute runs may do in the registry. */
import type { Database, Transact } from '../../platform/db.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import { createArtifactService } from '../artifacts/index.ts';
import { createDatasetService } from '../datasets/index.ts';
import { createEmbeddingService } from '../embeddings/index.ts';
import { createEvaluationRegister } from '../evaluations/index.ts';
import { createExportRegister } from '../exports/index.ts';
import { createModelService } from '../models/index.ts';
import { createLedger } from '../runs/index.ts';
import { createRunDesk as createDesk, type RunDesk } from './run-calls.service.ts';

export type { RunDesk } from './run-calls.service.ts';

/** The calls of runs on their own connections to the database, so that the load of clients does not delay them. */
export function createRunDesk({
  db,
  transact,
  store,
}: {
  readonly db: Database;
  readonly transact: Transact;
  readonly store: ArtifactStore;
}): RunDesk {
  return createDesk({
    ledger: createLedger(db, transact),
    store,
    datasets: createDatasetService({ db, transact }),
    models: createModelService({ db, transact }),
    embeddings: createEmbeddingService({ db }),
    evaluations: createEvaluationRegister(db),
    exports: createExportRegister(db),
    artifacts: createArtifactService({ db, store }),
  });
}
