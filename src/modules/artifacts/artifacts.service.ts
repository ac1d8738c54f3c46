/** Artifacts: immutable bytes that something in the registry refers to. */
import type { ArtifactStore } from '../../platform/artifact-store/index.ts';
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
  return {
    get: async (viewer, sha256) => {
      authorise(viewer, 'READER');
      return SHA256_PATTERN.test(sha256) ? findArtifact(db, sha256) : undefined;
    },
    record: (tx, artifact) => recordArtifacts(tx, [artifact]),
    reportDamage: async (sha256) => {
      if (await store.upkeep.quarantine(sha256)) await markDamaged(db, sha256);
    },
  };
}
