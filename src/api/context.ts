/** The context that every resolver receives. */
import type { AccessService, Viewer } from '../modules/access/index.ts';
import type { AuditAct, AuditService } from '../modules/audit/index.ts';
import type { ArtifactService } from '../modules/artifacts/index.ts';
import type { CardService } from '../modules/cards/index.ts';
import type {
  DatasetLoaders,
  DatasetService,
  ImportIssueService,
  SlidePatchService,
  SlideTileService,
} from '../modules/datasets/index.ts';
import type { DeletionService } from '../modules/deletions/index.ts';
import type { EmbeddingService } from '../modules/embeddings/index.ts';
import type { EvaluationLoaders, EvaluationService } from '../modules/evaluations/index.ts';
import type { ExportLoaders, ExportService } from '../modules/exports/index.ts';
import type { CheckpointImportService, ModelLoaders, ModelService } from '../modules/models/index.ts';
import type { PlacementLoaders, PlacementService } from '../modules/placements/index.ts';
import type { RunLoaders, RunService, TrainingStateService } from '../modules/runs/index.ts';
import type { WorkerLoaders, WorkerService } from '../modules/workers/index.ts';
import type { RunEvents } from './run-events.ts';

/** The library under the workers' engine, where it is installed. */
export interface EngineFacts {
  readonly library: string;
  readonly version: string;
  readonly device: string;
}

/** Facts about the server, for the query `server`. */
export interface ServerFacts {
  readonly version: string;
  readonly startedAt: Date;
  readonly databaseVersion: () => Promise<string>;
  /** Null while the engine is missing: `hint` of ServerInfo then says which command installs it. */
  readonly engine: () => EngineFacts | null;
  readonly engineHint: () => string | null;
}

export interface Services {
  readonly access: AccessService;
  readonly audit: AuditService;
  readonly datasets: DatasetService;
  readonly importIssues: ImportIssueService;
  readonly slidePatches: SlidePatchService;
  readonly slideTiles: SlideTileService;
  readonly models: ModelService;
  readonly checkpointImports: CheckpointImportService;
  readonly embeddings: EmbeddingService;
  readonly exports: ExportService;
  readonly runs: RunService;
  readonly placements: PlacementService;
  readonly workers: WorkerService;
  readonly trainingStates: TrainingStateService;
  readonly evaluations: EvaluationService;
  readonly artifacts: ArtifactService;
  readonly cards: CardService;
  readonly deletions: DeletionService;
}

/** Loaders that batch the reads of one request; every request gets new ones. */
export interface Loaders {
  readonly datasets: DatasetLoaders;
  readonly models: ModelLoaders;
  readonly runs: RunLoaders;
  readonly placements: PlacementLoaders;
  readonly workers: WorkerLoaders;
  readonly evaluations: EvaluationLoaders;
  readonly exports: ExportLoaders;
}

export interface ApiContext {
  readonly viewer: Viewer;
  readonly requestId: string;
  /** Address of the client; null where it is unknown. */
  readonly address: string | null;
  /** Records a refusal in the audit log, and counts it against its sender. Never throws. */
  readonly onRefusal: (act: AuditAct, code: string) => Promise<void>;
  /** Aborted when the client disconnects before it has its answer. */
  readonly clientGone: AbortSignal | undefined;
  readonly services: Services;
  readonly loaders: Loaders;
  readonly server: ServerFacts;
  readonly runEvents: RunEvents;
}
