/** Bytes that no HTTP library would send, on every route: malformed requests, upgrades, and resets at every byte. */
import { connect } from 'node:net';
import { mutated } from '../test/support/mutations.ts';
import { oneOf, type Attack, type AttackOutcome, type Random } from './attack.ts';
import type { AttackedServer } from './attacked-server.ts';

const ID = '00000000-0000-7000-8000-000000000000';
export const ROUTES = [
  '/',
  '/graphql',
  '/healthz',
  '/readyz',
  '/metrics',
  '/session',
  '/uploads',
  `/uploads/${'0'.repeat(32)}`,
  `/artifacts/${'0'.repeat(64)}`,
  `/checkpoints/${ID}/download`,
  `/checkpoints/${ID}/README.md`,
  `/datasets/${ID}/croissant.json`,
  `/datasets/${ID}/thumbnails/0.webp`,
  `/embeddings/${ID}.npy`,
  '/assets/none.js',
  '/icon.svg',
  '/datasets',
  '/nothing-here',
] as const;

const METHODS = ['GET', 'POST', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'PATCH', 'CONNECT', 'TRACE', 'PRI'] as const;
/** Targets that URL parsers, routers and decoders may handle wrongly. */
const TARGETS = [
  '//',
  '///',
  '//[',
  '//:',
  '//a:b@:0/',
  'http://[',
  'http://',
  'http:///graphql',
  'ws://x:99999/graphql',
  '*',
  '?',
  '#',
  'graphql',
  '/graphql?%',
  '/%',
  '/%E0%A4%A',
  '/%00',
  '/..',
  '/../../../../etc/passwd',
  '/assets/..%2f..%2f..%2fpackage.json',
  '/\\..\\',
  '/graphql//',
  '//graphql',
  '/uploads/%2e%2e',
  '/checkpoints/%ff/download',
  `/${'a'.repeat(9_000)}`,
  'javascript:alert(1)',
  '127.0.0.1:1',
] as const;
const ORIGINS = [
  '',
  'Origin: null\r\n',
  'Origin: http://[\r\n',
  'Origin: https://elsewhere.example\r\n',
  'Origin: \r\n',
] as const;
const HOSTS = ['127.0.0.1', '', '[', 'a b', 'x'.repeat(300), '127.0.0.1:99999', 'elsewhere.example'] as const;
const UPGRADE =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n';
const BODY = '{"query":"{ viewer { role } }"}';

/** What the attacker does after sending its bytes. */
type Ending = 'RESET' | 'RESET_AT_ANSWER' | 'END';
const ENDINGS = ['RESET', 'RESET_AT_ANSWER', 'END'] as const satisfies readonly Ending[];

interface Attempt {
  readonly bytes: Buffer;
  readonly ending: Ending;
}

const AT_ONCE = 32;
/** The number of tries between two checks whether the server lives: a finding names one of them. */
const CHECK_EVERY = 256;
const PATIENCE_MS = 400;

export const rawSockets: Attack = {
  name: 'raw-sockets',
  about: 'malformed requests and upgrades, and connections reset at every byte, on every route',
  share: 6,
  run: async ({ quick, random, isTimeLeft, server }): Promise<AttackOutcome> => {
    const attacked = await server();
    const findings: string[] = [];
    let tryCount = 0;
    const sendAll = async (attempts: Iterable<Attempt>): Promise<void> => {
      let batch: Attempt[] = [];
      const send = async (): Promise<void> => {
        const answers = await inParallel(batch, (each) => answerTo(attacked, each));
        tryCount += batch.length;
        for (const [index, answer] of answers.entries()) {
          const fault = faultIn(answer);
          if (fault !== undefined) findings.push(`${fault} to ${shown(batch[index])}`);
        }
        const fault = await attacked.fault();
        if (fault !== undefined) findings.push(`${fault}; one of ${batch.map(shown).join(' | ').slice(0, 4_000)}`);
        batch = [];
      };
      for (const each of attempts) {
        if (findings.length > 0 || !isTimeLeft()) break;
        batch.push(each);
        if (batch.length === CHECK_EVERY) await send();
      }
      if (batch.length > 0) await send();
    };
    await sendAll(hostileUpgrades());
    await sendAll(hostileRequests(quick ? 3 : 1));
    // A prime stride covers every byte over several seeds, as each seed begins at another one.
    await sendAll(cutOff(quick ? 29 : 1, random));
    await sendAll(atRandom(random, quick ? 256 : 20_000));
    findings.push(...attacked.errors().map((line) => `logged as an error: ${line}`));
    return { tryCount, findings };
  },
};

