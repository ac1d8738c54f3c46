/**
 * A client of a registry: GraphQL over HTTP and WebSocket, bytes over HTTP. This code does not depend on the server's
 * code.
 */
import { print } from '@0no-co/graphql.web';
import type { Command } from '@commander-js/extra-typings';
import { command, type CommandFacts } from '../command.ts';
import { CommandFailure } from '../exit-codes.ts';
import { printable } from '../terminal.ts';
import { graphql, type ResultOf, type TadaDocumentNode } from './graphql.ts';

/** A type, not an interface, because commander requires an index signature, which only a type has implicitly. */
export type ClientOptions = {
  readonly url?: string | undefined;
  readonly json?: true | undefined;
  readonly quiet?: true | undefined;
  readonly printQuery?: true | undefined;
};

/** Base of a command that queries a server. */
export function clientCommand(name: string, facts: CommandFacts): Command<[], ClientOptions> {
  return command(name, facts)
    .option('--url <address>', 'URL of the server (default: PARAFFIN_URL, or else the server on this machine)')
    .option('--json', 'print the answer as one JSON document')
    .option('-q, --quiet', 'print only ids, without progress')
    .option('--print-query', 'show every GraphQL operation on standard error as it is sent');
}

const RUN_EVENTS = graphql(`
  subscription FollowRun($runId: ID!, $after: Int) {
    runEvents(runId: $runId, afterSequence: $after) {
      sequence
      at
      kind
      status
      progress
      message
      metrics
    }
  }
`);

export type RunEvent = ResultOf<typeof RUN_EVENTS>['runEvents'];

export interface Registry {
  /** The base URL, without a trailing slash. */
  readonly url: string;
  /** The data of one operation. Throws ServerRefusal, or CommandFailure if no server answers. */
  ask<Data, Variables>(document: TadaDocumentNode<Data, Variables>, variables: Variables): Promise<Data>;
  /** The same for an operation as text, whose answer the caller validates. */
  askText(query: string, variables: unknown): Promise<unknown>;
  /** Every event of a run after the given number, each once, until it has ended, across dropped sockets. */
  follow(runId: string, afterSequence: number): AsyncGenerator<RunEvent, void, undefined>;
  /** A plain HTTP request for a path of the server; error responses are returned, not thrown. */
  send(path: string, init?: RequestInit): Promise<Response>;
}

/** The server's reason for a refusal. */
export class ServerRefusal extends CommandFailure {
  readonly code: string;

  constructor({
    code,
    field,
    message,
    hint,
  }: {
    readonly code: string;
    readonly field?: string | null | undefined;
    readonly message: string;
    readonly hint?: string | null | undefined;
  }) {
    super({ message: `${code}${field == null ? '' : ` (${field})`}: ${message}`, hint });
    this.name = 'ServerRefusal';
    this.code = code;
  }
}

/** The server named by options, environment or this machine, with its key. */
export async function connect({ url, json, printQuery }: ClientOptions): Promise<Registry> {
  const { serverOf } = await import('./server-address.ts');
  const { address, key } = await serverOf(url);
  return openRegistry(address, key, {
    isJson: json === true,
    ...(printQuery === true ? { show: (text) => process.stderr.write(`${text}\n`) } : {}),
  });
}

/** Retries with growing pauses, so that the client reconnects to a restarted server. */
const SOCKET_ATTEMPTS = 20;

export interface RegistryOptions {
  /** Called with each operation before it is sent. */
  readonly show?: (text: string) => void;
  /**
   * If true, answers are returned unchanged; if false (the default), terminal control characters in them are replaced.
   */
  readonly isJson?: boolean;
  /** How often a dropped socket is reopened. */
  readonly socketAttempts?: number;
}

/**
 * @param address e.g. `http://127.0.0.1:4000`.
 * @param key sent with every request; undefined means anonymous.
 */
