/** A lab tool's view of the registry: GraphQL over HTTP and WebSocket, bytes over HTTP. */
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { z } from 'zod';

export interface RegistryClient {
  /** One operation. Throws Error with the server's words. */
  request<Data>(schema: z.ZodType<Data>, query: string, variables?: Record<string, unknown>): Promise<Data>;
  /** Events of one run until it has ended. */
  follow(runId: string): AsyncGenerator<RunEventMessage, void, undefined>;
  /** The bytes behind a path of the server. */
  download(path: string): Promise<Buffer>;
  close(): Promise<void>;
}

const errorsSchema = z.array(z.object({ message: z.string() }));
const answerSchema = z.object({ data: z.unknown().optional(), errors: errorsSchema.optional() });

const runEventSchema = z.object({
  runEvents: z.object({
    sequence: z.number(),
    kind: z.string(),
    status: z.string().nullable(),
    progress: z.number().nullable(),
    message: z.string().nullable(),
    metrics: z.record(z.string(), z.number()).nullable(),
  }),
});
export type RunEventMessage = z.infer<typeof runEventSchema>['runEvents'];

const FOLLOW_RUN = `subscription ($runId: ID!, $after: Int) {
  runEvents(runId: $runId, afterSequence: $after) { sequence kind status progress message metrics }
}`;

/** @param serverUrl e.g. `http://127.0.0.1:4000`. @param key a key with the role that the operations need. */
export function connectToRegistry(serverUrl: string, key: string): RegistryClient {
  const authorization = `Bearer ${key}`;
  const socket = createClient({
    url: `${serverUrl.replace(/^http/, 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { authorization },
    lazy: true,
  });
  return {
    request: async (schema, query, variables = {}) => {
      const response = await fetch(`${serverUrl}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization },
        body: JSON.stringify({ query, variables }),
      });
      const answer = answerSchema.parse(await response.json());
      if (answer.errors !== undefined) throw new Error(`The server answered: ${answer.errors.map((error) => error.message).join('; ')}`);
      return schema.parse(answer.data);
    },
    async *follow(runId) {
      let after = 0;
      for await (const result of socket.iterate({ query: FOLLOW_RUN, variables: { runId, after } })) {
        if (result.errors !== undefined) throw new Error(result.errors.map((error) => error.message).join('; '));
        const { runEvents } = runEventSchema.parse(result.data);
        after = runEvents.sequence;
        yield runEvents;
      }
    },
    download: async (path) => {
      const response = await fetch(new URL(path, serverUrl));
      if (!response.ok) throw new Error(`${path} answered ${response.status}.`);
      return Buffer.from(await response.arrayBuffer());
    },
    close: async () => {
      await socket.dispose();
    },
  };
}
