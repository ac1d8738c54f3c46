/** Which workers count as living, and why none of them takes a run. Pure. */
import { whyNoWorker, type DemandingRun } from '../../protocol/requirements.ts';
import type { RunStatus } from '../../protocol/runs.ts';
import type { WorkerRecord } from './workers.records.ts';

/** A worker asks every 20 s, and renews every second. */
export const ALIVE_MS = 60_000;

export function isAlive({ lastHeardAt }: Pick<WorkerRecord, 'lastHeardAt'>, nowMs: number): boolean {
  return nowMs - lastHeardAt.getTime() < ALIVE_MS;
}

/**
 * Why a queued run cannot begin, whatever its place in the queue.
 * @returns one sentence without its end; null for a run that some living worker takes, or that is not queued.
 */
export function obstacleOf(
  run: DemandingRun & { readonly status: RunStatus },
  workers: readonly WorkerRecord[],
  nowMs: number,
): string | null {
  if (run.status !== 'QUEUED') return null;
  return whyNoWorker(
    run,
    workers.filter((worker) => isAlive(worker, nowMs)),
  );
}
