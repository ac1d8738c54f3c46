/** Rows of artifacts in PostgreSQL; their bytes are in the artifact store. */
import type { Database, Transaction } from '../../platform/db.ts';

export interface ArtifactRecord {
  /** Lower-case hex. */
  readonly sha256: string;
  readonly byteSize: number;
  readonly mediaType: string;
  readonly createdAt: Date;
}

export type NewArtifact = Pick<ArtifactRecord, 'sha256' | 'byteSize' | 'mediaType'>;

/** Notes that these bytes are wanted; those already known stay as they are. For workers and other modules, inside their transaction. */
export async function recordArtifacts(tx: Transaction, artifacts: readonly NewArtifact[]): Promise<void> {
  await tx.artifact.createMany({ data: artifacts.map(({ sha256, byteSize, mediaType }) => ({ sha256, byteSize, mediaType })), skipDuplicates: true });
}

export async function findArtifact(db: Database, sha256: string): Promise<ArtifactRecord | undefined> {
  const row = await db.artifact.findUnique({ where: { sha256 } });
  return row === null ? undefined : { ...row, byteSize: Number(row.byteSize) };
}
