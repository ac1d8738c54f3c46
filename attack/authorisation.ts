/**
 * Requests every field, payload, subscription and route as every role and with every kind of limited key, in several
 * disguises.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { buildSchema, isRequiredArgument, type GraphQLSchema } from 'graphql';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { FIELD_RULES, type FieldRule, type NeededRole } from '../src/api/permissions.ts';
import { ACCESS_ACTIONS, ACCESS_ROLES, type AccessAction, type AccessRole } from '../src/modules/access/index.ts';
import { at } from '../test/support/catalogue.ts';
import { lightningFile, someEncoder } from '../test/support/encoder-files.ts';
import { factsThroughPayload, rootOperations, type RootOperation } from '../test/support/operations.ts';
import { actionOf, addressOf, methodOf, ROUTES } from '../test/support/routes.ts';
import { oneOf, type Attack, type Random } from './attack.ts';
import type { AttackedServer } from './attacked-server.ts';
import { plain, UUID, withValue } from './input-values.ts';
import { openRequests, parsed, type Requests } from './requests.ts';

const SCHEMA = path.resolve(import.meta.dirname, '../schema.graphql');
/**
 * A key or address may be refused 60 times a minute, and must then wait: the attack continues with another of the same
 * kind.
 */
const REFUSALS_OF_ONE = 40;
const AT_ONCE = 6;
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** Everything that can identify the sender of a request. */
interface Sender {
  readonly name: string;
  /** HERE: a program on this machine without a key, which may read. */
  readonly role: AccessRole | 'NOBODY' | 'HERE';
  readonly actions?: readonly AccessAction[];
}

/** Its current key or address. */
interface Identity {
  readonly headers: Readonly<Record<string, string>>;
  readonly from: string;
}

type Verdict = 'ALLOWED' | 'REFUSED';
type Variant = 'plain' | 'in a fragment' | 'beside another operation' | 'by GET' | 'over a socket';
const VARIANTS: readonly [Variant, ...Variant[]] = [
  'plain',
  'in a fragment',
  'beside another operation',
  'by GET',
  'over a socket',
];

const SENDERS: readonly Sender[] = [
  { name: 'nobody', role: 'NOBODY' },
  { name: 'a program on this machine', role: 'HERE' },
  ...ACCESS_ROLES.map((role) => ({ name: role, role })),
  ...ACCESS_ACTIONS.map((action) => ({
    name: `a key only for ${action}`,
    role: 'ADMIN' as const,
    actions: [action],
  })),
];

export const authorisation: Attack = {
  name: 'authorisation',
  about:
    'every field, payload, subscription and route, plain and in disguise, as every role, with keys for one action or one object, and with invalid keys',
  share: 16,
  run: async ({ quick, random, server: sharedServer, isTimeLeft }) => {
    const server = await sharedServer();
    const schema = buildSchema(await readFile(SCHEMA, 'utf8'));
    const requests = openRequests();
    const context: AttackState = { server, requests, identities: identitiesOf(server), findings: [], tryCount: 0 };
    try {
      const objects = await makeObjects(server, quick);
      await tryOwnObject(context, objects);
      const before = await stateOf(server);
      const calls = callsOf(schema, quick, random);
      // First the requests that must be refused, so that any change shows that one was not.
      const refused = calls.filter(({ expected }) => expected === 'REFUSED');
      await inParallel(refused, isTimeLeft, (call) => attempt(context, call));
      await inParallel(routeCalls(objects, quick, random), isTimeLeft, (call) => attemptRoute(context, call));
      await tryPayloads(context, schema, quick ? 2 : Infinity);
      await tryForeignObjects(context, schema, objects);
      await tryWrongKeys(context);
      const after = await stateOf(server);
      if (after !== before)
        context.findings.push(`Something that was refused has changed the registry: ${differenceOf(before, after)}`);
      const allowed = calls.filter(({ expected }) => expected === 'ALLOWED');
      await inParallel(allowed, isTimeLeft, (call) => attempt(context, call));
    } finally {
      requests.close();
    }
    const fault = await server.fault();
    if (fault !== undefined) context.findings.push(fault);
    return { tryCount: context.tryCount, findings: context.findings };
  },
};

