/** Registers the outcome of a run, in the transaction that marks it SUCCEEDED. */
import { DomainError, UnreachableCaseError } from '../../errors.ts';
import { architectureNamed, describeEncoder } from '../../formats/encoders/index.ts';
import type { StoredBytes } from '../../protocol/artifacts.ts';
import type { TrainedEncoder } from '../../protocol/checkpoint.ts';
import { evaluationConfigSchema } from '../../protocol/evaluation.ts';
import { exportConfigSchema } from '../../protocol/export.ts';
import { importConfigSchema, type ImportOutcome } from '../../protocol/import.ts';
import type { RunOutcome } from '../../protocol/outcome.ts';
import { inputContractOf, pretrainingConfigSchema } from '../../protocol/pretraining/config.ts';
import type { Transaction } from '../../platform/db.ts';
import type { ArtifactService } from '../artifacts/index.ts';
import { MANIFEST_MEDIA_TYPE, type DatasetService, type SealedContent } from '../datasets/index.ts';
import { PREDICTIONS_MEDIA_TYPE, type EvaluationService } from '../evaluations/index.ts';
import type { ExportRegister } from '../exports/index.ts';
import type { ModelService } from '../models/index.ts';
import type { RunRecord } from '../runs/index.ts';

/** Where outcomes are registered. */
export interface Registers {
  readonly artifacts: ArtifactService;
  readonly datasets: DatasetService;
  readonly models: ModelService;
  readonly evaluations: Pick<EvaluationService, 'register'>;
  readonly exports: ExportRegister;
}

/** Every artifact that an outcome names. */
export function artifactsOfOutcome(outcome: RunOutcome): StoredBytes[] {
  switch (outcome.kind) {
    case 'IMPORT': {
      const { sealed } = outcome;
      if (sealed === null) return [];
      const { manifest, issueList, shards, thumbnails } = sealed;
      const pictures = picturesOfSlides(sealed).map(({ stored }) => stored);
      return [manifest, ...(issueList === null ? [] : [issueList]), ...shards, ...thumbnails, ...pictures];
    }
    case 'PRETRAINING':
      return outcome.encoders.map(({ weights }) => weights);
    case 'EVALUATION':
      return [outcome.predictions];
    case 'EXPORT':
      return outcome.exports.filter((each) => each.status === 'AVAILABLE');
    case 'EMBEDDING':
      return [];
    default:
      throw new UnreachableCaseError(outcome);
  }
}

/** Whatever does not come from the outcome is taken from the run's own config. */
export async function registerOutcome(
  parts: Registers,
  tx: Transaction,
  run: RunRecord,
  outcome: RunOutcome,
): Promise<void> {
  switch (outcome.kind) {
    case 'IMPORT':
      return sealVersion(parts, tx, run, outcome);
    case 'PRETRAINING':
      for (const encoder of outcome.encoders) await registerEncoder(parts, tx, run, encoder);
      return;
    case 'EVALUATION': {
      const { kind: _, predictions, ...records } = outcome;
      const { checkpointId, datasetVersionId, protocol, seed, options } = evaluationConfigSchema.parse(run.config);
      await parts.artifacts.record(tx, { ...predictions, mediaType: PREDICTIONS_MEDIA_TYPE });
      return parts.evaluations.register(tx, {
        ...{ checkpointId, datasetVersionId, protocol, seed, options, runId: run.id },
        ...records,
        predictionsSha256: predictions.sha256,
      });
    }
    case 'EXPORT': {
      const { checkpointId } = exportConfigSchema.parse(run.config);
      await parts.models.recordGolden(tx, checkpointId, outcome.golden);
      return parts.exports.register(tx, { checkpointId, runId: run.id, exports: outcome.exports });
    }
    case 'EMBEDDING':
      return;
    default:
      throw new UnreachableCaseError(outcome);
  }
}

/** Registers the encoder of a step of a pretraining; the same step a second time changes nothing. */
export async function registerEncoder(
  { models }: Pick<Registers, 'models'>,
  tx: Transaction,
  run: RunRecord,
  { step, probe, weights, tensorDigest, golden }: TrainedEncoder,
): Promise<void> {
  const config = pretrainingConfigSchema.parse(run.config);
  const inputContract = inputContractOf(config);
  await models.registerCheckpoint(tx, {
    modelSlug: config.modelSlug,
    encoder: config.encoder,
    embeddingDim: describeEncoder(architectureNamed(config.encoder)).embeddingDim(inputContract.pooling),
    inputContract,
    sourceRunId: run.id,
    step,
    epoch: config.steps === 0 ? 0 : (config.epochs * step) / config.steps,
    probe,
    ...weights,
    tensorDigest,
    golden,
    initialCheckpointId: config.initialCheckpointId,
    trainedOnVersionIds: step === 0 ? [] : config.datasets.map((dataset) => dataset.datasetVersionId),
  });
}

async function sealVersion(
  { datasets }: Pick<Registers, 'datasets'>,
  tx: Transaction,
  run: RunRecord,
  { sealed }: ImportOutcome,
): Promise<void> {
  const { datasetId, patchSizePx, dryRun } = importConfigSchema.parse(run.config);
  if (dryRun !== (sealed === null))
    throw new DomainError({
      code: 'OUTCOME_INVALID',
      message: dryRun ? 'A dry run seals no version.' : 'The outcome of an import is the version that it seals.',
      field: 'outcome.sealed',
    });
  if (sealed === null) return;
  const draft = await datasets.createDraftVersion(tx, { datasetId, importRunId: run.id, patchSizePx });
  await datasets.sealVersion(tx, { versionId: draft.id, ...contentOf(sealed) });
}

function picturesOfSlides({ slides }: NonNullable<ImportOutcome['sealed']>) {
  return slides.flatMap(({ tissue }) =>
    tissue === null
      ? []
      : [
          { stored: tissue.thumbnail, mediaType: 'image/webp' },
          { stored: tissue.mask, mediaType: 'image/png' },
        ],
  );
}

function contentOf(sealed: NonNullable<ImportOutcome['sealed']>): SealedContent {
  const { manifest, issueList, shards, thumbnails, ...facts } = sealed;
  const recorded = ({ sha256, byteSize }: StoredBytes, mediaType: string) => ({ sha256, byteSize, mediaType });
  return {
    ...facts,
    manifestSha256: manifest.sha256,
    ...(issueList === null ? {} : { issueListSha256: issueList.sha256 }),
    shards,
    thumbnails: thumbnails.map(({ sha256, label }) => ({ sha256, label })),
    artifacts: [
      recorded(manifest, MANIFEST_MEDIA_TYPE),
      ...(issueList === null ? [] : [recorded(issueList, 'text/csv; charset=utf-8')]),
      ...shards.map((shard) => recorded(shard, 'application/x-tar')),
      ...thumbnails.map((thumbnail) => recorded(thumbnail, 'image/webp')),
      ...picturesOfSlides(sealed).map(({ stored, mediaType }) => recorded(stored, mediaType)),
    ],
  };
}
