/** What may be evaluated, and how. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { idempotencyKeySchema, maxDurationSchema } from '../runs/index.ts';

export const EVALUATION_PROTOCOLS = ['LINEAR_PROBE', 'KNN', 'FINE_TUNE', 'REGRESSION'] as const;

const linearProbeOptionsSchema = z.strictObject({
  /** Resamples of the bootstrap over groups that gives the 95 % intervals. */
  bootstrapResamples: z.number().int().min(100).max(10_000).default(1000),
});

export const launchEvaluationSchema = z.object({
  checkpointId: z.string(),
  datasetVersionId: z.string(),
  protocol: z.enum(EVALUATION_PROTOCOLS),
  folds: z.number().int().min(2, 'must be at least 2').max(100, 'must be at most 100'),
  seed: z.number().int().min(0).max(2_147_483_647).nullish(),
  options: linearProbeOptionsSchema.nullish(),
  maxDurationSeconds: maxDurationSchema.nullish(),
  idempotencyKey: idempotencyKeySchema.nullish(),
});
export type LaunchEvaluationInput = z.infer<typeof launchEvaluationSchema>;

/** An evaluation as it is frozen at launch. */
export const evaluationConfigSchema = z.object({
  checkpointId: z.string(),
  checkpointSha256: z.string(),
  datasetVersionId: z.string(),
  datasetDigest: z.string(),
  protocol: z.enum(EVALUATION_PROTOCOLS),
  folds: z.number().int(),
  seed: z.number().int(),
  options: linearProbeOptionsSchema,
});
export type EvaluationConfig = z.infer<typeof evaluationConfigSchema>;

/** What the rules need to know of the version. */
export interface LabelledVersionFacts {
  readonly labelNames: readonly string[];
  readonly imageCount: number;
  readonly groupCount: number;
  readonly hasSplit: boolean;
}

/**
 * Refuses what no protocol can measure, before anything is queued.
 * @throws DomainError TOO_FEW_LABELS, TOO_FEW_IMAGES, TOO_FEW_GROUPS or NOT_AVAILABLE, each naming its field.
 */
export function checkEvaluable(input: LaunchEvaluationInput, version: LabelledVersionFacts): void {
  if (input.protocol !== 'LINEAR_PROBE') {
    throw new DomainError({ code: 'NOT_AVAILABLE', message: `The protocol ${input.protocol} is not available yet.`, field: 'input.protocol', hint: 'Use LINEAR_PROBE.' });
  }
  if (version.labelNames.length < 2) {
    const found = version.labelNames.length === 0 ? 'no labels' : `only the label "${version.labelNames.join('')}"`;
    throw new DomainError({ code: 'TOO_FEW_LABELS', message: `The version has ${found}; a probe needs at least two.`, field: 'input.datasetVersionId', hint: 'Import it with layout FOLDER_PER_LABEL or CSV.' });
  }
  if (version.hasSplit) return;
  if (version.imageCount < input.folds) {
    throw new DomainError({ code: 'TOO_FEW_IMAGES', message: `The version has ${version.imageCount} images, fewer than ${input.folds} folds.`, field: 'input.folds', hint: `Take at most ${version.imageCount} folds, or import more images.` });
  }
  if (version.groupCount < input.folds) {
    throw new DomainError({ code: 'TOO_FEW_GROUPS', message: `The version has ${version.groupCount} groups, fewer than ${input.folds} folds; a group is never split.`, field: 'input.folds', hint: `Take at most ${version.groupCount} folds.` });
  }
}
