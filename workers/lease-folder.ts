/** Names the private folders of a lease: its work folder, and its unfinished files in the artifact store. */
import type { RunLease } from '../src/protocol/runs.ts';

const NAME = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(\d{1,9})$/;

export function folderOf({ runId, epoch }: RunLease): string {
  return `${runId}-${epoch}`;
}

/** @returns undefined if the name is not that of a lease's folder. */
export function leaseOf(folder: string): RunLease | undefined {
  const [, runId, epoch] = NAME.exec(folder) ?? [];
  return runId === undefined ? undefined : { runId, epoch: Number(epoch) };
}
