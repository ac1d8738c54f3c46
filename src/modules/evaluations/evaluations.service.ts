/** Launching, ranking and comparing evaluations. */
import { randomInt } from 'node:crypto';
import { DomainError } from '../../errors.ts';
import { isId, parseInput } from '../../input.ts';
import type { EvaluationProtocol } from '../../generated/prisma/enums.ts';
import type { Transaction } from '../../platform/db.ts';
import type { Page, PageArguments } from '../../platform/page.ts';
import { authorise, type Viewer } from '../access/index.ts';
import type { DatasetService, SlidePatchService } from '../datasets/index.ts';
import { RANDOM_ENCODER_SEED } from '../embeddings/index.ts';
import type { ModelService } from '../models/index.ts';
import { requirementsOf, type RunRecord, type RunService } from '../runs/index.ts';
import { checkComparable, comparePredictions, notComparable, type ReadPredictions } from './comparison.ts';
import type {
  CandidateRecord,
  EvaluationComparisonRecord,
  EvaluationRecord,
  LeaderboardRowRecord,
  NewEvaluation,
  ReportedEvaluationRecord,
  SlidePredictionsRecord,
} from './evaluations.records.ts';
import {
  checkEvaluable,
  checkTrainable,
  launchEvaluationSchema,
  titleOfEvaluation,
  ungroupedImageCountOf,
} from './evaluations.rules.ts';
import { overlapOf } from './leakage.rules.ts';
import { optionsOf } from './options.rules.ts';
import type { EvaluationFilter, EvaluationStore } from './evaluations.store.ts';
import { predictionsOfSlide } from './slide-predictions.ts';
import { rankingOf } from './verdict.rules.ts';

export interface EvaluationService {
  get(viewer: Viewer, id: string): Promise<EvaluationRecord | undefined>;
  list(viewer: Viewer, page: PageArguments, filter: EvaluationFilter): Promise<Page<EvaluationRecord>>;
  /** With their reports, the newest `limit` first. */
  ofCheckpoint(viewer: Viewer, checkpointId: string, limit: number): Promise<ReportedEvaluationRecord[]>;
  /** A run of kind EVALUATION. */
  launch(viewer: Viewer, input: unknown): Promise<RunRecord>;
  /**
   * Best first: by highest macroF1, or by lowest meanAbsoluteError for REGRESSION; for a checkpoint with several
   * evaluations, the newest one counts.
   */
  leaderboard(viewer: Viewer, datasetVersionId: string, protocol: EvaluationProtocol): Promise<LeaderboardRowRecord[]>;
  /**
   * Metric by metric, first minus second, paired over groups. Throws EVALUATION_NOT_FOUND or
   * EVALUATIONS_NOT_COMPARABLE.
   */
  compare(viewer: Viewer, firstId: string, secondId: string): Promise<EvaluationComparisonRecord>;
  /**
   * What it predicted for the patches of the slide at this position of its version; undefined without stored
   * predictions, or for a slide that does not exist. Throws EVALUATION_NOT_FOUND, and BAD_INPUT for an unknown label.
   * @param label whose probability is the score; null: the last one.
   */
  slidePredictions(
    viewer: Viewer,
    id: string,
    position: number,
    label: string | null,
  ): Promise<SlidePredictionsRecord | undefined>;
  /** For the evaluation task, in the transaction that ends its run. */
  register(tx: Transaction, evaluation: NewEvaluation): Promise<void>;
}

export interface EvaluationServiceParts {
  readonly store: EvaluationStore;
  readonly runs: RunService;
  readonly datasets: DatasetService;
  readonly models: ModelService;
  readonly slidePatches: Pick<SlidePatchService, 'keysOf'>;
  /** Passes an artifact on chunk by chunk, and throws at its end if its digest is wrong. */
  readonly readArtifact: (sha256: string, take: (bytes: Uint8Array) => void) => Promise<void>;
}

