/**
 * Finds the rows that reference an artifact. The foreign keys are read from PostgreSQL, so that this file does not
 * depend on any other module.
 */
import { Prisma } from '../../generated/prisma/client.ts';
import type { Database, Transaction } from '../../platform/db.ts';

/** SQL identifiers, quoted where necessary. */
interface ReferencingColumn {
  readonly table: string;
  readonly column: string;
  readonly primaryKey: readonly string[];
}

/** Every column with a foreign key to an artifact. */
async function referencingColumns(tx: Transaction): Promise<ReferencingColumn[]> {
  return tx.$queryRaw<ReferencingColumn[]>`
    SELECT c.conrelid::regclass::text AS "table", quote_ident(a.attname) AS "column",
      (SELECT array_agg(quote_ident(k.attname) ORDER BY array_position(i.indkey::int2[], k.attnum))
        FROM pg_index i JOIN pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = ANY(i.indkey) WHERE i.indrelid = c.conrelid AND i.indisprimary) AS "primaryKey"
    FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    WHERE c.contype = 'f' AND c.confrelid = '"Artifact"'::regclass ORDER BY 1, 2`;
}

/** True for a row "a" of "Artifact" that nothing references. */
async function isUnreferenced(tx: Transaction): Promise<Prisma.Sql> {
  const columns = await referencingColumns(tx);
  const conditions = columns.map(
    ({ table, column }) =>
      Prisma.sql`NOT EXISTS (SELECT 1 FROM ${Prisma.raw(table)} t WHERE t.${Prisma.raw(column)} = a.sha256)`,
  );
  return Prisma.join(conditions, ' AND ');
}

export interface ArtifactSize {
  readonly sha256: string;
  readonly byteSize: number;
}

/** The next artifacts in the order of sha256, so that an iteration over all of them visits each once. */
export async function artifactsAfter(
  db: Database,
  sha256: string,
  limit: number,
): Promise<(ArtifactSize & { readonly damagedAt: Date | null })[]> {
  const rows = await db.artifact.findMany({
    where: { sha256: { gt: sha256 } },
    orderBy: { sha256: 'asc' },
    take: limit,
    select: { sha256: true, byteSize: true, damagedAt: true },
  });
  return rows.map((row) => ({ ...row, byteSize: Number(row.byteSize) }));
}

export async function sumOfArtifacts(db: Database): Promise<{ readonly count: number; readonly byteSize: number }> {
  const sum = await db.artifact.aggregate({ _count: true, _sum: { byteSize: true } });
  return { count: sum._count, byteSize: Number(sum._sum.byteSize ?? 0) };
}

/** The digests among these that have a row. */
export async function recordedAmong(db: Database, sha256s: readonly string[]): Promise<Set<string>> {
  return new Set(
    (await db.artifact.findMany({ where: { sha256: { in: [...sha256s] } }, select: { sha256: true } })).map(
      (row) => row.sha256,
    ),
  );
}

/** @param sha256s counts only these; default: every artifact. */
export async function sumOfUnreferenced(
  db: Transaction,
  sha256s?: readonly string[],
): Promise<{ readonly count: number; readonly byteSize: number }> {
  const among = sha256s === undefined ? Prisma.empty : Prisma.sql`a.sha256 = ANY(${[...sha256s]}::text[]) AND`;
  const [sum] = await db.$queryRaw<{ count: bigint; byteSize: bigint }[]>`
    SELECT count(*) AS count, coalesce(sum(a."byteSize"), 0)::bigint AS "byteSize" FROM "Artifact" a WHERE ${among} ${await isUnreferenced(db)}`;
  return { count: Number(sum?.count ?? 0), byteSize: Number(sum?.byteSize ?? 0) };
}

/** The first few rows that reference an artifact, by kind and id, e.g. `Checkpoint 0198...`. */
export async function referencesTo(db: Database, sha256: string): Promise<string[]> {
  const columns = await referencingColumns(db);
  const found = await Promise.all(
    columns.map(({ table, column, primaryKey }) => {
      const key = Prisma.raw(primaryKey.map((name) => `t.${name}::text`).join(', '));
      return db.$queryRaw<
        { citation: string }[]
      >`SELECT concat_ws(' ', ${table.replaceAll('"', '')}::text, ${key}) AS citation FROM ${Prisma.raw(table)} t WHERE t.${Prisma.raw(column)} = ${sha256} LIMIT 5`;
    }),
  );
  return found.flat().map((row) => row.citation);
}

/** Rows "a" that were not recorded again since `before`, of these media types or of all. */
async function isGarbage(tx: Transaction, before: Date, mediaTypes?: readonly string[]): Promise<Prisma.Sql> {
  const ofTypes =
    mediaTypes === undefined ? Prisma.empty : Prisma.sql`AND a."mediaType" = ANY(${[...mediaTypes]}::text[])`;
  return Prisma.sql`a."recordedAt" < ${before} ${ofTypes} AND ${await isUnreferenced(tx)}`;
}

/** Whether `deleteUnreferenced` would find a row. */
export async function hasUnreferenced(db: Database, before: Date, mediaTypes: readonly string[]): Promise<boolean> {
  const rows = await db.$queryRaw<
    unknown[]
  >`SELECT 1 FROM "Artifact" a WHERE ${await isGarbage(db, before, mediaTypes)} LIMIT 1`;
  return rows.length > 0;
}

/**
 * Deletes the rows that nothing references and that were not recorded again since `before`. Rows that are being
 * recorded at this moment are skipped: `recordArtifacts` holds their lock and renews them.
 * @param mediaTypes default: all.
 */
export async function deleteUnreferenced(
  tx: Transaction,
  before: Date,
  mediaTypes?: readonly string[],
): Promise<ArtifactSize[]> {
  const rows = await tx.$queryRaw<{ sha256: string; byteSize: bigint }[]>`
    DELETE FROM "Artifact" WHERE sha256 IN (
      SELECT a.sha256 FROM "Artifact" a WHERE ${await isGarbage(tx, before, mediaTypes)} FOR UPDATE SKIP LOCKED)
    RETURNING sha256, "byteSize"`;
  return rows.map((row) => ({ sha256: row.sha256, byteSize: Number(row.byteSize) }));
}
