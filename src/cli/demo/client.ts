/** The command line's view of a registry, for programs that ask by text and say by zod what they expect. */
import type { z } from 'zod';
import { openRegistry, type RunEvent } from '../client/connection.ts';
import { numbersOf } from '../client/follow.ts';

export interface RegistryClient {
  /** One operation. Throws ServerRefusal with the server's words, ZodError for an answer of another shape. */
  request<Data>(schema: z.ZodType<Data>, query: string, variables?: Record<string, unknown>): Promise<Data>;
  /** Events of one run until it has ended. */
  follow(runId: string): AsyncGenerator<RunEventMessage, void, undefined>;
  /** The bytes behind a path of the server. */
  download(path: string): Promise<Buffer>;
}

export type RunEventMessage = Omit<RunEvent, 'metrics'> & { readonly metrics: Readonly<Record<string, number>> | null };

/** @param serverUrl e.g. `http://127.0.0.1:4000`. @param key a key with the role that the operations need. */
export function connectToRegistry(serverUrl: string, key: string): RegistryClient {
  // The server lives in this process or beside it: a socket that ends is the end, and Ctrl-C waits for no other.
  const registry = openRegistry(serverUrl, key, { socketAttempts: 0 });
  return {
    request: async (schema, query, variables = {}) => schema.parse(await registry.askText(query, variables)),
    async *follow(runId) {
      for await (const event of registry.follow(runId, 0))
        yield { ...event, metrics: event.metrics === null ? null : Object.fromEntries(numbersOf(event.metrics)) };
    },
    download: async (path) => {
      const response = await registry.send(path);
      if (!response.ok) throw new Error(`${path} answered ${response.status}.`);
      return Buffer.from(await response.arrayBuffer());
    },
  };
}