export function openRegistry(
  address: string,
  key: string | undefined,
  { show, isJson = false, socketAttempts = SOCKET_ATTEMPTS }: RegistryOptions = {},
): Registry {
  const authorization: Readonly<Record<string, string>> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  const send = (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(address + path, { ...init, headers: { ...authorization, ...headersOf(init) } }).catch((error: unknown) => {
      if (init.signal?.aborted === true) throw error;
      throw unreachable(address);
    });
  const parseScalars = isJson ? undefined : revivePrintable;
  const askAs = async <Data>(query: string, variables: unknown): Promise<Data> => {
    show?.(wordsOf(query, variables));
    const response = await send('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
    });
    const answer = answerIn<Data>(await response.text(), parseScalars);
    const [error] = answer.errors ?? [];
    if (error !== undefined)
      throw new ServerRefusal({
        ...error.extensions,
        code: error.extensions?.code ?? 'INTERNAL',
        message: error.message,
      });
    if (answer.data == null)
      throw new CommandFailure({
        message: `${address} answered with status ${response.status} and no data.`,
        hint: 'Check that the address is a Paraffin server (--url or PARAFFIN_URL).',
      });
    return answer.data;
  };
  return {
    url: address,
    ask: (document, variables) => askAs(print(document), variables),
    askText: (query, variables) => askAs<unknown>(query, variables),
    async *follow(runId, afterSequence) {
      const query = print(RUN_EVENTS);
      show?.(wordsOf(query, { runId, after: afterSequence }));
      const { createClient } = await import('graphql-ws');
      const { WebSocket } = await import('ws');
      const socket = createClient({
        url: `${address.replace(/^http/, 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        connectionParams: { ...authorization },
        retryAttempts: socketAttempts,
        ...(parseScalars === undefined ? {} : { jsonMessageReviver: parseScalars }),
      });
      let last = afterSequence;
      try {
        for await (const { data, errors } of socket.iterate<ResultOf<typeof RUN_EVENTS>>({
          query,
          variables: { runId, after: afterSequence },
        })) {
          const [error] = errors ?? [];
          if (error !== undefined)
            throw new ServerRefusal({ code: String(error.extensions?.['code'] ?? 'INTERNAL'), message: error.message });
          // After a reconnection the server repeats the events from the first requested one.
          if (data == null || data.runEvents.sequence <= last) continue;
          last = data.runEvents.sequence;
          yield data.runEvents;
        }
      } catch (error) {
        // After the last retry the socket throws an event, not an Error.
        throw error instanceof Error ? error : unreachable(address);
      } finally {
        await socket.dispose();
      }
    },
    send,
  };
}

interface Answer<Data> {
  readonly data?: Data | null;
  readonly errors?: readonly {
    readonly message: string;
    readonly extensions?: { readonly code?: string; readonly field?: string; readonly hint?: string };
  }[];
}

/** Undefined if the text is not JSON, such as the page of a proxy. */
function answerIn<Data>(text: string, parseScalars: typeof revivePrintable | undefined): Answer<Data> {
  try {
    return JSON.parse(text, parseScalars);
  } catch {
    return {};
  }
}

function revivePrintable(_key: string, value: unknown): unknown {
  return typeof value === 'string' ? printable(value) : value;
}

function headersOf({ headers }: RequestInit): Record<string, string> {
  return Object.fromEntries(new Headers(headers));
}

function unreachable(address: string): CommandFailure {
  return new CommandFailure({
    message: `The server at ${address} does not answer.`,
    hint: 'Start a server with "npm start", or give the address of another one by --url or PARAFFIN_URL.',
  });
}

function wordsOf(query: string, variables: unknown): string {
  return `${query}\n# variables: ${JSON.stringify(variables)}\n`;
}

export interface UserErrors {
  readonly userErrors: readonly {
    readonly code: string;
    readonly field: string | null;
    readonly message: string;
    readonly hint: string | null;
  }[];
}

/** @throws ServerRefusal with the first of the errors. */
export function rejectErrors({ userErrors }: UserErrors): void {
  const [first] = userErrors;
  if (first !== undefined) throw new ServerRefusal(first);
}

/**
 * The object of a mutation's payload.
 * @throws ServerRefusal with the first of its userErrors.
 */
export function granted<Value>(value: Value | null, errors: UserErrors): Value {
  rejectErrors(errors);
  if (value === null)
    throw new CommandFailure({ message: 'The answer of the server contains neither an object nor an error.' });
  return value;
}

/**
 * Converts the error response of a plain HTTP request to the form of a GraphQL error.
 * @returns undefined if the response is not from Paraffin.
 */
export async function refusalOf(response: Response): Promise<ServerRefusal | undefined> {
  const body: unknown = await response.json().catch(() => undefined);
  if (typeof body !== 'object' || body === null || !('code' in body) || !('message' in body)) return undefined;
  return new ServerRefusal({
    code: String(body.code),
    message: String(body.message),
    hint: 'hint' in body ? String(body.hint) : undefined,
  });
}