export function createEvaluationService({
  store,
  runs,
  datasets,
  models,
  slidePatches,
  readArtifact,
}: EvaluationServiceParts): EvaluationService {
  const findOrThrow = async (id: string, field: string): Promise<ReportedEvaluationRecord> => {
    const evaluation = isId(id) ? await store.findReported(id) : undefined;
    if (evaluation !== undefined) return evaluation;
    throw new DomainError({
      code: 'EVALUATION_NOT_FOUND',
      message: 'No evaluation has this id.',
      field,
      hint: 'List the evaluations with the query `evaluations`.',
    });
  };

  return {
    get: async (viewer, id) => {
      authorise(viewer, 'READER');
      return isId(id) ? store.find(id) : undefined;
    },
    list: async (viewer, page, filter) => {
      authorise(viewer, 'READER');
      for (const [field, id] of Object.entries({
        checkpointId: filter.checkpointId,
        datasetVersionId: filter.datasetVersionId,
        datasetId: filter.datasetId,
      })) {
        if (id != null && !isId(id))
          throw new DomainError({
            code: 'BAD_INPUT',
            message: `${field} is not an id of this registry.`,
            field: `filter.${field}`,
          });
      }
      return store.list(page, filter);
    },
    ofCheckpoint: async (viewer, checkpointId, limit) => {
      authorise(viewer, 'READER');
      return isId(checkpointId) ? store.ofCheckpoint(checkpointId, limit) : [];
    },
    launch: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const input = parseInput(launchEvaluationSchema, raw);
      const checkpoint = await models.checkpointForUse(input.checkpointId, 'input.checkpointId');
      const [version] = await datasets.requireSealedVersions([input.datasetVersionId], () => 'input.datasetVersionId');
      if (version === undefined)
        throw new DomainError({
          code: 'DATASET_VERSION_NOT_FOUND',
          message: 'No dataset version has this id.',
          field: 'input.datasetVersionId',
        });
      checkEvaluable(input, version);
      if (input.protocol === 'FINE_TUNE') checkTrainable(checkpoint);
      const config = {
        checkpointId: checkpoint.id,
        checkpointSha256: checkpoint.sha256,
        datasetVersionId: version.id,
        datasetDigest: version.digest,
        protocol: input.protocol,
        folds: input.folds,
        seed: input.seed ?? randomInt(2 ** 31 - 1),
        randomEncoderSeed: RANDOM_ENCODER_SEED,
        options: optionsOf(input.protocol, input.options),
      };
      const [versionName = version.id] = await datasets.namesOf([version]);
      const title = titleOfEvaluation(input.protocol, await models.nameOf(checkpoint), versionName);
      return runs.enqueue({
        kind: 'EVALUATION',
        title,
        config,
        idempotencyKey: input.idempotencyKey ?? null,
        viewer,
        maxDurationSeconds: input.maxDurationSeconds ?? null,
        requirements: requirementsOf(input.requirements),
        input,
      });
    },
    leaderboard: async (viewer, datasetVersionId, protocol) => {
      authorise(viewer, 'READER');
      if (!isId(datasetVersionId)) return [];
      const { metric: metricName, sign } = rankingOf(protocol);
      const candidates = await store.candidates(datasetVersionId, protocol, metricName);
      const pretrainingOverlaps = await store.pretrainingOverlaps(
        candidates.map(({ evaluation }) => evaluation.checkpointId),
        datasetVersionId,
      );
      // True if the pretraining saw this dataset, by lineage or by measured leakage; null if nothing was measured and
      // the training of imported weights is unknown.
      const overlapsOf = ({ evaluation, leakage }: CandidateRecord): boolean | null => {
        const known = pretrainingOverlaps.get(evaluation.checkpointId);
        if (known?.overlaps === true) return true;
        if (leakage !== null) return overlapOf(leakage);
        return known?.isImported === true ? null : false;
      };
      const sorted = candidates.toSorted(
        (a, b) => sign * (b.metric.value - a.metric.value) || (a.evaluation.id < b.evaluation.id ? -1 : 1),
      );
      let rank = 0;
      return sorted.map((candidate, index) => {
        // Equal values share a rank.
        if (candidate.metric.value !== sorted[index - 1]?.metric.value) rank = index + 1;
        return {
          rank,
          evaluation: candidate.evaluation,
          metric: candidate.metric,
          overlapsPretraining: overlapsOf(candidate),
        };
      });
    },
    compare: async (viewer, firstId, secondId) => {
      authorise(viewer, 'READER');
      const [first, second] = [await findOrThrow(firstId, 'a'), await findOrThrow(secondId, 'b')];
      checkComparable(first, second);
      const readingOf = ({ predictionsSha256 }: EvaluationRecord): ReadPredictions => {
        if (predictionsSha256 === null) throw notComparable('one of them was made before predictions were stored');
        return (take) => readArtifact(predictionsSha256, take);
      };
      const [readFirst, readSecond] = [readingOf(first), readingOf(second)];
      const [version] = await datasets.requireSealedVersions([first.datasetVersionId]);
      if (version === undefined) throw new Error(`Dataset version ${first.datasetVersionId} is gone.`);
      return {
        first,
        second,
        // Both have the same folds of the same images; the older one may have been made before they were counted.
        ungroupedImageCount: ungroupedImageCountOf(first, version) ?? ungroupedImageCountOf(second, version),
        ...(await comparePredictions(first, readFirst, second, readSecond)),
      };
    },
    slidePredictions: async (viewer, id, position, label) => {
      authorise(viewer, 'READER');
      const { datasetVersionId, predictionsSha256, protocol, confusionMatrix } = await findOrThrow(id, 'id');
      const slide = await datasets.slide(viewer, datasetVersionId, position);
      if (slide === undefined || predictionsSha256 === null) return undefined;
      const labelNames = protocol === 'REGRESSION' ? null : (confusionMatrix?.labelNames ?? []);
      if (labelNames?.length === 0) return undefined;
      const keys = await slidePatches.keysOf(viewer, slide);
      return predictionsOfSlide(keys, (take) => readArtifact(predictionsSha256, take), labelNames, label);
    },
    register: (tx, evaluation) => store.create(tx, evaluation),
  };
}
