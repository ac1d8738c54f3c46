/**
 * Unfinished uploads of claimed runs and parts, on the server and in a bucket: each belongs to a lease, and is removed
 * when that no longer holds.
 */
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import type { UploadStore } from '../../platform/upload-store.ts';
import { leaseName, leaseNamed, type HeldLease } from '../../protocol/runs.ts';
import type { RunLedger } from '../runs/index.ts';

const OWNER = /^run[:-]([0-9a-f-]{36})[:-](.+)$/;

/** What an upload of a run has in place of the id of a key. */
export function uploadOwnerOf(lease: HeldLease): string {
  return `run:${leaseName(lease)}`;
}

/** As which writer a run sends parts straight to the artifact store; a part of keys there. */
export function storeWriterOf(lease: HeldLease): string {
  return `run-${leaseName(lease)}`;
}

function leaseOfOwner(owner: string): HeldLease | undefined {
  const [, runId, rest] = OWNER.exec(owner) ?? [];
  return runId === undefined ? undefined : leaseNamed(`${runId}-${rest}`);
}

/** What uploads of runs are removed from. */
export interface RunUploadPlaces {
  readonly uploads: Pick<UploadStore, 'owners' | 'removeOf'>;
  readonly store: { readonly upkeep: Pick<ArtifactStore['upkeep'], 'unfinishedWriters' | 'removeUnfinished'> };
  readonly ledger: Pick<RunLedger, 'held'>;
}

export async function removeUploadsOfLostRuns({ uploads, store, ledger }: RunUploadPlaces): Promise<void> {
  const { upkeep } = store;
  for (const owner of await lost(await uploads.owners(), ledger)) await uploads.removeOf(owner);
  for (const writer of await lost(await upkeep.unfinishedWriters(), ledger)) await upkeep.removeUnfinished(writer);
}

/** Those that are named after a lease that no longer holds its run. */
async function lost(names: readonly string[], ledger: Pick<RunLedger, 'held'>): Promise<string[]> {
  const named = names.flatMap((name) => {
    const lease = leaseOfOwner(name);
    return lease === undefined ? [] : [{ name, lease }];
  });
  if (named.length === 0) return [];
  const held = new Set((await ledger.held(named.map(({ lease }) => lease))).map(uploadOwnerOf));
  return named.filter(({ lease }) => !held.has(uploadOwnerOf(lease))).map(({ name }) => name);
}
