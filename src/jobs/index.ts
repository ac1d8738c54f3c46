/** The queue's job for each kind of run. */
import type { RunKind } from '../generated/prisma/enums.ts';
import { defineJob, runJobPayload, type Job, type RunJobPayload } from './define-job.ts';

export const RUN_JOBS: Readonly<Record<RunKind, Job<RunJobPayload>>> = {
  IMPORT: defineJob('import-dataset', runJobPayload),
  PRETRAINING: defineJob('pretrain', runJobPayload),
  EVALUATION: defineJob('evaluate', runJobPayload),
  EXPORT: defineJob('export', runJobPayload),
  EMBEDDING: defineJob('embed', runJobPayload),
};

export type { Job, RunJobPayload };
