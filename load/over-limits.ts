/**
 * Requests that exceed the server's limits, sent while it is under load: each must be refused at once, with the right
 * code.
 */
import { MAX_BODY_BYTES, MAX_DEPTH, MAX_FIELDS, MAX_TOKENS } from '../src/api/limits.ts';
import { latenciesOf, type Latencies } from './arrival.ts';
import type { LoadClient } from './client.ts';

interface OverLimitRequest {
  readonly name: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly status: number;
  readonly code: string;
}

/** `{ dataset { versions { nodes { dataset { ... } } } } }`, deeper than allowed. */
function deepQuery(): string {
  let inner = 'id';
  for (let depth = 0; depth <= MAX_DEPTH; depth += 3) inner = `versions(first: 1) { nodes { dataset { ${inner} } } }`;
  return `{ dataset(slug: "load-1") { ${inner} } }`;
}

const many = (count: number, part: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => part(index)).join(' ');
const bodyOf = (query: string): string => JSON.stringify({ query });

const OVER_LIMIT_REQUESTS: readonly OverLimitRequest[] = [
  { name: 'too deep', body: bodyOf(deepQuery()), status: 400, code: 'OPERATION_TOO_LARGE' },
  {
    name: 'lists within lists',
    body: bodyOf(
      '{ models(first: 200) { nodes { checkpoints(first: 200) { nodes { evaluations(first: 200) { nodes { id } } } } } } }',
    ),
    status: 400,
    code: 'OPERATION_TOO_LARGE',
  },
  {
    name: 'too many fields',
    body: bodyOf(
      `{ ...a } fragment a on Query { ${many(100, (index) => `b${index}: viewer { ...c }`)} } fragment c on Viewer { ${many(MAX_FIELDS / 50, (index) => `n${index}: name`)} }`,
    ),
    status: 400,
    code: 'OPERATION_TOO_LARGE',
  },
  {
    name: 'too many tokens',
    body: bodyOf(`{ ${many(MAX_TOKENS, (index) => `a${index}: viewer { name }`)} }`),
    status: 400,
    code: 'GRAPHQL_PARSE_FAILED',
  },
  {
    name: 'a body that is too large',
    body: bodyOf(`{ viewer { name } } # ${'x'.repeat(MAX_BODY_BYTES)}`),
    status: 413,
    code: 'BAD_REQUEST',
  },
  { name: 'invalid JSON', body: '{"query": ', status: 400, code: 'BAD_REQUEST' },
  {
    name: 'a page that is too large',
    body: bodyOf('{ runs(first: 1000) { nodes { id } } }'),
    status: 200,
    code: 'BAD_INPUT',
  },
  {
    name: 'an unknown field',
    body: bodyOf('{ runs { nodes { secret } } }'),
    status: 400,
    code: 'GRAPHQL_VALIDATION_FAILED',
  },
  {
    name: 'a wrong key',
    body: bodyOf('{ viewer { name } }'),
    headers: { authorization: `Bearer pfn_${'0'.repeat(32)}_${'A'.repeat(43)}` },
    status: 401,
    code: 'UNAUTHENTICATED',
  },
  {
    name: 'no key at all',
    body: bodyOf('{ viewer { name } }'),
    headers: { authorization: 'Basic cm9vdDpyb290' },
    status: 401,
    code: 'UNAUTHENTICATED',
  },
];

export interface OverLimitsResult {
  readonly all: Latencies;
  readonly byKind: Readonly<Record<string, Latencies>>;
  /** The first few answers with another status or code than they should have. */
  readonly wrong: readonly string[];
}

/** Sends them in turn, one every `everyMs`, until `isOver`. */
export async function sendOverLimits(
  client: LoadClient,
  everyMs: number,
  isOver: () => boolean,
): Promise<OverLimitsResult> {
  const measured = new Map<string, number[]>();
  const wrong: string[] = [];
  for (let turn = 0; !isOver(); turn += 1) {
    const request = OVER_LIMIT_REQUESTS[turn % OVER_LIMIT_REQUESTS.length];
    if (request === undefined) break;
    const sentMs = performance.now();
    const answer = await client
      .post(request.body, request.headers)
      .catch((error: unknown) => ({ status: 0, body: String(error) }));
    measured.set(request.name, [...(measured.get(request.name) ?? []), performance.now() - sentMs]);
    if ((answer.status !== request.status || !answer.body.includes(`"${request.code}"`)) && wrong.length < 5)
      wrong.push(`${request.name}: ${answer.status} ${answer.body.slice(0, 200)}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  return {
    all: latenciesOf([...measured.values()].flat(), 0),
    byKind: Object.fromEntries([...measured].map(([name, values]) => [name, latenciesOf(values, 0)])),
    wrong,
  };
}
