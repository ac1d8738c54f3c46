/** A client of the registry for code that sends queries as text and validates the answers with zod. */
import type { z } from 'zod';
import { openRegistry, type RunEvent } from '../client/connection.ts';
import { numbersOf } from '../client/follow.ts';

export interface RegistryClient {
  /**
   * Executes one operation. Throws ServerRefusal with the server's message, ZodError for an answer of another shape.
   */
  request<Data>(schema: z.ZodType<Data>, query: string, variables?: Record<string, unknown>): Promise<Data>;
  /** Events of one run until it has ended. */
  follow(runId: string): AsyncGenerator<RunEventMessage, void, undefined>;
  /** The bytes behind a path of the server. */
  download(path: string): Promise<Buffer>;
}

export type RunEventMessage = Omit<RunEvent, 'metrics'> & { readonly metrics: Readonly<Record<string, number>> | null };

/** @param serverUrl e.g. `http://127.0.0.1:4000`. @param key a key with the role that the operations need. */
export function connectToRegistry(serverUrl: string, key: string): RegistryClient {
  // The server runs in this process or on this machine, so a closed socket is final and is not reopened after Ctrl-C.
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
