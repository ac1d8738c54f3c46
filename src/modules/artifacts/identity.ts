/**
 * Ties an artifact store to its registry: the database and a file in the store hold the same identity. Without this
 * check, a worker with the wrong store would claim runs and fail each one because its artifacts are missing.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../../errors.ts';
import { openArtifactStore } from '../../platform/artifact-store.ts';
import type { Database } from '../../platform/db.ts';
import { findStoreId, newestArtifacts, recordStoreId } from './artifacts.store.ts';

/** In the store's root; fsck and gc look at the folders beside it. */
const IDENTITY_FILE = 'store-id';
/**
 * Recently recorded digests. If one of them is in a store that lacks the identity file, the store is the registry's
 * own.
 */
const SAMPLE_SIZE = 20;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface RegistryStore {
  readonly db: Database;
  /** The root of the local artifact store. */
  readonly artifactsDir: string;
}

/**
 * Called by the server at its start. A registry without an identity takes the store's. A store without an identity
 * takes the registry's if it holds the registry's artifacts or is empty.
 * @throws DomainError CONFLICT when the store belongs to another registry or holds none of this one's artifacts.
 */
export async function claimArtifactStore({ db, artifactsDir }: RegistryStore): Promise<void> {
  const found = await identityOf(artifactsDir);
  const storeId = await recordStoreId(db, found ?? randomUUID());
  if (storeId === found) return;
  if (found !== undefined || !(await containsArtifactOf({ db, artifactsDir }))) throw otherStore(artifactsDir, storeId);
  await writeIdentity(artifactsDir, storeId);
}

/** Called by a restore that has just filled the store: gives the store the registry's identity. */
export async function adoptArtifactStore({ db, artifactsDir }: RegistryStore): Promise<void> {
  await writeIdentity(artifactsDir, await recordStoreId(db, randomUUID()));
}

/**
 * Called by a worker at its start. A registry that no server has served yet has no store to compare with.
 * @throws DomainError CONFLICT when its store is not the server's.
 */
export async function requireArtifactStore({ db, artifactsDir }: RegistryStore): Promise<void> {
  const storeId = await findStoreId(db);
  if (storeId !== undefined && storeId !== (await identityOf(artifactsDir))) throw otherStore(artifactsDir, storeId);
}

async function writeIdentity(artifactsDir: string, storeId: string): Promise<void> {
  await mkdir(artifactsDir, { recursive: true, mode: 0o700 });
  await writeFile(path.join(artifactsDir, IDENTITY_FILE), `${storeId}\n`, { mode: 0o600 });
}

async function identityOf(artifactsDir: string): Promise<string | undefined> {
  const text = await readFile(path.join(artifactsDir, IDENTITY_FILE), 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  });
  const storeId = text?.trim();
  if (storeId === undefined || UUID.test(storeId)) return storeId;
  throw new Error(`${path.join(artifactsDir, IDENTITY_FILE)} does not contain the identity of an artifact store.`);
}

/** Also true if no artifact has been recorded yet. */
async function containsArtifactOf({ db, artifactsDir }: RegistryStore): Promise<boolean> {
  const store = openArtifactStore(artifactsDir);
  const newest = await newestArtifacts(db, SAMPLE_SIZE);
  if (newest.length === 0) return true;
  for (const sha256 of newest) if ((await store.byteSizeOf(sha256)) !== undefined) return true;
  return false;
}

function otherStore(artifactsDir: string, storeId: string): DomainError {
  return new DomainError({
    code: 'CONFLICT',
    message: `${artifactsDir} is not the artifact store of this registry.`,
    field: 'PARAFFIN_DATA_DIR',
    hint: `Set PARAFFIN_DATA_DIR to the data directory of the registry's server. If the artifacts of the registry were moved here, write ${storeId} into ${path.join(artifactsDir, IDENTITY_FILE)}.`,
  });
}
