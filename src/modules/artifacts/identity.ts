/**
 * Ties an artifact store to its registry: the database and the store hold the same identity. Without this
 * check, a worker with the wrong store would claim runs and fail each one because its artifacts are missing.
 */
import { randomUUID } from 'node:crypto';
import { DomainError } from '../../errors.ts';
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
import type { Database } from '../../platform/db.ts';
import { findStoreId, newestArtifacts, recordStoreId } from './artifacts.store.ts';

/**
 * Recently recorded digests. If one of them is in a store that lacks the identity file, the store is the registry's
 * own.
 */
const SAMPLE_SIZE = 20;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface RegistryStore {
  readonly db: Database;
  readonly store: ArtifactStore;
}

/**
 * Called by the server at its start. A registry without an identity takes the store's. A store without an identity
 * takes the registry's if it holds the registry's artifacts or is empty.
 * @throws DomainError CONFLICT when the store belongs to another registry or holds none of this one's artifacts.
 */
export async function claimArtifactStore({ db, store }: RegistryStore): Promise<void> {
  const found = await identityOf(store);
  const storeId = await recordStoreId(db, found ?? randomUUID());
  if (storeId === found) return;
  if (found !== undefined || !(await containsArtifactOf({ db, store }))) throw otherStore(store, storeId);
  await giveIdentity(store, storeId);
}

/**
 * Called by a restore that has just filled the store, and before the artifacts of a registry are copied into it: gives
 * the store the registry's identity.
 * @throws DomainError CONFLICT when the store belongs to another registry.
 */
export async function adoptArtifactStore({ db, store }: RegistryStore): Promise<void> {
  const found = await identityOf(store);
  const storeId = await recordStoreId(db, randomUUID());
  if (found !== undefined && found !== storeId) throw otherStore(store, storeId);
  await giveIdentity(store, storeId);
}

/**
 * Called by a worker at its start. A registry that no server has served yet has no store to compare with.
 * @throws DomainError CONFLICT when its store is not the server's.
 */
export async function requireArtifactStore({ db, store }: RegistryStore): Promise<void> {
  const storeId = await findStoreId(db);
  if (storeId !== undefined && storeId !== (await identityOf(store))) throw otherStore(store, storeId);
}

async function giveIdentity(store: ArtifactStore, storeId: string): Promise<void> {
  await store.upkeep.writeIdentity(storeId);
  // Two servers may claim an empty bucket at the same time, and a restore may name the bucket of another registry.
  if ((await identityOf(store)) !== storeId) throw otherStore(store, storeId);
}

async function identityOf({ location, upkeep }: ArtifactStore): Promise<string | undefined> {
  const storeId = await upkeep.readIdentity();
  if (storeId === undefined || UUID.test(storeId)) return storeId;
  throw new Error(`The store-id of ${location} does not contain the identity of an artifact store.`);
}

/** Also true if no artifact has been recorded yet. */
async function containsArtifactOf({ db, store }: RegistryStore): Promise<boolean> {
  const newest = await newestArtifacts(db, SAMPLE_SIZE);
  if (newest.length === 0) return true;
  for (const sha256 of newest) if ((await store.stat(sha256)) !== undefined) return true;
  return false;
}

function otherStore({ location }: ArtifactStore, storeId: string): DomainError {
  const setting = location.startsWith('s3://') ? 'PARAFFIN_ARTIFACTS_URL' : 'PARAFFIN_DATA_DIR';
  return new DomainError({
    code: 'CONFLICT',
    message: `${location} is not the artifact store of this registry.`,
    field: setting,
    hint: `Set ${setting} as it is set for the registry's server. If the artifacts of the registry were moved here, write ${storeId} into ${location}/store-id.`,
  });
}