function request(method: string, target: string, headers: string, body = ''): string {
  const length = body === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`;
  return `${method} ${target} HTTP/1.1\r\n${headers}${length}\r\n${body}`;
}

const HOST = 'Host: 127.0.0.1\r\n';

function* hostileUpgrades(): Generator<Attempt> {
  for (const target of [...TARGETS, ...ROUTES])
    for (const origin of ORIGINS)
      for (const ending of ENDINGS) yield { bytes: bytesOf(request('GET', target, HOST + UPGRADE + origin)), ending };
  for (const host of HOSTS)
    for (const upgrade of [UPGRADE, 'Connection: Upgrade\r\nUpgrade: h2c\r\n', 'Connection: Upgrade\r\nUpgrade: \r\n'])
      yield { bytes: bytesOf(request('GET', '/graphql', `Host: ${host}\r\n${upgrade}`)), ending: 'END' };
}

function* hostileRequests(stride: number): Generator<Attempt> {
  let count = 0;
  for (const method of METHODS) {
    for (const target of [...TARGETS, ...ROUTES]) {
      for (const host of HOSTS) {
        count += 1;
        if (count % stride !== 0) continue;
        const body = method === 'POST' ? BODY : '';
        yield {
          bytes: bytesOf(request(method, target, `Host: ${host}\r\nConnection: close\r\n`, body)),
          ending: ENDINGS[count % ENDINGS.length] ?? 'END',
        };
      }
    }
  }
}

/** A valid request to every route, over a connection that is reset after this many bytes. */
function* cutOff(stride: number, random: Random): Generator<Attempt> {
  for (const route of ROUTES) {
    const sound = [
      request('GET', route, HOST),
      request('GET', route, HOST + UPGRADE),
      request('POST', route, HOST, BODY),
      request('PATCH', route, `${HOST}Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n`, BODY),
    ];
    for (const text of sound) {
      for (let length = 1 + Math.floor(random() * stride); length <= text.length; length += stride)
        yield { bytes: bytesOf(text.slice(0, length)), ending: 'RESET' };
    }
  }
}

/** Valid requests and frames, changed in a few places. */
function* atRandom(random: Random, count: number): Generator<Attempt> {
  const frame = (text: string): Buffer =>
    Buffer.concat([Buffer.from([0x81, 0x80 | Math.min(text.length, 125), 0, 0, 0, 0]), bytesOf(text.slice(0, 125))]);
  const init = frame('{"type":"connection_init"}');
  const ask = frame('{"id":"1","type":"subscribe","payload":{"query":"{ viewer { role } }"}}');
  const upgrade = bytesOf(request('GET', '/graphql', HOST + UPGRADE));
  const corpus = [
    ...ROUTES.map((route) => bytesOf(request('GET', route, HOST))),
    ...ROUTES.map((route) => bytesOf(request('POST', route, HOST, BODY))),
    bytesOf(request('GET', '/graphql', `${HOST}Range: bytes=0-,5-1\r\nIf-None-Match: "\r\nAccept: text/html\r\n`)),
    bytesOf(
      `POST /graphql HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"que\r\n0\r\n\r\n`,
    ),
    upgrade,
    Buffer.concat([upgrade, init, ask]),
    Buffer.concat([upgrade, init, ask, Buffer.from([0x88, 0x80, 0, 0, 0, 0])]),
    Buffer.concat([upgrade, Buffer.from([0x89, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
  ];
  for (let left = count; left > 0; left -= 1)
    yield { bytes: mutated(corpus, random), ending: oneOf<Ending>(ENDINGS, random) };
}

/** What came back until either side closed the connection; never rejects. */
function answerTo({ port }: AttackedServer, { bytes, ending }: Attempt): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect(port, '127.0.0.1');
    const timer = setTimeout(() => socket.resetAndDestroy(), PATIENCE_MS);
    socket.on('error', () => undefined);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks).toString('latin1'));
    });
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      if (ending === 'RESET_AT_ANSWER') socket.resetAndDestroy();
    });
    socket.once('connect', () => {
      socket.write(bytes, () => {
        if (ending === 'RESET') socket.resetAndDestroy();
        if (ending === 'END') socket.end();
      });
    });
  });
}

/** An answer must be a refusal or the requested data, never an error of the server itself. */
function faultIn(answer: string): string | undefined {
  const [first = ''] = answer.split('\r\n', 1);
  if (first === '' || /^HTTP\/1\.1 [1-4]\d\d /.test(first)) return undefined;
  return `the answer was ${JSON.stringify(first.slice(0, 100))}`;
}

async function inParallel<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const go = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      const item = items[index];
      if (item !== undefined) results[index] = await work(item);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, go));
  return results;
}

function bytesOf(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

function shown(each: Attempt | undefined): string {
  return each === undefined ? '' : `${JSON.stringify(each.bytes.toString('latin1').slice(0, 200))} (${each.ending})`;
}
