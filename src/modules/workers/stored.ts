/** Proof that bytes that a worker names are in the artifact store. */
import { DomainError } from '../../errors.ts';
import type { ArtifactStore, StoredBytes } from '../../platform/artifact-store/index.ts';

/** A large version names thousands of shards, and a bucket answers each question in some milliseconds. */
const QUESTIONS_AT_ONCE = 16;

/**
 * The registry refers only to bytes that it has, so that nothing is registered that nobody can read.
 * @throws DomainError ARTIFACT_NOT_FOUND for bytes that are not stored, OUTCOME_INVALID for another size.
 */
export async function requireStored(store: Pick<ArtifactStore, 'stat'>, named: readonly StoredBytes[]): Promise<void> {
  const left = named.values();
  const ask = async (): Promise<void> => {
    for (const { sha256, byteSize } of left) {
      const stored = await store.stat(sha256);
      if (stored === undefined)
        throw new DomainError({
          code: 'ARTIFACT_NOT_FOUND',
          message: `Artifact ${sha256} is not in the store.`,
          field: 'sha256',
          hint: 'Store its bytes before the call that names it.',
        });
      if (stored.byteSize !== byteSize)
        throw new DomainError({
          code: 'OUTCOME_INVALID',
          message: `Artifact ${sha256} has ${stored.byteSize} bytes, not ${byteSize}.`,
          field: 'byteSize',
          hint: 'Send the size that the store answered with.',
        });
    }
  };
  await Promise.all(Array.from({ length: QUESTIONS_AT_ONCE }, ask));
}