interface AttackState {
  readonly server: AttackedServer;
  readonly requests: Requests;
  readonly identities: Identities;
  readonly findings: string[];
  tryCount: number;
}

interface Call {
  readonly sender: Sender;
  readonly operation: RootOperation;
  readonly variant: Variant;
  readonly expected: Verdict;
}

/** Each sender with each field in each disguise; in the quick form some of them, in one disguise. */
function callsOf(schema: GraphQLSchema, quick: boolean, random: Random): Call[] {
  const operations = rootOperations(schema);
  return SENDERS.flatMap((sender) =>
    operations
      .filter(() => !quick || random() < 0.25)
      .flatMap((operation) => {
        const possible = VARIANTS.filter(
          (variant) =>
            (operation.kind !== 'subscription' || variant === 'over a socket') &&
            // GET must not change anything, for any sender.
            (operation.kind !== 'mutation' || variant !== 'by GET'),
        );
        const [first = 'plain', ...others] = possible;
        const wanted = quick ? [oneOf([first, ...others], random)] : possible;
        const expected = verdictBy(sender, FIELD_RULES[operation.name] ?? { role: 'ADMIN', action: 'ADMINISTER' });
        return wanted.map((variant) => ({ sender, operation, variant, expected }));
      }),
  );
}

function verdictBy({ role, actions }: Sender, rule: { role: NeededRole; action: FieldRule['action'] }): Verdict {
  if (rule.role === 'ANYONE') return 'ALLOWED';
  if (role === 'NOBODY') return 'REFUSED';
  if (role === 'HERE') return rule.role === 'READER' ? 'ALLOWED' : 'REFUSED';
  const mayDo = actions === undefined || actions.includes(rule.action);
  return mayDo && ACCESS_ROLES.indexOf(role) >= ACCESS_ROLES.indexOf(rule.role) ? 'ALLOWED' : 'REFUSED';
}

async function attempt(context: AttackState, { sender, operation, variant, expected }: Call): Promise<void> {
  context.tryCount += 1;
  const identity = await context.identities.of(sender, expected);
  const [document, operationName] = asVariant(operation, variant);
  const answer =
    variant === 'over a socket'
      ? await overSocket(context.server, identity, document, operationName)
      : await overHttp(context, identity, document, { operationName, isGet: variant === 'by GET' });
  const verdict = verdictOf(answer);
  if (verdict !== expected)
    context.findings.push(
      `${operation.name} ${variant} was ${verdict} for ${sender.name}: ${document} was answered with ${JSON.stringify(answer).slice(0, 300)}`,
    );
}

function asVariant({ kind, document }: RootOperation, variant: Variant): [string, string | undefined] {
  const call = document.slice(document.indexOf('{') + 1, document.lastIndexOf('}'));
  const root = `${kind.charAt(0).toUpperCase()}${kind.slice(1)}`;
  switch (variant) {
    case 'plain':
    case 'by GET':
    case 'over a socket':
      return [document, undefined];
    case 'in a fragment':
      return [`${kind} { ... on ${root} { ...f } } fragment f on ${root} { renamed: ${call.trim()} }`, undefined];
    case 'beside another operation':
      return [`query harmless { viewer { role } } ${document.replace(kind, `${kind} meant`)}`, 'meant'];
  }
}

async function overHttp(
  { server, requests }: AttackState,
  { headers, from }: Identity,
  query: string,
  {
    operationName,
    isGet = false,
    variables,
  }: { operationName?: string | undefined; isGet?: boolean; variables?: unknown } = {},
): Promise<unknown> {
  const { text } = isGet
    ? await requests.send(server.port, {
        path: `/graphql?query=${encodeURIComponent(query)}`,
        headers: { ...headers, 'apollo-require-preflight': 'true' },
        from,
      })
    : await requests.send(server.port, {
        method: 'POST',
        path: '/graphql',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify({ query, operationName, variables }),
        from,
      });
  return parsed(text) ?? text;
}

