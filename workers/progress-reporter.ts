/**
 * Joins frequent progress reports into few, and sends them beside the work: every metric arrives, and of several
 * fractions and messages the last. While the registry is away the reports wait in memory and the work goes on.
 */
import { REPORT_POINTS_MAX, type MetricPoints, type NumberedReport } from '../src/protocol/runs.ts';

/** Often enough for a progress bar, rarely enough that the registry has little to do. */
const SEND_EVERY_MS = 300;
/** Hours of a training. With more, the work waits for the registry, so that memory does not grow for ever. */
const WAITING_POINTS_MAX = 100_000;

export interface ProgressReporter {
  /** Throws what ended the sending of an earlier report, such as LEASE_LOST. */
  progress(fraction: number, message?: string): Promise<void>;
  recordMetrics(fraction: number, points: MetricPoints): Promise<void>;
  /** Resolves when everything that was reported has been accepted. */
  flush(): Promise<void>;
}

/** @param send carries one report to the registry; it waits while the registry is away. */
export function createProgressReporter(send: (report: NumberedReport) => Promise<void>): ProgressReporter {
  let pending: { progress: number; message?: string; points: MetricPoints[] } | undefined;
  let lastSequence = 0;
  let lastSendMs = Number.NEGATIVE_INFINITY;
  let sending: Promise<void> | undefined;
  let failure: { readonly error: unknown } | undefined;

  const sendPending = async (): Promise<void> => {
    if (pending === undefined) return;
    const { progress, message, points } = pending;
    pending = undefined;
    lastSendMs = performance.now();
    const partCount = Math.max(1, Math.ceil(points.length / REPORT_POINTS_MAX));
    for (let part = 0; part < partCount; part += 1) {
      const some = points.slice(part * REPORT_POINTS_MAX, (part + 1) * REPORT_POINTS_MAX);
      lastSequence += 1;
      await send({
        sequence: lastSequence,
        progress,
        ...(message === undefined || part < partCount - 1 ? {} : { message }),
        ...(some.length === 0 ? {} : { points: some }),
      });
    }
  };
  /** One report at a time is under way, so that they arrive in their order. */
  const begin = (): Promise<void> => {
    sending ??= sendPending()
      .catch((error: unknown) => {
        failure = { error };
      })
      .finally(() => {
        sending = undefined;
      });
    return sending;
  };
  const throwFailure = (): void => {
    if (failure !== undefined) throw failure.error;
  };
  const sendWhenDue = async (): Promise<void> => {
    throwFailure();
    const isFull = (pending?.points.length ?? 0) >= WAITING_POINTS_MAX;
    if (isFull) await sending;
    if (sending === undefined && (isFull || performance.now() - lastSendMs >= SEND_EVERY_MS)) void begin();
    throwFailure();
  };
  return {
    progress: async (fraction, message) => {
      pending = {
        ...pending,
        points: pending?.points ?? [],
        progress: clamp(fraction),
        ...(message === undefined ? {} : { message }),
      };
      await sendWhenDue();
    },
    recordMetrics: async (fraction, { step, metrics }) => {
      // JSON has no NaN, and no chart shows one.
      const finite = Object.fromEntries(Object.entries(metrics).filter(([, value]) => Number.isFinite(value)));
      const points = pending?.points ?? [];
      points.push({ step, metrics: finite });
      pending = { ...pending, points, progress: clamp(fraction) };
      await sendWhenDue();
    },
    flush: async () => {
      await sending;
      throwFailure();
      await begin();
      throwFailure();
    },
  };
}

function clamp(fraction: number): number {
  return Math.min(1, Math.max(0, fraction));
}
