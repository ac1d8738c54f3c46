/**
 * The query plans of each operation, as PostgreSQL's auto_explain reports them: which tables are scanned, how, and how
 * many rows.
 */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { Client } from 'pg';
import type { LoadClient } from './client.ts';
import { ask } from './arrival.ts';
import type { Operation } from './operations.ts';

export interface OperationPlans {
  readonly operation: string;
  readonly isCount: boolean;
  readonly statementCount: number;
  /** Rows that scans returned or discarded over all statements, including index entries. */
  readonly rowsTouched: number;
  readonly buffers: number;
  /** Tables of more than LARGE_TABLE_ROWS rows that were read from end to end. */
  readonly sequentialScans: readonly string[];
  /** The statement that scanned most rows, if the operation exceeds a limit. */
  readonly worst?: string;
}

/** A table of at most this many rows may be scanned whole. */
const LARGE_TABLE_ROWS = 2_000;
/** One page of 50 rows with everything that belongs to them stays well below this, however large the tables are. */
export const ROWS_TOUCHED_MAX = 10_000;

const ROUNDS_BEFORE = 8;

const SETTINGS: Readonly<Record<string, string>> = {
  session_preload_libraries: 'auto_explain',
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_analyze': 'on',
  'auto_explain.log_buffers': 'on',
  'auto_explain.log_timing': 'off',
  'auto_explain.log_format': 'json',
};

/** Makes every later connection log its plans, or stops it. */
export async function logPlans(databaseUrl: string, isOn: boolean): Promise<void> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    for (const [name, value] of Object.entries(SETTINGS)) {
      await client.query(
        isOn ? `ALTER DATABASE paraffin SET ${name} = '${value}'` : `ALTER DATABASE paraffin RESET ${name}`,
      );
    }
  } finally {
    await client.end();
  }
}

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string | undefined;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number | undefined;
  readonly 'Rows Removed by Index Recheck'?: number | undefined;
  readonly 'Heap Fetches'?: number | undefined;
  readonly 'Shared Hit Blocks'?: number | undefined;
  readonly 'Shared Read Blocks'?: number | undefined;
  readonly Plans?: readonly PlanNode[] | undefined;
}
const nodeSchema: z.ZodType<PlanNode> = z.object({
  'Node Type': z.string(),
  'Relation Name': z.string().optional(),
  'Actual Rows': z.number(),
  'Actual Loops': z.number(),
  'Rows Removed by Filter': z.number().optional(),
  'Rows Removed by Index Recheck': z.number().optional(),
  'Heap Fetches': z.number().optional(),
  'Shared Hit Blocks': z.number().optional(),
  'Shared Read Blocks': z.number().optional(),
  Plans: z.array(z.lazy(() => nodeSchema)).optional(),
});
const statementSchema = z.object({ 'Query Text': z.string(), Plan: nodeSchema });
type Statement = z.infer<typeof statementSchema>;

/**
 * Sends each operation several times over HTTP, and reads the plans from the server's log. @throws Error for an
 * operation that fails.
 */
export async function explainOperations(
  client: LoadClient,
  operations: readonly Operation[],
  databaseUrl: string,
  logFile: string,
): Promise<OperationPlans[]> {
  const large = await largeTables(databaseUrl);
  const plans: OperationPlans[] = [];
  for (const operation of operations) {
    // The first request may also look up the key, and PostgreSQL chooses the plan of a prepared statement within the
    // first six.
    for (let round = 0; round <= ROUNDS_BEFORE; round += 1) {
      const offset = (await readFile(logFile)).length;
      const fault = await ask(client, operation);
      if (fault !== undefined) throw new Error(`${operation.name}: ${fault}`);
      if (round < ROUNDS_BEFORE) continue;
      plans.push(
        summarise(operation, statementsIn((await readFile(logFile)).subarray(offset).toString('utf8')), large),
      );
    }
  }
  return plans;
}

async function largeTables(databaseUrl: string): Promise<ReadonlySet<string>> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string }>(
      `SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples > $1`,
      [LARGE_TABLE_ROWS],
    );
    return new Set(rows.map((row) => row.name));
  } finally {
    await client.end();
  }
}

/** An entry of the log begins with an instant; the lines that continue begin with a tab. */
function statementsIn(log: string): Statement[] {
  return (
    log
      .split(/\n(?=\d{4}-\d\d-\d\d )/)
      .flatMap((entry) => {
        const at = entry.indexOf('plan:\n');
        return at === -1 ? [] : [statementSchema.parse(JSON.parse(entry.slice(at + 6)))];
      })
      // Statements of the queue, which do not belong to the requests.
      .filter((statement) => !/\bqueue\./.test(statement['Query Text']))
  );
}

function summarise(operation: Operation, statements: readonly Statement[], large: ReadonlySet<string>): OperationPlans {
  const touched = statements.map((statement) => scansOf(statement.Plan).reduce((sum, node) => sum + rowsOf(node), 0));
  const rowsTouched = touched.reduce((sum, rows) => sum + rows, 0);
  const sequentialScans = [
    ...new Set(
      statements.flatMap((statement) =>
        scansOf(statement.Plan)
          .filter((node) => node['Node Type'] === 'Seq Scan' && large.has(node['Relation Name'] ?? ''))
          .map((node) => node['Relation Name'] ?? ''),
      ),
    ),
  ];
  const worst = statements[touched.indexOf(Math.max(...touched))];
  const exceedsLimits = rowsTouched > ROWS_TOUCHED_MAX || sequentialScans.length > 0;
  return {
    operation: operation.name,
    isCount: operation.isCount ?? false,
    statementCount: statements.length,
    rowsTouched,
    buffers: statements.reduce(
      (sum, { Plan }) => sum + (Plan['Shared Hit Blocks'] ?? 0) + (Plan['Shared Read Blocks'] ?? 0),
      0,
    ),
    sequentialScans,
    ...(exceedsLimits && worst !== undefined
      ? { worst: worst['Query Text'].replaceAll(/\s+/g, ' ').slice(0, 600) }
      : {}),
  };
}

function scansOf(node: PlanNode): PlanNode[] {
  const below = (node.Plans ?? []).flatMap(scansOf);
  return /Scan$/.test(node['Node Type']) && !/^(CTE|Subquery|Function|WorkTable|Values)/.test(node['Node Type'])
    ? [node, ...below]
    : below;
}

function rowsOf(node: PlanNode): number {
  return (
    (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Index Recheck'] ?? 0)) *
    node['Actual Loops']
  );
}