async function overSocket(
  server: AttackedServer,
  { headers, from }: Identity,
  query: string,
  operationName: string | undefined,
): Promise<unknown> {
  class Socket extends WebSocket {
    constructor(address: string, protocol: string) {
      super(address, protocol, { headers, localAddress: from });
    }
  }
  const client = createClient({
    url: `${server.url.replace('http', 'ws')}/graphql`,
    webSocketImpl: Socket,
    retryAttempts: 0,
  });
  try {
    for await (const answer of client.iterate({ query, operationName })) return answer;
    return {};
  } catch (errors) {
    return { errors };
  } finally {
    await client.dispose();
  }
}

/** A refusal returns no data, and says that a key is missing or lacks the permission. */
function verdictOf(answer: unknown): Verdict {
  const code = at(answer, 'errors.0.extensions.code');
  const data: unknown = at(answer, 'data');
  const isEmpty =
    data == null || (typeof data === 'object' && Object.values(data).every((value: unknown) => value === null));
  return isEmpty && (code === 'UNAUTHENTICATED' || code === 'FORBIDDEN') ? 'REFUSED' : 'ALLOWED';
}

interface Identities {
  /** @param expected number of refusals; they are counted, so that no sender exceeds the limit per minute. */
  of(sender: Sender, expected: Verdict): Promise<Identity>;
  /** A new key. */
  keyWith(facts: Readonly<Record<string, unknown>>): Promise<string>;
}

function identitiesOf(server: AttackedServer): Identities {
  let address = 0;
  const nextAddress = (): string => {
    address += 1;
    return `127.3.${address >> 8}.${(address & 255) + 1}`;
  };
  const keyWith = async (facts: Readonly<Record<string, unknown>>): Promise<string> => {
    const answer = await server.ask(
      'mutation($input: CreateKeyInput!) { createKey(input: $input) { secret userErrors { message } } }',
      { input: { name: KEY_NAME, owner: KEY_NAME, ...facts } },
    );
    const secret: unknown = at(answer, 'data.createKey.secret');
    if (typeof secret !== 'string') throw new Error(`No key was created: ${JSON.stringify(answer).slice(0, 300)}`);
    return secret;
  };
  const make = async ({ role, actions }: Sender): Promise<Identity> => {
    const from = nextAddress();
    // The header of an undeclared proxy, so that the sender never counts as a program on this machine.
    if (role === 'NOBODY') return { headers: { 'x-forwarded-for': '203.0.113.9' }, from };
    if (role === 'HERE') return { headers: {}, from };
    const key = await keyWith({ role, ...(actions === undefined ? {} : { actions }) });
    return { headers: { authorization: `Bearer ${key}` }, from };
  };
  const current = new Map<string, { readonly identity: Promise<Identity>; refusals: number }>();
  return {
    keyWith,
    of: (sender, expected) => {
      let entry = current.get(sender.name);
      if (entry === undefined || entry.refusals >= REFUSALS_OF_ONE) {
        entry = { identity: make(sender), refusals: 0 };
        current.set(sender.name, entry);
      }
      if (expected === 'REFUSED') entry.refusals += 1;
      return entry.identity;
    },
  };
}

const KEY_NAME = 'attacker';

/** Two objects of each kind: one that a limited key may change, and one that it may not. */
interface Objects {
  readonly own: Names;
  readonly foreign: Names;
  readonly sha256: string;
}

interface Names {
  readonly dataset: string;
  readonly model: string;
  readonly checkpoint: string;
  readonly run: string;
  readonly slug: string;
}

