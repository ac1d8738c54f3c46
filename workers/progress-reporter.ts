/**
 * Joins frequent progress reports into few writes: every metric is written, and of several fractions and messages the
 * last.
 */
import type { MetricPoints, ProgressReport } from '../src/protocol/runs.ts';

/** Often enough for a progress bar, rarely enough that a fast training does not wait for its database. */
const WRITE_EVERY_MS = 300;

export interface ProgressReporter {
  progress(fraction: number, message?: string): Promise<void>;
  recordMetrics(fraction: number, points: MetricPoints): Promise<void>;
  /** Writes what is pending; called at the end. */
  flush(): Promise<void>;
}

export function createProgressReporter(write: (report: ProgressReport) => Promise<void>): ProgressReporter {
  let pending: { progress: number; message?: string; points: MetricPoints[] } | undefined;
  let lastWriteMs = Number.NEGATIVE_INFINITY;

  const flush = async (): Promise<void> => {
    if (pending === undefined) return;
    const { progress, message, points } = pending;
    pending = undefined;
    lastWriteMs = performance.now();
    await write({
      progress,
      ...(message === undefined ? {} : { message }),
      ...(points.length === 0 ? {} : { points }),
    });
  };
  const writeWhenDue = async (): Promise<void> => {
    if (performance.now() - lastWriteMs >= WRITE_EVERY_MS) await flush();
  };
  return {
    progress: async (fraction, message) => {
      pending = {
        ...pending,
        points: pending?.points ?? [],
        progress: clamp(fraction),
        ...(message === undefined ? {} : { message }),
      };
      await writeWhenDue();
    },
    recordMetrics: async (fraction, points) => {
      pending = { ...pending, points: [...(pending?.points ?? []), points], progress: clamp(fraction) };
      await writeWhenDue();
    },
    flush,
  };
}

function clamp(fraction: number): number {
  return Math.min(1, Math.max(0, fraction));
}
