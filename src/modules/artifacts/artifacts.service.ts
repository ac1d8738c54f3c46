/** Artifacts: immutable bytes that something in the registry refers to. */
import type { Database, Transaction } from '../../platform/db.ts';
import { authorise, type Viewer } from '../access/index.ts';
import { findArtifact, recordArtifacts, type ArtifactRecord, type NewArtifact } from './artifacts.store.ts';

export interface ArtifactService {
  /** Undefined for what is no sha256, too. */
  get(viewer: Viewer, sha256: string): Promise<ArtifactRecord | undefined>;
  /** For workers, inside the transaction that refers to the artifact; the same one twice is no fault. */
  record(tx: Transaction, artifact: NewArtifact): Promise<void>;
}

const SHA256_PATTERN = /^[0-9a-f]{64}$/;

export function createArtifactService({ db }: { readonly db: Database }): ArtifactService {
  return {
    get: async (viewer, sha256) => {
      authorise(viewer, 'READER');
      return SHA256_PATTERN.test(sha256) ? findArtifact(db, sha256) : undefined;
    },
    record: (tx, artifact) => recordArtifacts(tx, [artifact]),
  };
}
