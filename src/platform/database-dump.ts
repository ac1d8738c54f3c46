/**
 * Every row of a database as PostgreSQL's own COPY text, and back. PostgreSQL from npm comes without pg_dump; the
 * schema needs no dump, for migrations make it. It knows no table: what is there is asked of the catalogue, whatever
 * version of the schema that is.
 */
import { once } from 'node:events';
import type { Client } from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { z } from 'zod';

/** The table in which migrations are remembered is written by the program that applies them. */
const MIGRATIONS_TABLE = '_prisma_migrations';

/** Names as SQL writes them, quoted where they must be. */
export const dumpedTableSchema = z.object({
  table: z.string(),
  columns: z.array(z.string()),
  rowCount: z.number().int(),
});
export type DumpedTable = z.infer<typeof dumpedTableSchema>;
export const dumpedSequenceSchema = z.object({ sequence: z.string(), value: z.string(), isCalled: z.boolean() });
export type DumpedSequence = z.infer<typeof dumpedSequenceSchema>;

/** @param client in a transaction of isolation REPEATABLE READ, so that all tables are of one instant. */
export async function tablesToDump(client: Client): Promise<DumpedTable[]> {
  const { rows } = await client.query<{ table: string; columns: string[] }>(
    `SELECT c.oid::regclass::text AS "table", array_agg(quote_ident(a.attname) ORDER BY a.attnum) AS columns
     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> $1 GROUP BY c.oid ORDER BY 1`,
    [MIGRATIONS_TABLE],
  );
  const tables: DumpedTable[] = [];
  for (const { table, columns } of rows) {
    const counted = await client.query<{ count: string }>(`SELECT count(*) AS count FROM ${table}`);
    tables.push({ table, columns, rowCount: Number(counted.rows[0]?.count) });
  }
  return tables;
}

export async function sequencesToDump(client: Client): Promise<DumpedSequence[]> {
  const { rows } = await client.query<{ sequence: string }>(
    `SELECT oid::regclass::text AS sequence FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace ORDER BY 1`,
  );
  const sequences: DumpedSequence[] = [];
  for (const { sequence } of rows) {
    const state = await client.query<{ value: string; isCalled: boolean }>(
      `SELECT last_value AS value, is_called AS "isCalled" FROM ${sequence}`,
    );
    sequences.push({ sequence, value: state.rows[0]?.value ?? '1', isCalled: state.rows[0]?.isCalled ?? false });
  }
  return sequences;
}

/** The rows of one table, in chunks of about `chunkBytes` that end wherever they do. */
export async function* dumpTable(
  client: Client,
  { table, columns }: DumpedTable,
  chunkBytes: number,
): AsyncGenerator<Buffer> {
  let chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of client.query(copyTo(`COPY ${table} (${columns.join(', ')}) TO STDOUT`))) {
    const bytes = Buffer.from(chunk);
    chunks.push(bytes);
    size += bytes.length;
    if (size < chunkBytes) continue;
    yield Buffer.concat(chunks);
    chunks = [];
    size = 0;
  }
  if (size > 0) yield Buffer.concat(chunks);
}

export interface DatabaseLoad {
  /** Chunks of one table after another, as they were dumped. */
  write(table: string, chunk: Buffer): Promise<void>;
  /**
   * Holds the rows against their counts, puts every rule of the schema back into force over them, and commits. @throws
   * Error when something does not hold.
   */
  commit(): Promise<void>;
}

/**
 * Loads into a database that has the very schema of the dump, replacing what its migrations may have put there, in one
 * transaction. Foreign keys are dropped and made again, which proves them over every row; triggers rest meanwhile: they
 * guard how rows come to be, and these have come to be already.
 * @throws Error when the tables are not those of the dump.
 */
export async function beginLoad(
  client: Client,
  tables: readonly DumpedTable[],
  sequences: readonly DumpedSequence[],
): Promise<DatabaseLoad> {
  await client.query('BEGIN');
  const present = await tablesToDump(client);
  const shapeOf = (list: readonly DumpedTable[]): string =>
    JSON.stringify(list.map(({ table, columns }) => [table, columns]));
  if (shapeOf(present) !== shapeOf(tables))
    throw new Error('The tables of the backup are not those that its migrations make.');
  const { rows: foreignKeys } = await client.query<{ table: string; name: string; definition: string }>(
    `SELECT conrelid::regclass::text AS "table", quote_ident(conname) AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace`,
  );
  for (const { table, name } of foreignKeys) await client.query(`ALTER TABLE ${table} DROP CONSTRAINT ${name}`);
  for (const { table } of tables) {
    await client.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
    await client.query(`TRUNCATE ${table}`);
  }

  let current: { readonly table: string; readonly stream: ReturnType<typeof startCopy> } | undefined;
  const columnsOf = new Map(tables.map(({ table, columns }) => [table, columns]));
  const startCopy = (table: string, columns: readonly string[]) => {
    const stream = client.query(copyFrom(`COPY ${table} (${columns.join(', ')}) FROM STDIN`));
    // A writer or reader that waits gets the error; an abandoned load has none.
    stream.on('error', () => undefined);
    return stream;
  };
  const finishCurrent = async (): Promise<void> => {
    if (current === undefined) return;
    const { stream } = current;
    current = undefined;
    const finished = once(stream, 'finish');
    stream.end();
    await finished;
  };
  return {
    write: async (table, chunk) => {
      if (current?.table !== table) {
        await finishCurrent();
        const columns = columnsOf.get(table);
        if (columns === undefined) throw new Error(`The backup holds rows of ${table}, which it does not list.`);
        current = { table, stream: startCopy(table, columns) };
      }
      if (!current.stream.write(chunk)) await once(current.stream, 'drain');
    },
    commit: async () => {
      await finishCurrent();
      for (const { table, rowCount } of tables) {
        const { rows } = await client.query<{ count: string }>(`SELECT count(*) AS count FROM ${table}`);
        if (Number(rows[0]?.count) !== rowCount)
          throw new Error(`${table} has ${rows[0]?.count} rows instead of ${rowCount}: the backup is not whole.`);
        await client.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
      }
      for (const { table, name, definition } of foreignKeys)
        await client.query(`ALTER TABLE ${table} ADD CONSTRAINT ${name} ${definition}`);
      for (const { sequence, value, isCalled } of sequences)
        await client.query('SELECT setval($1::regclass, $2, $3)', [sequence, value, isCalled]);
      await client.query('COMMIT');
    },
  };
}
