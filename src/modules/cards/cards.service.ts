/** Builds the cards of datasets and checkpoints from the records of the other modules. */
import { DomainError } from '../../errors.ts';
import { MAX_PAGE_SIZE, type Page } from '../../platform/page.ts';
import type { Viewer } from '../access/index.ts';
import type { DatasetRecord, DatasetService, DatasetVersionRecord, SealedVersionRecord } from '../datasets/index.ts';
import type { EvaluationService } from '../evaluations/index.ts';
import type { ModelService } from '../models/index.ts';
import type { RunService } from '../runs/index.ts';
import { croissantOf } from './croissant.rules.ts';
import { modelCardOf, type SeenVersion } from './model-card.rules.ts';

export interface CardService {
  /**
   * The Croissant 1.1 card of a dataset.
   * @param version the version number; undefined means the latest sealed version, if one exists.
   * @param serverUrl the base URL of this registry, without a trailing slash.
   * @throws DomainError DATASET_NOT_FOUND or DATASET_VERSION_NOT_FOUND.
   */
  dataset(
    viewer: Viewer,
    datasetId: string,
    version: number | undefined,
    serverUrl: string,
  ): Promise<Record<string, unknown>>;
  /** Markdown with YAML front matter and the newest 200 evaluations. Throws CHECKPOINT_NOT_FOUND. */
  checkpoint(viewer: Viewer, checkpointId: string, serverUrl: string): Promise<string>;
}

export interface CardServiceParts {
  readonly datasets: DatasetService;
  readonly models: ModelService;
  readonly runs: RunService;
  readonly evaluations: EvaluationService;
}

export function createCardService({ datasets, models, runs, evaluations }: CardServiceParts): CardService {
  const requireDataset = async (viewer: Viewer, id: string): Promise<DatasetRecord> => {
    const dataset = await datasets.get(viewer, { id });
    if (dataset !== undefined) return dataset;
    throw new DomainError({
      code: 'DATASET_NOT_FOUND',
      message: 'No dataset has this id.',
      hint: 'List the datasets with the query `datasets`.',
    });
  };
  const sealedVersion = async (
    viewer: Viewer,
    dataset: DatasetRecord,
    wanted: number | undefined,
  ): Promise<SealedVersionRecord | undefined> => {
    // Searches newest first and page by page, because many failed imports may precede the version.
    for (let after: string | null = null; ;) {
      const { edges, pageInfo }: Page<DatasetVersionRecord> = await datasets.versions(viewer, dataset.id, {
        first: MAX_PAGE_SIZE,
        after,
      });
      const found = edges
        .map(({ node }) => node)
        .find(({ version, status }) => status === 'SEALED' && (wanted === undefined || version === wanted));
      if (found !== undefined) return (await datasets.requireSealedVersions([found.id]))[0];
      if (!pageInfo.hasNextPage) break;
      after = pageInfo.endCursor;
    }
    if (wanted === undefined) return undefined;
    throw new DomainError({
      code: 'DATASET_VERSION_NOT_FOUND',
      message: `The dataset has no sealed version ${wanted}.`,
      field: 'version',
      hint: 'List the versions with Dataset.versions.',
    });
  };
  const seen = async (viewer: Viewer, versionId: string): Promise<SeenVersion> => {
    const version = await datasets.getVersion(viewer, versionId);
    if (version === undefined)
      throw new Error(`Dataset version ${versionId} is missing although another row refers to it.`);
    return { version, dataset: await requireDataset(viewer, version.datasetId) };
  };
  return {
    dataset: async (viewer, datasetId, version, serverUrl) => {
      const dataset = await requireDataset(viewer, datasetId);
      return croissantOf({ dataset, version: await sealedVersion(viewer, dataset, version), serverUrl });
    },
    checkpoint: async (viewer, checkpointId, serverUrl) => {
      const checkpoint = await models.getCheckpoint(viewer, checkpointId);
      const model = checkpoint === undefined ? undefined : await models.get(viewer, { id: checkpoint.modelId });
      if (checkpoint === undefined || model === undefined)
        throw new DomainError({
          code: 'CHECKPOINT_NOT_FOUND',
          message: 'No checkpoint has this id.',
          hint: 'List the checkpoints with the query `checkpoints`.',
        });
      const pretraining = await models.pretrainingOf(checkpointId);
      const found = await evaluations.ofCheckpoint(viewer, checkpointId, MAX_PAGE_SIZE);
      // Most evaluations of a checkpoint share a few versions: each is looked up once.
      const known = new Map<string, Promise<SeenVersion>>();
      const seenOnce = (versionId: string): Promise<SeenVersion> => {
        const lookup = known.get(versionId) ?? seen(viewer, versionId);
        known.set(versionId, lookup);
        return lookup;
      };
      return modelCardOf({
        model,
        checkpoint,
        trainedOn: await Promise.all(
          pretraining.versions.map(async ({ datasetVersionId, isPart }) => ({
            ...(await seenOnce(datasetVersionId)),
            isPart,
          })),
        ),
        isTrainingComplete: pretraining.isComplete,
        golden: await models.goldenOf(checkpointId),
        run: checkpoint.sourceRunId === null ? undefined : await runs.get(viewer, checkpoint.sourceRunId),
        evaluations: await Promise.all(
          found.map(async (evaluation) => ({ ...(await seenOnce(evaluation.datasetVersionId)), evaluation })),
        ),
        serverUrl,
      });
    },
  };
}