/** @param quick leaves out checkpoints, which take long to read: limited keys do not learn what exists. */
async function makeObjects(server: AttackedServer, quick: boolean): Promise<Objects> {
  const imports = path.join(server.dataDir, 'imports');
  await mkdir(path.join(imports, 'images'));
  const file = path.join(imports, 'attacker-weights');
  if (!quick) await writeFile(file, lightningFile(someEncoder('RESNET18'), ''));
  const change = async (field: string, selection: string, type: string, input: unknown): Promise<unknown> => {
    const answer = await server.ask(
      `mutation($input: ${type}!) { ${field}(input: $input) { ${selection} userErrors { code message } } }`,
      { input },
    );
    const fault: unknown = at(answer, `data.${field}.userErrors.0`) ?? at(answer, 'errors.0');
    if (fault !== undefined) throw new Error(`${field}: ${JSON.stringify(fault)}`);
    return at(answer, `data.${field}`);
  };
  const inputContract = { imageSizePx: 64, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };
  const makeSome = async (slug: string): Promise<Names & { readonly sha256: string }> => {
    const facts = { name: slug, slug, imageKind: 'PATCH' };
    const dataset = String(
      at(await change('createDataset', 'dataset { id }', 'CreateDatasetInput', facts), 'dataset.id'),
    );
    const model = await change('createModel', 'model { id }', 'CreateModelInput', { slug, name: slug });
    const input = { path: file, modelSlug: slug, inputContract };
    const imported = quick
      ? undefined
      : await change('importCheckpoint', 'checkpoint { id sha256 }', 'ImportCheckpointInput', input);
    // No worker takes this run: it stays queued as long as the server lives.
    const run = await change('importDatasetVersion', 'run { id }', 'ImportDatasetVersionInput', {
      datasetId: dataset,
      path: path.join(imports, 'images'),
    });
    return {
      dataset,
      slug,
      model: String(at(model, 'model.id')),
      checkpoint: String(at(imported, 'checkpoint.id') ?? UUID),
      sha256: String(at(imported, 'checkpoint.sha256') ?? '0'.repeat(64)),
      run: String(at(run, 'run.id')),
    };
  };
  const own = await makeSome('attacker-own');
  return { own, foreign: await makeSome('attacker-foreign'), sha256: own.sha256 };
}

/** Everything that a refused change could have changed, as one text, except the attacker's own keys. */
async function stateOf(server: AttackedServer): Promise<string> {
  const answer = await server.ask(`{
    datasets(first: 200) { totalCount nodes { id slug name notes updatedAt versions(first: 5) { totalCount } } }
    models(first: 50) { totalCount nodes { id slug name aliases { name } } }
    checkpoints(first: 50) { totalCount nodes { id } }
    runs(first: 50) { totalCount nodes { id status } }
    tombstones(first: 50) { totalCount }
  }`);
  const keys = await server.ask('{ keys(first: 200) { nodes { name revokedAt } } }');
  const nodes: unknown = at(keys, 'data.keys.nodes');
  if (at(answer, 'errors') !== undefined || !Array.isArray(nodes))
    throw new Error(`The registry could not be read: ${JSON.stringify([answer, keys]).slice(0, 500)}`);
  return JSON.stringify([answer, nodes.filter((node: unknown) => at(node, 'name') !== KEY_NAME)]);
}

interface RouteCall {
  readonly sender: Sender;
  readonly route: string;
  readonly method: string;
  readonly address: string;
  readonly expected: Verdict;
}

function routeCalls({ own, sha256 }: Objects, quick: boolean, random: Random): RouteCall[] {
  return Object.entries(ROUTES).flatMap(([route, role]) => {
    const id = route.startsWith('/checkpoints') ? own.checkpoint : own.dataset;
    return SENDERS.flatMap((sender) => {
      const expected = verdictOn(sender, route, role);
      const methods = expected === 'REFUSED' ? METHODS : [methodOf(route)];
      return methods
        .filter((method) => !quick || method === methodOf(route) || random() < 0.05)
        .map((method) => ({ sender, route, method, address: addressOf(route, { id, sha256 }), expected }));
    });
  });
}

