/** Artifacts: immutable bytes that something in the registry refers to. */
import { DomainError } from '../../errors.ts';
import type { ArtifactStore } from '../../platform/artifact-store.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import {
  findArtifact,
  markDamaged,
  recordArtifacts,
  type ArtifactRecord,
  type NewArtifact,
} from './artifacts.store.ts';

export interface ArtifactService {
  /** Undefined also for anything that is not a sha256. */
  get(viewer: Viewer, sha256: string): Promise<ArtifactRecord | undefined>;
  /** Called for workers inside the transaction that refers to the artifact; idempotent. */
  record(tx: Transaction, artifact: NewArtifact): Promise<void>;
  /**
   * Called for workers before they read parts of a file: reads and verifies the whole file once. A damaged file is
   * marked and moved to quarantine.
   * @throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT.
   */
  verify(sha256: string): Promise<void>;
  /**
   * For a reader that found bytes that do not match their digest: verifies again, moves the file to quarantine and
   * marks the row.
   */
  reportDamage(sha256: string): Promise<void>;
}

const SHA256_PATTERN = /^[0-9a-f]{64}$/;

export function createArtifactService({
  db,
  store,
}: {
  readonly db: Database;
  readonly store: ArtifactStore;
}): ArtifactService {
  const reportDamage = async (sha256: string): Promise<void> => {
    if (await store.quarantine(sha256)) await markDamaged(db, sha256);
  };
  return {
    get: async (viewer, sha256) => {
      authorise(viewer, 'READER');
      return SHA256_PATTERN.test(sha256) ? findArtifact(db, sha256) : undefined;
    },
    record: (tx, artifact) => recordArtifacts(tx, [artifact]),
    verify: async (sha256) => {
      try {
        await store.verify(sha256);
      } catch (error) {
        if (error instanceof DomainError && error.code === 'ARTIFACT_CORRUPT') await reportDamage(sha256);
        throw error;
      }
    },
    reportDamage,
  };
}
