/** Which status of a run may follow which, which failures are tried again, and what a viewer may see. Pure. */
import { z } from 'zod';
import { DomainError, UnreachableCaseError } from '../../errors.ts';
import { ACCESS_ROLES, type Viewer } from '../access/index.ts';

export const RUN_STATUSES = ['QUEUED', 'RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED'] as const;

export type RunStatus = (typeof RUN_STATUSES)[number];

export const RUN_KINDS = ['IMPORT', 'PRETRAINING', 'EVALUATION', 'EXPORT'] as const;

export type RunKind = (typeof RUN_KINDS)[number];

/**
 * Runs of one lane go one after another on a worker: a night of training must not keep a small import waiting, nor
 * either of them a download.
 */
export const RUN_LANES: readonly (readonly RunKind[])[] = [['PRETRAINING', 'EVALUATION'], ['IMPORT'], ['EXPORT']];

/** The kinds that wait in the same line as this one. */
export function laneOf(kind: RunKind): readonly RunKind[] {
  return RUN_LANES.find((lane) => lane.includes(kind)) ?? [kind];
}

/** A terminal run never changes again, but for a resumed one, which goes back to QUEUED under a new attempt. */
export function isTerminal(status: RunStatus): boolean {
  switch (status) {
    case 'QUEUED':
    case 'RUNNING':
    case 'CANCELING':
      return false;
    case 'SUCCEEDED':
    case 'FAILED':
    case 'CANCELED':
      return true;
    default:
      throw new UnreachableCaseError(status);
  }
}

/**
 * A run's config as `viewer` may see it. Where files lie on the server is a matter of those who may import: anybody
 * else sees the last part of a path.
 */
export function configShownTo(viewer: Viewer, config: unknown): unknown {
  const mayImport = viewer.kind === 'KEY' && ACCESS_ROLES.indexOf(viewer.role) >= ACCESS_ROLES.indexOf('CONTRIBUTOR');
  return mayImport ? config : withoutFolders(config);
}

function withoutFolders(value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith('/') ? `…/${value.split('/').at(-1) ?? ''}` : value;
  if (Array.isArray(value)) return value.map(withoutFolders);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutFolders(item)]));
}

/**
 * A worker that has not renewed for this long is taken for dead. With the time between two looks it makes less than 30
 * s.
 */
export const LEASE_SECONDS = 20;

/** While somebody waits for a cancel, a worker is given less: a dead one must not keep the run for ten seconds. */
export const CANCELING_LEASE_SECONDS = 5;

/** What went wrong with a run, as far as the next attempt is concerned. */
export interface FailureFacts {
  readonly class: 'USER' | 'DATA' | 'OUT_OF_MEMORY' | 'INFRASTRUCTURE' | 'TIMEOUT' | 'INTERNAL';
  readonly code: string;
}

/** Codes of a class that may get better, of which another attempt would come to the same end all the same. */
const FINAL_CODES: ReadonlySet<string> = new Set([
  'ARTIFACT_CORRUPT',
  'ARTIFACT_NOT_FOUND',
  'ENGINE_MISSING',
  'TIMED_OUT',
]);

/** True where another attempt may come to a better end without anybody's doing. */
export function isRetryable(failure: FailureFacts): boolean {
  switch (failure.class) {
    case 'INFRASTRUCTURE':
    case 'TIMEOUT':
      return !FINAL_CODES.has(failure.code);
    case 'OUT_OF_MEMORY':
    case 'USER':
    case 'DATA':
    case 'INTERNAL':
      return false;
    default:
      throw new UnreachableCaseError(failure.class);
  }
}

/** Codes of what befell an attempt from outside: the run itself may be sound. */
const CODES_FROM_OUTSIDE: ReadonlySet<string> = new Set(['WORKER_SILENT', 'DATABASE_UNREACHABLE']);

/** True where the attempt ended through its own fault, so that another one may well come to the same end. */
export function isOwnFault(failure: FailureFacts): boolean {
  return !CODES_FROM_OUTSIDE.has(failure.code);
}

/** A pass of fewer images has nothing to normalise a batch by. */
const MICRO_BATCH_MIN = 2;

/** Known from the launch on, also of a run whose steps its worker has yet to plan. */
const batchFactsSchema = z.object({
  batchSize: z.number().int(),
  microBatchSize: z.number().int().nullable().default(null),
});

/**
 * The micro-batch with which a pretraining that ran out of memory is retried: half of the last one, or
 * the next smaller divisor of the batch. The effective batch stays as it is. Undefined where nothing smaller is left,
 * and for kinds that have no batch.
 */
export function smallerMicroBatch(run: {
  readonly kind: RunKind;
  readonly config: unknown;
  readonly microBatchSize: number | null;
}): number | undefined {
  if (run.kind !== 'PRETRAINING') return undefined;
  const config = batchFactsSchema.parse(run.config);
  const half = Math.floor((run.microBatchSize ?? config.microBatchSize ?? config.batchSize) / 2);
  for (let size = half; size >= MICRO_BATCH_MIN; size -= 1) if (config.batchSize % size === 0) return size;
  return undefined;
}

/** Up to a year. */
export const maxDurationSchema = z
  .number()
  .int()
  .min(1, 'must be at least 1')
  .max(31_536_000, 'must be at most a year (31536000)');

/** Which part of a series is wanted, and how finely. */
export interface MetricWindow {
  /** First and last step that count, both included. */
  readonly fromStep: number;
  readonly toStep: number;
  /** A series of more points is thinned to at most this many, of which the extremes stay. */
  readonly maxPoints: number;
}

export type Nullish<Facts> = { readonly [Key in keyof Facts]?: Facts[Key] | null | undefined };

/** As many as a plot is wide. */
export const METRIC_POINTS_DEFAULT = 1000;

const STEP_LAST = 2_147_483_647;

/** @throws DomainError BAD_INPUT for a number out of range. */
export function metricWindowOf({ fromStep, toStep, maxPoints }: Nullish<MetricWindow>): MetricWindow {
  const inRange = (field: string, value: number, least: number, most: number): number => {
    if (value >= least && value <= most) return value;
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `${field} must be ${least} to ${most}, not ${value}.`,
      field,
      hint: 'Narrow fromStep and toStep to see a part of a series point by point.',
    });
  };
  return {
    fromStep: inRange('fromStep', fromStep ?? 0, 0, STEP_LAST),
    toStep: inRange('toStep', toStep ?? STEP_LAST, 0, STEP_LAST),
    maxPoints: inRange('maxPoints', maxPoints ?? METRIC_POINTS_DEFAULT, 10, 100_000),
  };
}
