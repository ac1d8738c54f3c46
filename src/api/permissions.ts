/**
 * The permissions of the GraphQL API. Every field of Query, Mutation and Subscription has a line in FIELD_RULES, and
 * every object type is listed in TYPE_ROLES. guard.ts refuses to build a schema if a line is missing or superfluous.
 */
import { Kind, type OperationDefinitionNode } from 'graphql';
import type { AccessAction, AccessRole } from '../modules/access/index.ts';

export type NeededRole = 'ANYONE' | AccessRole;

/**
 * The objects that a mutation changes: for each kind, the dotted paths of the arguments that may contain its id or
 * slug. The first argument with a value is used.
 */
export type Touches = Readonly<Partial<Record<'dataset' | 'model' | 'checkpoint' | 'run', readonly string[]>>>;

export interface FieldRule {
  /** The lowest role that may call it. ANYONE: no key is needed. */
  readonly role: NeededRole;
  /** The action that the key must include, because a key can be limited to some actions. */
  readonly action: AccessAction;
  /** A key can be limited to some datasets and models. Such a key cannot call a mutation without `touches`. */
  readonly touches?: Touches;
  /** Default: the server's (PARAFFIN_REQUEST_TIMEOUT_MS). */
  readonly timeoutMs?: number;
}

const READ: FieldRule = { role: 'READER', action: 'READ' };

export const FIELD_RULES: Readonly<Record<string, FieldRule>> = {
  'Query.viewer': { role: 'ANYONE', action: 'READ' },
  'Query.server': READ,
  'Query.node': READ,
  'Query.dataset': READ,
  'Query.datasets': READ,
  'Query.datasetFacets': READ,
  'Query.organs': READ,
  'Query.stains': READ,
  'Query.model': READ,
  'Query.models': READ,
  'Query.checkpoint': READ,
  'Query.checkpoints': READ,
  'Query.run': READ,
  'Query.runs': READ,
  'Query.workers': READ,
  'Query.tombstone': READ,
  'Query.tombstones': READ,
  'Query.evaluation': READ,
  'Query.evaluations': READ,
  'Query.leaderboard': READ,
  'Query.compareEvaluations': READ,
  // Readers do not need to see paths of the server.
  'Query.importRoots': { role: 'CONTRIBUTOR', action: 'READ' },
  // For launchers.
  'Query.placementWork': { role: 'OPERATOR', action: 'READ' },
  'Query.keys': { role: 'ADMIN', action: 'ADMINISTER' },
  'Query.sessions': { role: 'ADMIN', action: 'ADMINISTER' },
  'Query.auditLog': { role: 'ADMIN', action: 'ADMINISTER' },
  'Query.verifyAudit': { role: 'ADMIN', action: 'ADMINISTER' },

  'Mutation.createDataset': { role: 'CONTRIBUTOR', action: 'CATALOGUE', touches: { dataset: ['input.slug'] } },
  'Mutation.updateDataset': { role: 'CONTRIBUTOR', action: 'CATALOGUE', touches: { dataset: ['input.id'] } },
  'Mutation.importDatasetVersion': { role: 'CONTRIBUTOR', action: 'IMPORT', touches: { dataset: ['input.datasetId'] } },
  'Mutation.createModel': { role: 'CONTRIBUTOR', action: 'CATALOGUE', touches: { model: ['input.slug'] } },
  'Mutation.setModelAlias': {
    role: 'CONTRIBUTOR',
    action: 'CATALOGUE',
    touches: { model: ['input.modelId', 'input.modelSlug'] },
  },
  // The service requires an OPERATOR for a path on the server or a URL; a CONTRIBUTOR may import an own upload. The
  // long timeout is needed because the answer comes after the file has been read.
  'Mutation.importCheckpoint': {
    role: 'CONTRIBUTOR',
    action: 'IMPORT',
    touches: { model: ['input.modelSlug'] },
    timeoutMs: 3_600_000,
  },
  'Mutation.launchPretraining': { role: 'OPERATOR', action: 'LAUNCH', touches: { model: ['input.modelSlug'] } },
  'Mutation.launchEvaluation': {
    role: 'CONTRIBUTOR',
    action: 'LAUNCH',
    touches: { checkpoint: ['input.checkpointId'] },
  },
  'Mutation.launchEmbedding': {
    role: 'CONTRIBUTOR',
    action: 'LAUNCH',
    touches: { checkpoint: ['input.checkpointId'] },
  },
  'Mutation.exportCheckpoint': {
    role: 'CONTRIBUTOR',
    action: 'LAUNCH',
    touches: { checkpoint: ['input.checkpointId'] },
  },
  'Mutation.registerTrainingState': { role: 'CONTRIBUTOR', action: 'LAUNCH', touches: { run: ['input.runId'] } },
  'Mutation.cancelRun': { role: 'CONTRIBUTOR', action: 'LAUNCH', touches: { run: ['id'] } },
  'Mutation.resumeRun': { role: 'OPERATOR', action: 'LAUNCH', touches: { run: ['id'] } },
  'Mutation.placeRuns': { role: 'OPERATOR', action: 'LAUNCH' },
  'Mutation.drainWorker': { role: 'OPERATOR', action: 'LAUNCH' },
  'Mutation.reportPlacements': { role: 'OPERATOR', action: 'LAUNCH' },
  'Mutation.deleteDataset': { role: 'OPERATOR', action: 'DELETE', touches: { dataset: ['input.id'] } },
  'Mutation.deleteDatasetVersion': { role: 'OPERATOR', action: 'DELETE' },
  'Mutation.deleteModel': { role: 'OPERATOR', action: 'DELETE', touches: { model: ['input.id'] } },
  'Mutation.deleteCheckpoint': { role: 'OPERATOR', action: 'DELETE', touches: { checkpoint: ['input.id'] } },
  'Mutation.deleteRun': { role: 'OPERATOR', action: 'DELETE', touches: { run: ['input.id'] } },
  'Mutation.createKey': { role: 'ADMIN', action: 'ADMINISTER' },
  'Mutation.revokeKey': { role: 'ADMIN', action: 'ADMINISTER' },
  'Mutation.revokeSession': { role: 'ADMIN', action: 'ADMINISTER' },

  'Subscription.runEvents': READ,
};

