/** The status transitions of runs, which failures are retried, and which parts of a run a viewer may see. Pure. */
import { z } from 'zod';
import { DomainError, UnreachableCaseError } from '../../errors.ts';
import {
  deviceKindSchema,
  memoryMiBSchema,
  workerLabelsSchema,
  type RunRequirements,
} from '../../protocol/requirements.ts';
import { RUN_LANES, type RunKind, type RunStatus } from '../../protocol/runs.ts';
import { ACCESS_ROLES, type Viewer } from '../access/index.ts';

/** The kinds in the same lane as this one. */
export function laneOf(kind: RunKind): readonly RunKind[] {
  return RUN_LANES.find((lane) => lane.includes(kind)) ?? [kind];
}

/** A terminal run never changes again, except that resuming it puts it back to QUEUED. */
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
 * The part of a run's config that `viewer` may see. Only viewers with the right to import see full paths on the server;
 * others see only the last part of a path.
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

/** Shorter while a cancel waits, so that a dead worker delays it by less than ten seconds. */
export const CANCELING_LEASE_SECONDS = 5;

/** The class of a run's failure, which decides about the next attempt. */
export interface FailureFacts {
  readonly class: 'USER' | 'DATA' | 'OUT_OF_MEMORY' | 'INFRASTRUCTURE' | 'TIMEOUT' | 'INTERNAL';
  readonly code: string;
}

/** Codes that belong to a retryable class although another attempt would fail in the same way. */
const FINAL_CODES: ReadonlySet<string> = new Set([
  'ARTIFACT_CORRUPT',
  'ARTIFACT_NOT_FOUND',
  'ENGINE_MISSING',
  'TIMED_OUT',
]);

/** True if another attempt may succeed without any change. */
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

/** Codes of external causes: the run itself may be sound. */
const CODES_FROM_OUTSIDE: ReadonlySet<string> = new Set(['WORKER_SILENT', 'DATABASE_UNREACHABLE']);

/** True if the attempt caused its own failure, so that another one will probably fail, too. */
export function isOwnFault(failure: FailureFacts): boolean {
  return !CODES_FROM_OUTSIDE.has(failure.code);
}

/** Batch norm needs at least two images in a pass. */
const MICRO_BATCH_MIN = 2;

/** The batch size, which is known from the launch on even if the steps are not planned yet. */
const batchFactsSchema = z.object({
  batchSize: z.number().int(),
  microBatchSize: z.number().int().nullable().default(null),
});

/**
 * The micro-batch with which a pretraining that ran out of memory is retried: half of the last one, or the next smaller
 * divisor of the batch. The effective batch does not change. Undefined if there is no smaller size, and for kinds
 * without a batch.
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

/** `RunRequirementsInput`; what is null is not given. */
export const requirementsInputSchema = z
  .object({
    device: deviceKindSchema.nullish(),
    bfloat16: z.boolean().nullish(),
    memoryMiB: memoryMiBSchema.nullish(),
    gpuMemoryMiB: memoryMiBSchema.nullish(),
    labels: workerLabelsSchema.nullish(),
  })
  .nullish();

/**
 * What a run needs: what the person asked for, and what follows from its config.
 * @throws DomainError BAD_INPUT for requirements that no worker can meet.
 */
export function requirementsOf(
  asked: z.infer<typeof requirementsInputSchema>,
  derived: { readonly bfloat16: boolean } = { bfloat16: false },
): RunRequirements {
  const { device, bfloat16, memoryMiB, gpuMemoryMiB, labels } = asked ?? {};
  if (device === 'CPU' && gpuMemoryMiB != null)
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'A run on a CPU cannot need memory of a GPU.',
      field: 'input.requirements.gpuMemoryMiB',
      hint: 'Leave gpuMemoryMiB out, or set device to GPU.',
    });
  return {
    device: device ?? (gpuMemoryMiB == null ? null : 'GPU'),
    bfloat16: derived.bfloat16 || bfloat16 === true,
    memoryMiB: memoryMiB ?? null,
    gpuMemoryMiB: gpuMemoryMiB ?? null,
    labels: labels ?? [],
  };
}

/** The requested part of a series, and its resolution. */
export interface MetricWindow {
  /** First and last step, both inclusive. */
  readonly fromStep: number;
  readonly toStep: number;
  /** A longer series is reduced to at most this many points, keeping its extremes. */
  readonly maxPoints: number;
}

export type Nullish<Facts> = { readonly [Key in keyof Facts]?: Facts[Key] | null | undefined };

/** About the width of a plot in pixels. */
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

export function leaseLost(): DomainError {
  return new DomainError({
    code: 'LEASE_LOST',
    message: 'The worker no longer holds the lease of this run.',
    hint: 'Another worker has taken the run over, or the run has ended.',
  });
}
