/** Rows of artifacts in PostgreSQL; their bytes are in the artifact store. */
import type { Database, Transaction } from '../../platform/db.ts';

export interface ArtifactRecord {
  /** Lower-case hex. */
  readonly sha256: string;
  readonly byteSize: number;
  readonly mediaType: string;
  readonly createdAt: Date;
  /** When its bytes were found missing or changed; null if no damage is known. */
  readonly damagedAt: Date | null;
}

export type NewArtifact = Pick<ArtifactRecord, 'sha256' | 'byteSize' | 'mediaType'>;

/**
 * Records artifacts that have just been stored. A row that exists already only gets a new time. Because this and
 * garbage collection lock the same rows, one waits for the other, and garbage collection then keeps rows with a new
 * time. Called by workers and other modules inside their transaction.
 */
export async function recordArtifacts(tx: Transaction, artifacts: readonly NewArtifact[]): Promise<void> {
  // Each digest once and in sorted order, so that two transactions that record the same artifacts cannot deadlock.
  const wanted = [...new Map(artifacts.map((artifact) => [artifact.sha256, artifact])).values()].sort((a, b) =>
    a.sha256 < b.sha256 ? -1 : 1,
  );
  const sha256s = wanted.map((artifact) => artifact.sha256);
  const byteSizes = wanted.map((artifact) => BigInt(artifact.byteSize));
  const mediaTypes = wanted.map((artifact) => artifact.mediaType);
  await tx.$executeRaw`
    INSERT INTO "Artifact" (sha256, "byteSize", "mediaType")
    SELECT * FROM unnest(${sha256s}::text[], ${byteSizes}::bigint[], ${mediaTypes}::text[])
    ON CONFLICT (sha256) DO UPDATE SET "recordedAt" = now(), "damagedAt" = NULL`;
}

export async function findArtifact(db: Database, sha256: string): Promise<ArtifactRecord | undefined> {
  const row = await db.artifact.findUnique({ where: { sha256 }, omit: { recordedAt: true } });
  return row === null ? undefined : { ...row, byteSize: Number(row.byteSize) };
}

/** Records that the bytes are missing or changed; the time of the first record is kept. */
export async function markDamaged(db: Database, sha256: string): Promise<void> {
  await db.artifact.updateMany({ where: { sha256, damagedAt: null }, data: { damagedAt: new Date() } });
}

export async function markWhole(db: Database, sha256: string): Promise<void> {
  await db.artifact.updateMany({ where: { sha256 }, data: { damagedAt: null } });
}

/** The identity of the store that holds this registry's bytes; undefined before the first start of a server. */
export async function findStoreId(db: Database): Promise<string | undefined> {
  return (await db.artifactStoreIdentity.findFirst())?.storeId;
}

/** Records the identity unless one exists. @returns the identity that is now recorded. */
export async function recordStoreId(db: Database, storeId: string): Promise<string> {
  await db.artifactStoreIdentity.createMany({ data: [{ storeId }], skipDuplicates: true });
  return (await db.artifactStoreIdentity.findFirstOrThrow()).storeId;
}

/** The most recently recorded digests, without damaged artifacts. */
export async function newestArtifacts(db: Database, count: number): Promise<string[]> {
  const rows = await db.artifact.findMany({
    where: { damagedAt: null },
    orderBy: { createdAt: 'desc' },
    take: count,
    select: { sha256: true },
  });
  return rows.map((row) => row.sha256);
}
