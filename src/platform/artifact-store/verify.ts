/** Comparing stored bytes with their name. */
import { createHash } from 'node:crypto';
import { createSha256 } from '../digest-thread.ts';
import type { TakeBlock } from '../http-body.ts';
import { artifactCorrupt, type ArtifactStore } from './store.ts';

/**
 * Reads the whole artifact, passes its bytes on as `ArtifactStore.scan` does, and compares the digest with the name.
 * @throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT, and what `take` throws.
 */
export async function readVerified(store: Pick<ArtifactStore, 'scan'>, sha256: string, take: TakeBlock): Promise<void> {
  const digest = createSha256();
  await store.scan(sha256, async (bytes) => {
    await Promise.all([digest.update(bytes), take(bytes)]);
  });
  if ((await digest.digest()) !== sha256) throw artifactCorrupt(sha256);
}

/** Reads the whole artifact without keeping it. Throws as `readVerified` does. */
export async function verifyArtifact(store: Pick<ArtifactStore, 'scan'>, sha256: string): Promise<void> {
  await readVerified(store, sha256, () => undefined);
}

/** The whole content. @throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT. */
export async function readWhole(store: Pick<ArtifactStore, 'open'>, sha256: string): Promise<Buffer> {
  const hash = createHash('sha256');
  const chunks: Buffer[] = [];
  for await (const chunk of await store.open(sha256)) {
    const bytes: Buffer = chunk;
    hash.update(bytes);
    chunks.push(bytes);
  }
  if (hash.digest('hex') !== sha256) throw artifactCorrupt(sha256);
  return Buffer.concat(chunks);
}

/** `ArtifactStore.scan` by a stream. */
export async function scanStream(store: Pick<ArtifactStore, 'open'>, sha256: string, take: TakeBlock): Promise<void> {
  for await (const chunk of await store.open(sha256)) await take(chunk);
}
