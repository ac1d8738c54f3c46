/** Composition root of the services: the only place where they are wired, for the server and its tests. */
import type { Loaders, Services } from './api/context.ts';
import { createAccessService } from './modules/access/index.ts';
import { createArtifactService } from './modules/artifacts/index.ts';
import { createAuditService } from './modules/audit/index.ts';
import { createCardService } from './modules/cards/index.ts';
import {
  createDatasetLoaders,
  createDatasetService,
  createImportIssueService,
  createSlidePatchService,
  createSlideTileService,
} from './modules/datasets/index.ts';
import { createDeletions } from './modules/deletions/index.ts';
import { createEmbeddingService, dropSetsWithoutOwner } from './modules/embeddings/index.ts';
import { createEvaluationLoaders, createEvaluations } from './modules/evaluations/index.ts';
import { createExportLoaders, createExports, type ExportPatience } from './modules/exports/index.ts';
import { createCheckpointImports, createModelLoaders, createModelService } from './modules/models/index.ts';
import { createPlacementLoaders, createPlacements } from './modules/placements/index.ts';
import { createRunLoaders, createRuns, createTrainingStates } from './modules/runs/index.ts';
import { createWorkerLoaders, createWorkers } from './modules/workers/index.ts';
import type { Announcements } from './platform/announcements.ts';
import { readVerified, type ArtifactStore } from './platform/artifact-store/index.ts';
import type { Database, Transact } from './platform/db.ts';
import type { Queue } from './platform/queue.ts';
import type { UploadStore } from './platform/upload-store.ts';

export interface ServiceParts {
  readonly db: Database;
  readonly transact: Transact;
  readonly queue: Queue;
  readonly announcements: Announcements;
  readonly store: ArtifactStore;
  readonly uploads: UploadStore;
  /** Folder for checkpoints that are imported from a URL. */
  readonly downloadsDir: string;
  readonly importRoots: readonly string[];
  /** Where OpenSlide is kept, and what the processes that read slides must not see. */
  readonly engineCacheDir: string;
  readonly dataDir: string;
  readonly requireAuth: boolean;
  /** Lifetime of a browser session; default: that of the access service. */
  readonly sessionLifetimeMs?: number;
  readonly allowPrivateUrls: boolean;
  /** What to do if TensorFlow is missing; null if it is installed. */
  readonly engineHint: () => string | null;
  /** How long a download waits for an export; default: the service's own. */
  readonly patience?: Partial<ExportPatience>;
}

/** @returns the services; they commit changes through `audit.transact`, together with the audit entry. */
export function createServices(parts: ServiceParts): Services {
  const { db, queue, announcements, store, uploads, importRoots, engineCacheDir, dataDir, engineHint, patience } =
    parts;
  const audit = createAuditService({ db, transact: parts.transact });
  const { transact } = audit;
  const datasets = createDatasetService({ db, transact });
  const models = createModelService({ db, transact });
  const runs = createRuns(db, { transact, queue, datasets, models, importRoots });
  const exports = createExports(db, {
    transact,
    runs,
    models,
    announcements,
    engineHint,
    ...(patience === undefined ? {} : { patience }),
  });
  const slidePatches = createSlidePatchService({ db, store });
  const evaluations = createEvaluations(db, {
    ...{ runs, datasets, models, slidePatches },
    readArtifact: (sha256, take) => readVerified(store, sha256, take),
  });
  return {
    access: createAccessService({
      db,
      transact,
      requireAuth: parts.requireAuth,
      ...(parts.sessionLifetimeMs === undefined ? {} : { sessionLifetimeMs: parts.sessionLifetimeMs }),
    }),
    audit,
    artifacts: createArtifactService({ db, store }),
    datasets,
    importIssues: createImportIssueService({ openArtifact: store.open }),
    slidePatches,
    slideTiles: createSlideTileService({
      ...{ db, importRoots, engineCacheDir, dataDir },
      folderOfImport: (runId) => runs.folderOfImport(runId),
    }),
    models,
    embeddings: createEmbeddingService(db, { runs, datasets, models, slidePatches, openArtifact: store.open }),
    checkpointImports: createCheckpointImports({
      db,
      transact,
      artifacts: store,
      uploads,
      importRoots,
      downloadsDir: parts.downloadsDir,
      allowPrivateUrls: parts.allowPrivateUrls,
      queueGolden: exports.queueGolden,
    }),
    exports,
    runs,
    placements: createPlacements(db, { transact }),
    workers: createWorkers(db, { transact }),
    trainingStates: createTrainingStates(db, {
      transact,
      artifacts: store,
      models,
      queueGolden: exports.queueGolden,
    }),
    evaluations,
    deletions: createDeletions(db, { transact, dropBelongings: dropSetsWithoutOwner }),
    cards: createCardService({ datasets, models, runs, evaluations }),
  };
}

/** Batching for one request. */
export function createLoaders(db: Database): Loaders {
  return {
    datasets: createDatasetLoaders(db),
    models: createModelLoaders(db),
    runs: createRunLoaders(db),
    placements: createPlacementLoaders(db),
    workers: createWorkerLoaders(db),
    evaluations: createEvaluationLoaders(db),
    exports: createExportLoaders(db),
  };
}
