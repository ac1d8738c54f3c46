/** SQL for lists that would be slow through Prisma's own queries. */
import { Prisma } from '../generated/prisma/client.ts';
import type { Transaction } from './db.ts';

/**
 * Reads the rows of a SELECT as one JSON value, in order: the driver's and Prisma's work per value costs more than
 * PostgreSQL's conversion to JSON. Instants arrive as text, which `new Date` reads; bigints as numbers; floats exactly.
 * @param Row the schema of a row in JSON.
 */
export async function jsonRows<Row>(tx: Transaction, select: Prisma.Sql): Promise<Row[]> {
  const [answer] = await tx.$queryRaw<
    { rows: string }[]
  >`SELECT coalesce(json_agg(t), '[]')::text AS rows FROM (${select}) t`;
  const rows: Row[] = JSON.parse(answer?.rows ?? '[]');
  return rows;
}

/** Joined by AND; TRUE for none. */
export function allOf(conditions: readonly Prisma.Sql[]): Prisma.Sql {
  return conditions.length === 0 ? Prisma.sql`TRUE` : Prisma.join([...conditions], ' AND ');
}
