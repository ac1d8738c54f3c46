/** The cost of each operation in processor time, which other work on the machine affects less than latencies. */
import { readdir, readFile } from 'node:fs/promises';
import type { Answer, LoadClient } from './client.ts';
import { faultOf, sendOperation } from './arrival.ts';
import type { Operation } from './operations.ts';

export interface OperationCost {
  readonly operation: string;
  /** Of all requests, relative to the others. */
  readonly weight: number;
  /** Processor time of the server's process for one request, over all of its threads. */
  readonly serverMs: number;
  /** Processor time of the database's processes for one request. */
  readonly databaseMs: number;
  /** Of the answer's body. */
  readonly responseBytes: number;
}

export interface CostResult {
  readonly byOperation: readonly OperationCost[];
  /** Of one request of the mix. */
  readonly mean: Pick<OperationCost, 'serverMs' | 'databaseMs' | 'responseBytes'>;
}

const WARM_UP_COUNT = 20;
const MEASURED_COUNT = 40;

/**
 * Sends each operation about sixty times, one request after another.
 * @param serverPid process of the server
 * @param databasePid the first process of PostgreSQL; its children are counted with it, even those that serve other
 * clients.
 * @throws Error for an operation that fails.
 */
export async function measureCosts(
  client: LoadClient,
  operations: readonly Operation[],
  serverPid: number,
  databasePid: number,
): Promise<CostResult> {
  const byOperation: OperationCost[] = [];
  for (const operation of operations) await repeat(WARM_UP_COUNT, () => requestOrThrow(client, operation));
  for (const operation of operations) {
    const [server, database] = [await workingMs([serverPid]), await workingMs(await familyOf(databasePid))];
    const bytes = await repeat(MEASURED_COUNT, async () =>
      Buffer.byteLength((await requestOrThrow(client, operation)).body),
    );
    const [serverAfter, databaseAfter] = [await workingMs([serverPid]), await workingMs(await familyOf(databasePid))];
    byOperation.push({
      operation: operation.name,
      weight: operation.weight,
      serverMs: rounded(since(server, serverAfter) / MEASURED_COUNT),
      databaseMs: rounded(since(database, databaseAfter) / MEASURED_COUNT),
      responseBytes: Math.round(bytes.reduce((sum, each) => sum + each, 0) / MEASURED_COUNT),
    });
  }
  return { byOperation, mean: meanOf(byOperation) };
}

async function requestOrThrow(client: LoadClient, operation: Operation): Promise<Answer> {
  const answer = await sendOperation(client, operation);
  const fault = faultOf(answer);
  if (fault !== undefined) throw new Error(`${operation.name}: ${fault}`);
  return answer;
}

function meanOf(costs: readonly OperationCost[]): CostResult['mean'] {
  const weight = costs.reduce((sum, each) => sum + each.weight, 0);
  const mean = (value: (cost: OperationCost) => number): number =>
    costs.reduce((sum, each) => sum + each.weight * value(each), 0) / weight;
  return {
    serverMs: rounded(mean((each) => each.serverMs)),
    databaseMs: rounded(mean((each) => each.databaseMs)),
    responseBytes: Math.round(mean((each) => each.responseBytes)),
  };
}

/**
 * Processor time of these processes so far, over all of their threads, in milliseconds by process. Linux counts it in
 * nanoseconds for each thread.
 */
async function workingMs(pids: readonly number[]): Promise<ReadonlyMap<number, number>> {
  const times = await Promise.all(
    pids.map(async (pid) => {
      // A process that has ended in between is not counted.
      const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
      const counted = await Promise.all(
        threads.map((thread) =>
          readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').then(
            (text) => Number(text.split(' ', 1)[0]),
            () => 0,
          ),
        ),
      );
      return [pid, counted.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e6] as const;
    }),
  );
  return new Map(times);
}

/** The difference for the processes that still exist; one that has started in between is counted in full. */
function since(before: ReadonlyMap<number, number>, after: ReadonlyMap<number, number>): number {
  return [...after].reduce((sum, [pid, milliseconds]) => sum + milliseconds - (before.get(pid) ?? 0), 0);
}

async function familyOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return [
    pid,
    ...children
      .split(' ')
      .filter((child) => child.trim() !== '')
      .map(Number),
  ];
}

async function repeat<Result>(count: number, work: () => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  for (let index = 0; index < count; index += 1) results.push(await work());
  return results;
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