function verdictOn(sender: Sender, route: string, role: NeededRole | 'KEY' | 'RUN_TOKEN'): Verdict {
  // No key opens it.
  if (role === 'RUN_TOKEN') return 'REFUSED';
  if (role !== 'KEY') return verdictBy(sender, { role, action: actionOf(route) });
  return sender.role === 'NOBODY' || sender.role === 'HERE' ? 'REFUSED' : 'ALLOWED';
}

async function attemptRoute(
  context: AttackState,
  { sender, route, method, address, expected }: RouteCall,
): Promise<void> {
  context.tryCount += 1;
  const identity = await context.identities.of(sender, expected);
  const tus = route.startsWith('/uploads') ? { 'tus-resumable': '1.0.0', 'upload-length': '10' } : {};
  const headers = { ...identity.headers, ...tus };
  const { status } = await context.requests.send(context.server.port, {
    method,
    path: address,
    headers,
    from: identity.from,
  });
  const isRefused = status === 401 || status === 403;
  // A method that a route does not have must return nothing either.
  const isHeld =
    expected === 'ALLOWED' ? !isRefused : isRefused || (method !== methodOf(route) && [404, 405].includes(status));
  if (!isHeld) context.findings.push(`${method} ${address} was answered with ${status} for ${sender.name}.`);
}

/** What a sender may change but not read must not be readable in the answer to a change. */
async function tryPayloads(context: AttackState, schema: GraphQLSchema, count: number): Promise<void> {
  const mutations = rootOperations(schema).filter(
    ({ name, kind }) => kind === 'mutation' && FIELD_RULES[name]?.role !== 'ADMIN',
  );
  for (const { name, document } of mutations.slice(0, count)) {
    const key = await context.identities.keyWith({ role: 'ADMIN', actions: [FIELD_RULES[name]?.action] });
    for (const hidden of factsThroughPayload(schema, name, document)) {
      context.tryCount += 1;
      const answer = await overHttp(
        context,
        { headers: { authorization: `Bearer ${key}` }, from: '127.0.0.1' },
        hidden,
      );
      if (verdictOf(answer) !== 'REFUSED')
        context.findings.push(
          `${hidden} was returned to a key that may not read: ${JSON.stringify(answer).slice(0, 300)}`,
        );
    }
  }
}

/** A key for one dataset and one model changes nothing else, whichever argument of a mutation names the object. */
async function tryForeignObjects(
  context: AttackState,
  schema: GraphQLSchema,
  { own, foreign }: Objects,
): Promise<void> {
  for (const field of Object.values(schema.getMutationType()?.getFields() ?? {})) {
    const { touches = {} } = FIELD_RULES[`Mutation.${field.name}`] ?? {};
    const ways: (readonly [way: string, value: string] | undefined)[] = [
      undefined,
      ...(['dataset', 'model', 'checkpoint', 'run'] as const).flatMap((kind) =>
        (touches[kind] ?? []).map((way) => [way, /slug$/i.test(way) ? foreign.slug : foreign[kind]] as const),
      ),
    ];
    const identity = await holderOf(context, own);
    for (const named of ways) {
      context.tryCount += 1;
      const [argumentName, ...way] = named?.[0].split('.') ?? [];
      const given = field.args.filter((argument) => argument.name === argumentName || isRequiredArgument(argument));
      const variables = Object.fromEntries(
        given.map(({ name, type }) => [name, name === argumentName ? withValue(type, way, named?.[1]) : plain(type)]),
      );
      const declared = given.map(({ name, type }) => `$${name}: ${String(type)}`).join(', ');
      const args = given.map(({ name }) => `${name}: $${name}`).join(', ');
      const document = `mutation(${declared}) { ${field.name}(${args}) { __typename } }`;
      const answer = await overHttp(context, identity, document, { variables });
      if (verdictOf(answer) !== 'REFUSED')
        context.findings.push(
          `${field.name} with ${JSON.stringify(variables)} was allowed to a key for other objects: ${JSON.stringify(answer).slice(0, 300)}`,
        );
    }
  }
}

