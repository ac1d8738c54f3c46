/** Bodies of HTTP answers in blocks: what is read, what is left to the ordinary client, and who waits for whom. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import tls from 'node:tls';
import { createSha256 } from '../../src/platform/digest-thread.ts';
import { readBody, type BodyAnswer, type TakeBlock } from '../../src/platform/http-body.ts';

const BODY = randomBytes(7_000_003);

/** Answers the first request of each connection. */
async function serve(
  context: TestContext,
  answer: (socket: Socket, request: string) => void,
  listen: (onConnection: (socket: Socket) => void) => Server = createServer,
): Promise<URL> {
  const sockets = new Set<Socket>();
  const server = listen((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', (request) => answer(socket, request.toString('latin1')));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  assert.ok(isAddress(address));
  return new URL(`http://127.0.0.1:${address.port}/bucket/key?signature=a%2Fb`);
}

function isAddress(address: ReturnType<Server['address']>): address is AddressInfo {
  return typeof address === 'object' && address !== null;
}

const headOf = (byteSize: number, more = ''): string => `HTTP/1.1 200 OK\r\nContent-Length: ${byteSize}\r\n${more}\r\n`;

interface Read extends BodyAnswer {
  readonly bytes: Buffer;
}

async function read(
  url: URL,
  byteSize = BODY.length,
  options: { readonly stallTimeoutMs?: number } = {},
): Promise<Read> {
  const blocks: Buffer[] = [];
  const take: TakeBlock = (bytes) => void blocks.push(Buffer.from(bytes));
  const answer = await readBody({ url, byteSize, stallTimeoutMs: 10_000, take, ...options });
  return { ...answer, bytes: Buffer.concat(blocks) };
}

describe('a body of the stated size', () => {
  test('arrives whole and in order, with the path and the headers of the request', async (context) => {
    let asked = '';
    const url = await serve(context, (socket, request) => {
      asked = request;
      socket.end(Buffer.concat([Buffer.from(headOf(BODY.length)), BODY]));
    });
    const blocks: Buffer[] = [];
    const { head, isComplete } = await readBody({
      ...{ url, byteSize: BODY.length, stallTimeoutMs: 10_000, headers: { 'if-match': '"tag"' } },
      take: (bytes) => void blocks.push(Buffer.from(bytes)),
    });
    assert.equal(isComplete, true);
    assert.equal(head?.status, 200);
    assert.ok(Buffer.concat(blocks).equals(BODY));
    assert.match(asked, /^GET \/bucket\/key\?signature=a%2Fb HTTP\/1\.1\r\n/);
    assert.match(asked, /\r\nif-match: "tag"\r\n/);
    assert.ok(asked.includes(`\r\nhost: ${url.host}\r\n`));
  });

  test('arrives whole if the head comes byte by byte', async (context) => {
    const url = await serve(context, (socket) => {
      void (async () => {
        socket.setNoDelay(true);
        for (const character of headOf(BODY.length)) {
          socket.write(character);
          await nextTurn();
        }
        socket.end(BODY);
      })();
    });
    assert.ok((await read(url)).bytes.equals(BODY));
  });

  test('is not followed by bytes that the server sends after it', async (context) => {
    const url = await serve(context, (socket) => socket.end(Buffer.concat([Buffer.from(headOf(5)), BODY])));
    const { bytes, isComplete } = await read(url, 5);
    assert.equal(isComplete, true);
    assert.ok(bytes.equals(BODY.subarray(0, 5)));
  });

  test('arrives whole over TLS, and not from a server without a trusted certificate', async (context) => {
    const fixture = (name: string): string => readFileSync(path.join(import.meta.dirname, '../fixtures', name), 'utf8');
    const cert = fixture('localhost-certificate.pem');
    const url = await serve(
      context,
      (socket) => socket.end(Buffer.concat([Buffer.from(headOf(BODY.length)), BODY])),
      (onConnection) => tls.createServer({ cert, key: fixture('localhost-key.pem') }, onConnection),
    );
    url.protocol = 'https:';
    assert.deepEqual(await read(url), { head: undefined, isComplete: false, bytes: Buffer.alloc(0) });
    const trusted = tls.getCACertificates('default');
    context.after(() => tls.setDefaultCACertificates(trusted));
    tls.setDefaultCACertificates([cert]);
    const { bytes, isComplete } = await read(url);
    assert.equal(isComplete, true);
    assert.ok(bytes.equals(BODY));
  });
});

describe('everything else is left to the ordinary client', () => {
  const answers: readonly (readonly [string, string])[] = [
    ['a redirect', 'HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 7000003\r\n\r\n'],
    ['an error', 'HTTP/1.1 403 Forbidden\r\nContent-Length: 7000003\r\n\r\n'],
    ['a body in chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7000003\r\n\r\n'],
    ['a compressed body', 'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7000003\r\n\r\n'],
    ['a body of another size', headOf(BODY.length - 1)],
    ['a body of unknown size', 'HTTP/1.1 200 OK\r\n\r\n'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
    ['a head without end', `HTTP/1.1 200 OK\r\n${'X-Header: 1\r\n'.repeat(10_000)}`],
  ];
  for (const [what, head] of answers)
    test(what, async (context) => {
      const url = await serve(context, (socket) => socket.end(Buffer.concat([Buffer.from(head), BODY])));
      const { bytes, isComplete } = await read(url);
      assert.equal(isComplete, false);
      assert.equal(bytes.length, 0);
    });

  test('the address of a redirect is in the head', async (context) => {
    const url = await serve(context, (socket) => socket.end('HTTP/1.1 302 Found\r\nlocation: /elsewhere \r\n\r\n'));
    const { head } = await read(url);
    assert.equal(head?.status, 302);
    assert.equal(head.headers.get('location'), '/elsewhere');
  });

  for (const [how, end] of [
    ['ends', (socket: Socket) => socket.end()],
    ['is reset', (socket: Socket) => socket.resetAndDestroy()],
    ['stays open without a byte', () => undefined],
  ] as const)
    test(`the rest of a body whose connection ${how}`, async (context) => {
      const sent = 3_000_000;
      const url = await serve(context, (socket) => {
        socket.write(Buffer.concat([Buffer.from(headOf(BODY.length)), BODY.subarray(0, sent)]), () => end(socket));
      });
      const { bytes, isComplete } = await read(url, BODY.length, { stallTimeoutMs: 200 });
      assert.equal(isComplete, false);
      assert.ok(bytes.equals(BODY.subarray(0, bytes.length)));
      // A reset may overtake bytes that were sent before it.
      if (how !== 'is reset') assert.equal(bytes.length, sent);
    });

  test('an address at which nothing listens', async (context) => {
    const url = await serve(context, (socket) => socket.end());
    url.port = '1';
    assert.deepEqual(await read(url), { head: undefined, isComplete: false, bytes: Buffer.alloc(0) });
  });
});

describe('the consumer', () => {
  test('makes the connection wait: few blocks are in memory, and none is overwritten before it was taken', async (context) => {
    const url = await serve(context, (socket) => socket.end(Buffer.concat([Buffer.from(headOf(BODY.length)), BODY])));
    let held = 0;
    let heldMax = 0;
    const blocks: Buffer[] = [];
    const { isComplete } = await readBody({
      ...{ url, byteSize: BODY.length, stallTimeoutMs: 10_000 },
      take: async (bytes) => {
        heldMax = Math.max(heldMax, (held += bytes.length));
        for (let turn = 0; turn < 20; turn += 1) await nextTurn();
        blocks.push(Buffer.from(bytes));
        held -= bytes.length;
      },
    });
    assert.equal(isComplete, true);
    assert.ok(Buffer.concat(blocks).equals(BODY));
    assert.ok(heldMax <= 4 * 1024 * 1024, `${heldMax} bytes at once`);
  });

  for (const [how, fail] of [
    [
      'throws',
      () => {
        throw new Error('full');
      },
    ],
    ['rejects', () => Promise.reject(new Error('full'))],
  ] as const)
    test(`that ${how} ends the reading with its error, and gets nothing more`, async (context) => {
      const url = await serve(context, (socket) =>
        socket.write(Buffer.concat([Buffer.from(headOf(2 * BODY.length)), BODY])),
      );
      let count = 0;
      const take: TakeBlock = () => {
        count += 1;
        return count < 3 ? undefined : fail();
      };
      await assert.rejects(readBody({ url, byteSize: 2 * BODY.length, stallTimeoutMs: 10_000, take }), {
        message: 'full',
      });
      const countThen = count;
      await nextTurn();
      assert.equal(count, countThen);
    });
});

describe('a digest', () => {
  const expected = createHash('sha256').update(BODY).digest('hex');

  test('of bytes in shared memory and of others is the same, whichever comes first', async () => {
    const shared = Buffer.from(new SharedArrayBuffer(BODY.length));
    BODY.copy(shared);
    const middle = 3_000_000;
    for (const [first, second] of [
      [shared, shared],
      [BODY, BODY],
      [shared, BODY],
      [BODY, shared],
    ] as const) {
      const digest = createSha256();
      await Promise.all([digest.update(first.subarray(0, middle)), digest.update(second.subarray(middle))]);
      assert.equal(await digest.digest(), expected);
    }
  });

  test('is not mixed up with others at the same time', async () => {
    const shared = Buffer.from(new SharedArrayBuffer(BODY.length));
    BODY.copy(shared);
    const digests = Array.from({ length: 4 }, createSha256);
    for (let first = 0; first < BODY.length; first += 1_000_000)
      await Promise.all(digests.map((digest) => digest.update(shared.subarray(first, first + 1_000_000))));
    assert.deepEqual(
      await Promise.all(digests.map((digest) => digest.digest())),
      digests.map(() => expected),
    );
  });

  test('of nothing is that of nothing', async () => {
    assert.equal(await createSha256().digest(), createHash('sha256').digest('hex'));
  });
});