/**
 * The lowest role that may see objects of each type, whatever field returns them: guard.ts refuses to build a schema in
 * which a lower role could reach them. `XConnection`, `XEdge` and `XPayload` have the role of X.
 */
export const TYPE_ROLES: Readonly<Partial<Record<NeededRole, readonly string[]>>> = {
  ANYONE: ['PageInfo', 'UserError', 'Viewer'],
  READER: [
    'Checkpoint',
    'CheckpointArchitecture',
    'CheckpointExport',
    'CheckpointProbe',
    'Citation',
    'ClassReport',
    'ConfusionMatrix',
    'Dataset',
    'DatasetFacets',
    'DatasetShard',
    'DatasetVersion',
    'EmbeddingSet',
    'EngineInfo',
    'Evaluation',
    'EvaluationBaseline',
    'EvaluationComparison',
    'EvaluationMetric',
    'ExternalSource',
    'FacetCount',
    'FactSource',
    'FoundClassifier',
    'FoundProjectionHead',
    'GroupSuggestion',
    'ImportAssignment',
    'ImportIssue',
    'ImportIssueEntry',
    'ImportReport',
    'ImportedContents',
    'InputContract',
    'LabelCount',
    'LeaderboardRow',
    'Leakage',
    'LearningCurveMetric',
    'LearningCurvePoint',
    'MetricComparison',
    'MetricPoint',
    'MetricSeries',
    'Model',
    'ModelAlias',
    'Organ',
    'PassedOver',
    'Placement',
    'PlacementsPayload',
    'Worker',
    'WorkerCapabilities',
    'WorkerPayload',
    'WorkerPlace',
    'ProbeDifference',
    'ProbeScores',
    'RegistryCounts',
    'Resolution',
    'Run',
    'RunEvent',
    'RunFailure',
    'RunRequirements',
    'ServerInfo',
    'Slide',
    'SlideLevel',
    'SlidePatches',
    'SlidePredictions',
    'SlideResolution',
    'SplitCount',
    'Stain',
    'Subcollection',
    'Thumbnail',
    'Tombstone',
    'TrainingFact',
    'WeightsPrecision',
    'WeightsRounding',
    'TrainingState',
    'WatchedLevel',
    'WatchedSeries',
  ],
  OPERATOR: ['PlacementWork'],
  ADMIN: ['AccessKey', 'AuditEntry', 'AuditFault', 'AuditHead', 'AuditVerification', 'CreateKeyPayload', 'Session'],
};

/** The timeout of an operation: the longest timeout of its root fields. */
export function timeoutOf({ operation, selectionSet }: OperationDefinitionNode, standardMs: number): number {
  const root = `${operation.charAt(0).toUpperCase()}${operation.slice(1)}`;
  const own = selectionSet.selections.flatMap((selection) =>
    selection.kind === Kind.FIELD ? [FIELD_RULES[`${root}.${selection.name.value}`]?.timeoutMs ?? 0] : [],
  );
  return Math.max(standardMs, ...own);
}
