/**
 * Dumps and loads every row of a database in PostgreSQL's COPY text format. PostgreSQL from npm comes without pg_dump.
 * The schema is not dumped, because migrations create it. The tables are read from PostgreSQL's catalogue, so that the
 * code works with every version of the schema.
 */
import { once } from 'node:events';
import type { Client } from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { z } from 'zod';

/** The table of applied migrations is left out, because the program that applies them writes it. */
const MIGRATIONS_TABLE = '_prisma_migrations';

/** The names of the table and its columns are SQL identifiers, quoted where necessary. */
export const dumpedTableSchema = z.object({
  table: z.string(),
  columns: z.array(z.string()),
  rowCount: z.number().int(),
});
export type DumpedTable = z.infer<typeof dumpedTableSchema>;
export const dumpedSequenceSchema = z.object({ sequence: z.string(), value: z.string(), isCalled: z.boolean() });
export type DumpedSequence = z.infer<typeof dumpedSequenceSchema>;

/**
 * @param client in a REPEATABLE READ transaction, so that all tables are read at the same instant.
 * @returns every table of the public schema but that of the migrations, ordered by name.
 */
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

/** @param client as for `tablesToDump`. @returns every sequence of the public schema, ordered by name. */
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

/** The rows of one table, in chunks of about `chunkBytes` that may end within a row. */
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
  /** Takes the chunks of the tables one after another, in the order of the dump. */
  write(table: string, chunk: Buffer): Promise<void>;
  /**
   * Compares the rows with their counts, restores and checks every constraint of the schema, and commits. @throws Error
   * if a check fails.
   */
  commit(): Promise<void>;
}

/**
 * Loads into a database with exactly the schema of the dump, in one transaction; rows that its migrations inserted are
 * replaced. Foreign keys are dropped and created again, which checks them for every row. Triggers are disabled
 * meanwhile, because they guard changes by the program, and these rows passed them when they were first written.
 * @throws Error if the tables differ from those of the dump.
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
    throw new Error('The tables of the backup differ from those of its migrations.');
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
    // A waiting writer or reader receives the error; after an aborted load nothing waits.
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
        if (columns === undefined) throw new Error(`The backup contains rows of ${table}, which it does not list.`);
        current = { table, stream: startCopy(table, columns) };
      }
      if (!current.stream.write(chunk)) await once(current.stream, 'drain');
    },
    commit: async () => {
      await finishCurrent();
      for (const { table, rowCount } of tables) {
        const { rows } = await client.query<{ count: string }>(`SELECT count(*) AS count FROM ${table}`);
        if (Number(rows[0]?.count) !== rowCount)
          throw new Error(`${table} has ${rows[0]?.count} rows instead of ${rowCount}: the backup is incomplete.`);
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
