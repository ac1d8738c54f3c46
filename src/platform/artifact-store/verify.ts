/** Comparing stored bytes with their name. */
import { createHash } from 'node:crypto';
import { artifactCorrupt, type ArtifactStore } from './store.ts';

type Opening = Pick<ArtifactStore, 'open'>;

/**
 * Reads the whole artifact, passes each chunk on, then compares the digest with the name.
 * @throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT.
 */
export async function readVerified(store: Opening, sha256: string, take: (bytes: Buffer) => unknown): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of await store.open(sha256)) {
    const bytes: Buffer = chunk;
    hash.update(bytes);
    await take(bytes);
  }
  if (hash.digest('hex') !== sha256) throw artifactCorrupt(sha256);
}

/** Reads the whole artifact without keeping it. Throws as `readVerified` does. */
export async function verifyArtifact(store: Opening, sha256: string): Promise<void> {
  await readVerified(store, sha256, () => undefined);
}

/** The whole content. Throws as `readVerified` does. */
export async function readWhole(store: Opening, sha256: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await readVerified(store, sha256, (bytes) => chunks.push(bytes));
  return Buffer.concat(chunks);
}
