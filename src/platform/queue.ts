/**
 * The message queue between server and workers: pg-boss on the same PostgreSQL, so that a run and its message are
 * written in one transaction.
 */
import { PgBoss, fromPrisma } from 'pg-boss';
import type { Transaction } from './db.ts';

/** The part of a job contract (src/jobs) that the queue needs. */
export interface QueueJob<Payload extends object> {
  readonly name: string;
  readonly parse: (payload: unknown) => Payload;
}

export interface Queue {
  /**
   * Adds a message to the queue in the caller's transaction, so that it is sent if and only if the transaction commits.
   */
  send<Payload extends object>(tx: Transaction, job: QueueJob<Payload>, payload: Payload): Promise<void>;
  /** Calls the handler for each message soon after it was sent. If the handler throws, it is called again later. */
  listen<Payload extends object>(job: QueueJob<Payload>, handler: (payload: Payload) => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

export interface QueueOptions {
  readonly url: string;
  /** Every job that may be sent or listened to. */
  readonly jobs: readonly { readonly name: string }[];
  readonly onError: (error: Error) => void;
}

/** Opens the queue, creating its tables on first use. */
export async function openQueue(options: QueueOptions): Promise<Queue> {
  // For polling alone: a message is sent in the transaction of its sender. Listening takes a third connection.
  const boss = new PgBoss({ connectionString: options.url, max: 2, schema: 'queue', useListenNotify: true });
  boss.on('error', options.onError);
  await boss.start();
  for (const job of options.jobs)
    await boss.createQueue(job.name, { notify: true, retryLimit: 5, retryDelay: 1, expireInSeconds: 60 });
  return {
    send: async (tx, job, payload) => {
      await boss.send(job.name, job.parse(payload), { db: fromPrisma(tx) });
    },
    listen: async (job, handler) => {
      // NOTIFY wakes the listener at once; polling is the fallback.
      await boss.work(job.name, { pollingIntervalSeconds: 2, notifyPollingIntervalSeconds: 5 }, async (messages) => {
        for (const message of messages) await handler(job.parse(message.data));
      });
    },
    close: async () => {
      await boss.stop({ graceful: true, timeout: 5_000 });
    },
  };
}
