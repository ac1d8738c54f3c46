/** Load at a constant arrival rate, independent of the response times, and the resulting latencies. */
import type { Answer, LoadClient } from './client.ts';
import type { Operation } from './operations.ts';

export interface Latencies {
  readonly count: number;
  readonly errorCount: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface ArrivalResult {
  readonly all: Latencies;
  readonly byOperation: Readonly<Record<string, Latencies>>;
  /** The first few wrong answers. */
  readonly errors: readonly string[];
  /** Requests that were sent more than 20 ms after their time, because this process was late. */
  readonly lateCount: number;
}

const ERRORS_SHOWN = 5;
const LATE_MS = 20;

export interface ArrivalOptions {
  readonly client: LoadClient;
  readonly operations: readonly Operation[];
  readonly requestsPerSecond: number;
  readonly seconds: number;
}

/**
 * Sends requests at a constant rate. A latency is counted from the instant at which the request was due, so that one
 * slow answer cannot hide the wait of the requests behind it (no coordinated omission).
 */
export async function measureConstantArrival({
  client,
  operations,
  requestsPerSecond,
  seconds,
}: ArrivalOptions): Promise<ArrivalResult> {
  const draw = weightedDraw(operations);
  const total = Math.round(requestsPerSecond * seconds);
  const measured = new Map<string, number[]>();
  const errors: string[] = [];
  const errorCounts = new Map<string, number>();
  const pending: Promise<void>[] = [];
  let lateCount = 0;
  const startMs = performance.now();
  for (let index = 0; index < total; index += 1) {
    const dueMs = startMs + (index * 1000) / requestsPerSecond;
    const waitMs = dueMs - performance.now();
    if (waitMs > 1) await new Promise((resolve) => setTimeout(resolve, waitMs));
    if (performance.now() - dueMs > LATE_MS) lateCount += 1;
    const operation = draw();
    pending.push(
      ask(client, operation).then((fault) => {
        const list = measured.get(operation.name) ?? [];
        measured.set(operation.name, list);
        list.push(performance.now() - dueMs);
        if (fault === undefined) return;
        errorCounts.set(operation.name, (errorCounts.get(operation.name) ?? 0) + 1);
        if (errors.length < ERRORS_SHOWN) errors.push(`${operation.name}: ${fault}`);
      }),
    );
  }
  await Promise.all(pending);
  const byOperation = Object.fromEntries(
    [...measured]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, values]) => [name, latenciesOf(values, errorCounts.get(name) ?? 0)]),
  );
  const errorCount = [...errorCounts.values()].reduce((sum, count) => sum + count, 0);
  return { all: latenciesOf([...measured.values()].flat(), errorCount), byOperation, errors, lateCount };
}

export interface SaturationResult {
  readonly connectionCount: number;
  readonly requestsPerSecond: number;
  readonly p95Ms: number;
}

/** Answers per second with `connectionCount` clients that each always have one request in flight. */
export async function measureSaturation({
  client,
  operations,
  connectionCount,
  seconds,
}: Omit<ArrivalOptions, 'requestsPerSecond'> & { readonly connectionCount: number }): Promise<SaturationResult> {
  const draw = weightedDraw(operations);
  const startMs = performance.now();
  const endMs = startMs + seconds * 1000;
  const values: number[] = [];
  const asker = async (): Promise<void> => {
    while (performance.now() < endMs) {
      const sentMs = performance.now();
      const fault = await ask(client, draw());
      if (fault === undefined) values.push(performance.now() - sentMs);
    }
  };
  await Promise.all(Array.from({ length: connectionCount }, asker));
  return {
    connectionCount,
    requestsPerSecond: rounded((values.length * 1000) / (performance.now() - startMs)),
    p95Ms: latenciesOf(values, 0).p95Ms,
  };
}

/** What is wrong with the answer, if anything is. */
export async function ask(client: LoadClient, operation: Operation): Promise<string | undefined> {
  try {
    return faultOf(await sendOperation(client, operation));
  } catch (error) {
    return String(error);
  }
}

export function sendOperation(client: LoadClient, operation: Operation): Promise<Answer> {
  return client.post(JSON.stringify({ query: operation.query, variables: operation.variables() }));
}

export function faultOf({ status, body }: Answer): string | undefined {
  if (status !== 200) return `status ${status}: ${body.slice(0, 300)}`;
  return body.startsWith('{"data":{') && !body.includes('"errors":[{') ? undefined : body.slice(0, 300);
}

/** @returns a function that draws operations at random, in proportion to their weights. */
function weightedDraw(operations: readonly Operation[]): () => Operation {
  const weighted = operations.flatMap((operation) => Array.from({ length: operation.weight }, () => operation));
  return () => {
    const operation = weighted[Math.floor(Math.random() * weighted.length)];
    if (operation === undefined) throw new Error('There are no operations.');
    return operation;
  };
}

export function latenciesOf(values: readonly number[], errorCount: number): Latencies {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number =>
    rounded(sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0);
  return { count: values.length, errorCount, p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99), maxMs: at(1) };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
