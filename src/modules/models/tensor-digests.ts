/**
 * Computes the tensor digests of checkpoints that were registered before digests existed, so that old weights are
 * recognised like new ones. Checkpoints are read in the background, one at a time; each digest is written immediately,
 * so that the next start continues where this one ended.
 */
import { encoderWeights } from '../../formats/encoder-file.ts';
import { tensorDigestOf } from '../../formats/tensor-digest.ts';
import type { Transact } from '../../platform/db.ts';
import type { LineageStore } from './lineage.store.ts';

export interface TensorDigestParts {
  readonly lineage: LineageStore;
  readonly transact: Transact;
  /** Reads an artifact whole and verifies its digest. */
  readonly readArtifact: (sha256: string) => Promise<Buffer>;
  /** Called for missing or damaged weights: their checkpoint stays without a digest. */
  readonly onUnreadable: (checkpointId: string, error: unknown) => void;
}

const PAGE_SIZE = 100;

/** @returns the number of digests that were added. */
export async function fillTensorDigests(
  { lineage, transact, readArtifact, onUnreadable }: TensorDigestParts,
  signal: AbortSignal,
): Promise<number> {
  let filledCount = 0;
  for (let after: string | undefined; ;) {
    const page = await lineage.withoutTensorDigest(after, PAGE_SIZE);
    for (const { id, sha256 } of page) {
      if (signal.aborted) return filledCount;
      try {
        const tensorDigest = tensorDigestOf(encoderWeights(await readArtifact(sha256)));
        await transact(async (tx) => {
          await lineage.fillTensorDigest(tx, id, tensorDigest);
          await lineage.shareTrainedOn(tx, tensorDigest);
        });
        filledCount += 1;
      } catch (error) {
        onUnreadable(id, error);
      }
    }
    if (page.length < PAGE_SIZE) return filledCount;
    after = page.at(-1)?.id;
  }
}
