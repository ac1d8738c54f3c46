/** Validation of the launch of an evaluation. Pure. */
import { FINE_TUNABLE_ENCODERS } from '../../formats/encoders/index.ts';
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { idempotencyKeySchema } from '../../input.ts';
import type { DatasetVersionRecord } from '../datasets/index.ts';
import type { CheckpointRecord } from '../models/index.ts';
import { maxDurationSchema, requirementsInputSchema } from '../runs/index.ts';
import type { EvaluationRecord } from './evaluations.records.ts';
import { EVALUATION_PROTOCOLS } from '../../protocol/evaluation.ts';

export const launchEvaluationSchema = z.object({
  checkpointId: z.string(),
  datasetVersionId: z.string(),
  protocol: z.enum(EVALUATION_PROTOCOLS),
  folds: z.number().int().min(2, 'must be at least 2').max(100, 'must be at most 100'),
  seed: z.number().int().min(0).max(2_147_483_647).nullish(),
  /** Checked by `optionsOf` for the protocol. */
  options: z.unknown().optional(),
  maxDurationSeconds: maxDurationSchema.nullish(),
  requirements: requirementsInputSchema,
  idempotencyKey: idempotencyKeySchema.nullish(),
});
export type LaunchEvaluationInput = z.infer<typeof launchEvaluationSchema>;

/** @param checkpointName and versionName as `slug@version`. */
export function titleOfEvaluation(
  protocol: LaunchEvaluationInput['protocol'],
  checkpointName: string,
  versionName: string,
): string {
  return `${protocol.toLowerCase().replaceAll('_', ' ')} of ${checkpointName} on ${versionName}`;
}

/** The facts of the version that the rules need. */
export interface LabelledVersionFacts {
  readonly labelNames: readonly string[];
  readonly imageCount: number;
  readonly groupCount: number;
  readonly ungroupedImageCount: number | null;
  readonly hasSplit: boolean;
}

/**
 * Refuses to fine-tune an encoder that the engine cannot train, before a run is queued.
 * @throws DomainError CHECKPOINT_INCOMPATIBLE.
 */
export function checkTrainable({ encoder }: Pick<CheckpointRecord, 'encoder'>): void {
  if (FINE_TUNABLE_ENCODERS.some((each) => each === encoder)) return;
  throw new DomainError({
    code: 'CHECKPOINT_INCOMPATIBLE',
    message: "Only torchvision's ResNets can be fine-tuned; this checkpoint is another network.",
    field: 'input.protocol',
    hint: 'Use LINEAR_PROBE or KNN, which embed the images without training the encoder.',
  });
}

/**
 * Refuses versions that no protocol can evaluate, before a run is queued.
 * @throws DomainError TOO_FEW_LABELS, LABELS_NOT_NUMERIC, TOO_FEW_IMAGES or TOO_FEW_GROUPS, each naming its field.
 */
export function checkEvaluable(input: LaunchEvaluationInput, version: LabelledVersionFacts): void {
  if (version.labelNames.length < 2) {
    const found = version.labelNames.length === 0 ? 'no labels' : `only the label "${version.labelNames.join('')}"`;
    throw new DomainError({
      code: 'TOO_FEW_LABELS',
      message: `The version has ${found}; an evaluation needs at least two.`,
      field: 'input.datasetVersionId',
      hint: 'Import the images with layout FOLDER_PER_LABEL or CSV.',
    });
  }
  const wordLabel = version.labelNames.find((label) => !isNumber(label));
  if (input.protocol === 'REGRESSION' && wordLabel !== undefined) {
    throw new DomainError({
      code: 'LABELS_NOT_NUMERIC',
      message: `The label "${wordLabel}" is not a number, and a regression predicts numbers.`,
      field: 'input.datasetVersionId',
      hint: 'Use LINEAR_PROBE or KNN, or import a CSV whose labels are numbers.',
    });
  }
  if (version.hasSplit) return;
  if (version.imageCount < input.folds) {
    throw new DomainError({
      code: 'TOO_FEW_IMAGES',
      message: `The version has ${version.imageCount} images, fewer than ${input.folds} folds.`,
      field: 'input.folds',
      hint: `Use at most ${version.imageCount} folds, or import more images.`,
    });
  }
  // The files of images without a group are divided instead; how many there are is known only to the manifest.
  if (version.ungroupedImageCount === 0 && version.groupCount < input.folds) {
    throw new DomainError({
      code: 'TOO_FEW_GROUPS',
      message: `The version has ${version.groupCount} groups, fewer than ${input.folds} folds; a group is never split.`,
      field: 'input.folds',
      hint: `Use at most ${version.groupCount} folds.`,
    });
  }
}

/**
 * Number of images, trained on or tested on, whose group is unknown; null if it cannot be known. Evaluations made
 * before this was recorded have it from their version if every image, or none, lacks a group or a label.
 */
export function ungroupedImageCountOf(
  { ungroupedImageCount }: Pick<EvaluationRecord, 'ungroupedImageCount'>,
  version: Pick<DatasetVersionRecord, 'imageCount' | 'labelCounts' | 'ungroupedImageCount'>,
): number | null {
  if (ungroupedImageCount !== null) return ungroupedImageCount;
  const labelledImageCount = version.labelCounts.reduce((sum, { count }) => sum + count, 0);
  if (version.ungroupedImageCount === version.imageCount) return labelledImageCount;
  const isEveryImageUsed = labelledImageCount === version.imageCount;
  return version.ungroupedImageCount === 0 || isEveryImageUsed ? version.ungroupedImageCount : null;
}

function isNumber(label: string): boolean {
  return label.trim() !== '' && Number.isFinite(Number(label));
}
