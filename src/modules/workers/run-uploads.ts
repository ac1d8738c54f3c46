/** Unfinished uploads of claimed runs: each belongs to a lease, and is removed when that no longer holds its run. */
import type { UploadStore } from '../../platform/upload-store.ts';
import type { RunLease } from '../../protocol/runs.ts';
import type { RunLedger } from '../runs/index.ts';

const OWNER = /^run:([0-9a-f-]{36}):(\d{1,9})$/;

/** What an upload of a run has in place of the id of a key. */
export function uploadOwnerOf({ runId, epoch }: RunLease): string {
  return `run:${runId}:${epoch}`;
}

function leaseOfOwner(owner: string): RunLease | undefined {
  const [, runId, epoch] = OWNER.exec(owner) ?? [];
  return runId === undefined ? undefined : { runId, epoch: Number(epoch) };
}

/** @returns the number of removed uploads. */
export async function removeUploadsOfLostRuns(
  uploads: Pick<UploadStore, 'owners' | 'removeOf'>,
  ledger: Pick<RunLedger, 'held'>,
): Promise<number> {
  const leases = (await uploads.owners()).flatMap((owner) => leaseOfOwner(owner) ?? []);
  if (leases.length === 0) return 0;
  const held = new Set((await ledger.held(leases)).map(uploadOwnerOf));
  let removed = 0;
  for (const owner of leases.map(uploadOwnerOf)) if (!held.has(owner)) removed += await uploads.removeOf(owner);
  return removed;
}
