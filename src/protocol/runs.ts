/** What workers and the registry say about runs: their kinds, leases, telemetry, failures. */
import { z } from 'zod';

export const RUN_KINDS = ['IMPORT', 'PRETRAINING', 'EVALUATION', 'EXPORT', 'EMBEDDING'] as const;
export const runKindSchema = z.enum(RUN_KINDS);
export type RunKind = z.infer<typeof runKindSchema>;

export const RUN_STATUSES = ['QUEUED', 'RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED'] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

/**
 * A worker executes one run per lane at a time, so that a long training delays neither a small import nor a download.
 */
export const RUN_LANES: readonly (readonly RunKind[])[] = [
  ['PRETRAINING', 'EVALUATION', 'EMBEDDING'],
  ['IMPORT'],
  ['EXPORT'],
];

/**
 * A worker that has not renewed for this long is presumed dead. With the interval of the checks, that takes less than
 * 30 s.
 */
export const LEASE_SECONDS = 20;

/** A worker's right to write to a run: void as soon as another worker holds a higher epoch. */
export const runLeaseSchema = z.strictObject({ runId: z.uuid(), epoch: z.number().int().min(1) });
export type RunLease = Readonly<z.infer<typeof runLeaseSchema>>;

/** A worker's right to one part of a run that another worker holds: see part-calls.ts. */
export const partLeaseSchema = z.strictObject({
  runId: z.uuid(),
  part: z.int().min(0),
  /** Increased each time that a worker takes the part. */
  partEpoch: z.int().min(1),
});
export type PartLease = Readonly<z.infer<typeof partLeaseSchema>>;

export const heldLeaseSchema = z.union([runLeaseSchema, partLeaseSchema]);
export type HeldLease = RunLease | PartLease;

const LEASE_NAME = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(?:(\d{1,9})p)?(\d{1,9})$/;

/** Names what belongs to a lease: folders of a worker, uploads, unfinished files in an artifact store. */
export function leaseName(lease: HeldLease): string {
  return 'part' in lease ? `${lease.runId}-${lease.part}p${lease.partEpoch}` : `${lease.runId}-${lease.epoch}`;
}

/** @returns undefined if this is not the name of a lease. */
export function leaseNamed(name: string): HeldLease | undefined {
  const [, runId, part, epoch] = LEASE_NAME.exec(name) ?? [];
  if (runId === undefined) return undefined;
  return part === undefined ? { runId, epoch: Number(epoch) } : { runId, part: Number(part), partEpoch: Number(epoch) };
}

/** Why an attempt failed. The class decides about the next attempt. */
export const runFailureSchema = z.strictObject({
  class: z.enum(['USER', 'DATA', 'OUT_OF_MEMORY', 'INFRASTRUCTURE', 'TIMEOUT', 'INTERNAL']),
  code: z.string().max(100),
  /** One sentence. */
  message: z.string().max(10_000),
  hint: z.string().max(10_000).nullable(),
});
export type RunFailureRecord = Readonly<z.infer<typeof runFailureSchema>>;

const METRICS_PER_STEP_MAX = 100;

/** The metrics of one step, by name. */
export const metricPointsSchema = z.strictObject({
  step: z.number().int().min(0),
  metrics: z
    .record(z.string().min(1).max(100), z.number())
    .refine((metrics) => Object.keys(metrics).length <= METRICS_PER_STEP_MAX, {
      message: `must have at most ${METRICS_PER_STEP_MAX} metrics`,
    }),
});
export type MetricPoints = Readonly<z.infer<typeof metricPointsSchema>>;

/** More steps than this are sent in several reports, so that one transaction stays short. */
export const REPORT_POINTS_MAX = 1000;

export const progressReportSchema = z.strictObject({
  /** 0..1 */
  progress: z.number().min(0).max(1),
  message: z.string().max(10_000).optional(),
  /** Values of one or several steps; the event shows the last one. */
  points: z
    .array(metricPointsSchema)
    .max(REPORT_POINTS_MAX, `must have at most ${REPORT_POINTS_MAX} steps; send the others in the next report`)
    .readonly()
    .optional(),
});
export type ProgressReport = Readonly<z.infer<typeof progressReportSchema>>;

/** The reports of an attempt are numbered from 1, without a gap. */
export const numberedReportSchema = progressReportSchema.extend({ sequence: z.number().int().min(1) });
export type NumberedReport = Readonly<z.infer<typeof numberedReportSchema>>;
