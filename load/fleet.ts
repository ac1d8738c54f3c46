/** The workers of a large lab beside the clients, and the connections of the server to its database meanwhile. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { z } from 'zod';
import type { Latencies } from './arrival.ts';

export const fleetOrdersSchema = z.object({ url: z.string(), key: z.string(), workerCount: z.number().int() });

export interface FleetResult {
  readonly workerCount: number;
  /** Of claims that were answered with a run. */
  readonly claims: Latencies;
  readonly renewals: Latencies;
  readonly reports: Latencies;
  /** Calls that were sent again, because the server had closed the idle connection. */
  readonly repeatedCount: number;
  readonly errorCount: number;
  /** The first few. */
  readonly errors: readonly string[];
}

const latenciesSchema = z.object({
  ...{ count: z.number(), errorCount: z.number() },
  ...{ p50Ms: z.number(), p95Ms: z.number(), p99Ms: z.number(), maxMs: z.number() },
});
const resultSchema = z.object({
  workerCount: z.number(),
  ...{ claims: latenciesSchema, renewals: latenciesSchema, reports: latenciesSchema },
  ...{ repeatedCount: z.number(), errorCount: z.number(), errors: z.array(z.string()) },
});

export interface Fleet {
  /** Every worker gives its run back. */
  stop(): Promise<FleetResult>;
}

export function startFleet(orders: z.infer<typeof fleetOrdersSchema>): Fleet {
  const child = fork(path.join(import.meta.dirname, 'fleet-process.ts'), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const exited = once(child, 'exit');
  const answered = once(child, 'message');
  child.send(orders);
  return {
    stop: async () => {
      child.send('stop');
      const [message] = await Promise.race([
        answered,
        exited.then(([code]) => Promise.reject(new Error(`The simulated workers ended with ${String(code)}.`))),
      ]);
      await exited;
      return resultSchema.parse(message);
    },
  };
}

export interface ConnectionCounts {
  readonly lowest: number;
  readonly highest: number;
}

const SAMPLE_EVERY_MS = 2_000;

/** How many connections the database has, this one not counted. */
export async function watchConnections(databaseUrl: string, isOver: () => boolean): Promise<ConnectionCounts> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  const counts: number[] = [];
  try {
    while (!isOver()) {
      const { rows } = await client.query<{ count: number }>(
        `SELECT count(*)::int AS count FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
      );
      counts.push(rows[0]?.count ?? 0);
      await pause(SAMPLE_EVERY_MS);
    }
  } finally {
    await client.end();
  }
  return { lowest: Math.min(...counts), highest: Math.max(...counts) };
}