/** Checks that a key for one dataset opens that dataset: if everything were refused, refusals would prove nothing. */
async function tryOwnObject(context: AttackState, { own }: Objects): Promise<void> {
  const document = 'mutation($id: ID!) { updateDataset(input: { id: $id }) { __typename } }';
  const answer = await overHttp(context, await holderOf(context, own), document, { variables: { id: own.dataset } });
  if (verdictOf(answer) !== 'ALLOWED') context.findings.push('A key for one dataset may not change that dataset.');
}

/** A sender with a new key for one dataset and one model. */
async function holderOf({ identities }: AttackState, { slug }: Names): Promise<Identity> {
  const key = await identities.keyWith({ role: 'ADMIN', resources: [`dataset:${slug}`, `model:${slug}`] });
  return { headers: { authorization: `Bearer ${key}` }, from: '127.0.0.1' };
}

/** Both texts from shortly before the point where they differ. */
function differenceOf(before: string, after: string): string {
  let index = 0;
  while (before[index] === after[index]) index += 1;
  const from = Math.max(0, index - 80);
  return `${before.slice(from, index + 80)} became ${after.slice(from, index + 80)}`;
}

/** Keys that are revoked, almost correct, or invalid. */
async function tryWrongKeys(context: AttackState): Promise<void> {
  const { server, identities } = context;
  const revoked = await identities.keyWith({ role: 'ADMIN' });
  await server.ask('mutation($id: ID!) { revokeKey(id: $id) { userErrors { code } } }', { id: idOf(revoked) });
  const valid = server.adminKey;
  const wrong: Readonly<Record<string, string>> = {
    revoked: `Bearer ${revoked}`,
    'cut short': `Bearer ${valid.slice(0, -1)}`,
    'with another last letter': `Bearer ${valid.slice(0, -1)}${valid.endsWith('A') ? 'B' : 'A'}`,
    'of the id of one and the secret of another': `Bearer ${revoked.slice(0, 37)}${valid.slice(37)}`,
    'without a secret': `Bearer ${valid.slice(0, 37)}`,
    'in capitals': `Bearer ${valid.toUpperCase()}`,
    'without a scheme': valid,
    'as a password': `Basic ${Buffer.from(`admin:${valid}`).toString('base64')}`,
    empty: 'Bearer ',
    'twice in one header': `Bearer ${valid}, Bearer ${valid}`,
    'with text after it': `Bearer ${valid} x`,
    'of wild cards': 'Bearer pfn_%_%',
    'as a list': `Bearer ["${valid}"]`,
  };
  for (const [index, [what, authorization]] of Object.entries(wrong).entries()) {
    const from = `127.4.0.${index + 1}`;
    for (const query of [
      '{ keys { totalCount } }',
      'mutation { createModel(input: { slug: "wrong", name: "w" }) { __typename } }',
    ]) {
      context.tryCount += 1;
      const answer = await overHttp(context, { headers: { authorization }, from }, query);
      if (verdictOf(answer) !== 'REFUSED')
        context.findings.push(`A key ${what} opened ${query}: ${JSON.stringify(answer).slice(0, 200)}`);
    }
    context.tryCount += 1;
    const { status } = await context.requests.send(server.port, {
      path: '/metrics',
      headers: { authorization, 'x-forwarded-for': '203.0.113.9' },
      from,
    });
    if (status !== 401 && status !== 403) context.findings.push(`A key ${what} opened /metrics: ${status}`);
  }
}

/** As the API names it: the hex digits in a key are those of a UUID. */
function idOf(key: string): string {
  return key.slice(4, 36).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

async function inParallel<Item>(
  items: readonly Item[],
  isTimeLeft: () => boolean,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const waiting = items.values();
  const go = async (): Promise<void> => {
    for (const item of waiting) {
      if (!isTimeLeft()) return;
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, go));
}
