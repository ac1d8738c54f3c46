/** SQL for the lists that Prisma's own way of reading would make slow. */
import { Prisma } from '../generated/prisma/client.ts';
import type { Transaction } from './db.ts';

/**
 * Rows of a SELECT by way of one JSON value, in its order: what driver and Prisma do for each value of a page costs
 * more than PostgreSQL's making JSON of it. Instants come as text, which `new Date` reads; bigints as numbers; floats
 * exactly.
 * @param Row as in JSON.
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
