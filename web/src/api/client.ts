/** GraphQL over HTTP. */
import { print } from '@0no-co/graphql.web';
import type { TadaDocumentNode } from './graphql.ts';

/** The reason for a failed request, and what to do next. */
export class ApiError extends Error {
  readonly code: string;
  readonly hint: string | null;
  readonly requestId: string | null;

  constructor(facts: {
    readonly code: string;
    readonly message: string;
    readonly hint?: string | null;
    readonly requestId?: string | null;
  }) {
    super(facts.message);
    this.name = 'ApiError';
    this.code = facts.code;
    this.hint = facts.hint ?? null;
    this.requestId = facts.requestId ?? null;
  }
}

interface Answer<Data> {
  readonly data?: Data | null;
  readonly errors?: readonly {
    readonly message: string;
    readonly extensions?: { readonly code?: string; readonly hint?: string | null; readonly requestId?: string };
  }[];
}

/**
 * The data is trusted to match the operation's types, because the server answers by the schema from which they were
 * generated.
 */
function isAnswer<Data>(body: unknown): body is Answer<Data> {
  return typeof body === 'object' && body !== null;
}

/**
 * The data of one operation, with the session of the signed-in user.
 * @throws ApiError also if the answer contains a part of the data.
 */
export async function request<Data, Variables>(
  document: TadaDocumentNode<Data, Variables>,
  variables: Variables,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Data> {
  return send<Data>(print(document), variables, options);
}

/** `query` for an operation that was composed at run time, as text. */
export async function send<Data>(
  query: string,
  variables: unknown,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<Data> {
  const response = await fetch('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
    ...(signal === undefined ? {} : { signal }),
  }).catch((error: unknown) => {
    if (signal?.aborted === true) throw error;
    throw new ApiError({
      code: 'UNREACHABLE',
      message: 'The server does not answer.',
      hint: 'Check that the server is running (npm start), then try again.',
    });
  });
  const body: unknown = await response.json().catch(() => ({}));
  const answer: Answer<Data> = isAnswer<Data>(body) ? body : {};
  const [error] = answer.errors ?? [];
  if (error !== undefined)
    throw new ApiError({
      code: error.extensions?.code ?? 'INTERNAL',
      message: error.message,
      hint: error.extensions?.hint ?? null,
      requestId: error.extensions?.requestId ?? null,
    });
  if (answer.data === undefined || answer.data === null)
    throw new ApiError({
      code: 'INTERNAL',
      message: `The server answered with status ${response.status} and no data.`,
    });
  return answer.data;
}
