/** Hundreds of slow clients: they must not delay others, and the server must disconnect them. */
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { MAX_CONNECTIONS_PER_ADDRESS } from '../src/api/slow-clients.ts';
import { at } from '../test/support/catalogue.ts';
import type { Attack } from './attack.ts';
import type { AttackedServer } from './attacked-server.ts';

const HOST = 'Host: 127.0.0.1\r\n';
const UPGRADE = `GET /graphql HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n`;
/** Every dataset of the catalogue, five times: several such answers exceed the buffers of a connection. */
const LARGE =
  'datasets(first: 100) { nodes { id slug name description notes sourceUrls imageSizeNote provenanceNote organs { name } } }';
const LARGE_QUERY = JSON.stringify({ query: `{ ${[1, 2, 3, 4, 5].map((n) => `a${n}: ${LARGE}`).join(' ')} }` });

interface Slowness {
  readonly what: string;
  readonly opening: string | Buffer;
  /** Sent again and again; undefined: silence. */
  readonly repeatedBytes?: string;
  /** Simultaneous connections; undefined: as many as for the others. */
  readonly count?: number;
  /** False: the client never reads the answer. */
  readonly reads?: boolean;
  /** Whether the quick form waits for these clients too. */
  readonly isInQuickForm: boolean;
}

const post = (headers: string, body = ''): string =>
  `POST /graphql HTTP/1.1\r\n${HOST}Content-Type: application/json\r\n${headers}\r\n${body}`;

const SLOWNESSES: readonly Slowness[] = [
  { what: 'that sends nothing', opening: '', isInQuickForm: true },
  {
    what: 'that never ends its headers',
    opening: `GET / HTTP/1.1\r\n${HOST}`,
    repeatedBytes: 'X-Slow: 1\r\n',
    isInQuickForm: true,
  },
  { what: 'that never ends its first line', opening: 'GET /', repeatedBytes: 'a', isInQuickForm: true },
  {
    what: 'whose body arrives byte by byte',
    opening: post('Content-Length: 900000\r\n', '{'),
    repeatedBytes: ' ',
    isInQuickForm: false,
  },
  {
    what: 'whose chunked body never ends',
    opening: post('Transfer-Encoding: chunked\r\n', '1\r\n{\r\n'),
    repeatedBytes: '1\r\n \r\n',
    isInQuickForm: false,
  },
  { what: 'that opens a WebSocket and sends nothing', opening: UPGRADE, isInQuickForm: true },
  {
    what: 'that initialises a WebSocket connection and answers no ping',
    opening: Buffer.concat([Buffer.from(UPGRADE), frameOf('{"type":"connection_init"}')]),
    isInQuickForm: false,
  },
  {
    what: 'whose WebSocket message arrives byte by byte',
    opening: Buffer.concat([
      Buffer.from(UPGRADE),
      frameOf('{"type":"connection_init"}'),
      // A frame of 500,000 bytes, masked with zeros.
      Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 7, 0xa1, 0x20, 0, 0, 0, 0]),
    ]),
    repeatedBytes: ' ',
    isInQuickForm: false,
  },
  {
    what: 'that requests large answers and does not read them',
    opening: post(`Content-Length: ${LARGE_QUERY.length}\r\n`, LARGE_QUERY).repeat(80),
    // A client that reads nothing learns of a closed connection by writing.
    repeatedBytes: ' ',
    reads: false,
    count: 3,
    isInQuickForm: false,
  },
];

const REPEAT_EVERY_MS = 500;
/** The longest timeout is half a minute; a busy machine gets four times as long. */
const CLOSED_MS = 120_000;

export const slowClients: Attack = {
  name: 'slow-clients',
  about:
    'connections that send or read byte by byte, or nothing at all, on headers, bodies, answers and sockets, and more connections than an address may have',
  share: 10,
  run: async ({ quick, server: sharedServer, signal }) => {
    const server = await sharedServer();
    const findings: string[] = [];
    const each = quick ? 3 : 40;
    const slow = SLOWNESSES.filter(({ isInQuickForm }) => isInQuickForm || !quick).map((slowness, index) => ({
      ...slowness,
      // They use a separate address, so that a normal client at another one is not counted with them.
      connections: Array.from({ length: slowness.count ?? each }, () => open(server, `127.5.0.${index + 1}`, slowness)),
    }));
    let tryCount = slow.reduce((sum, { connections }) => sum + connections.length, 0);
    try {
      const endMs = performance.now() + CLOSED_MS;
      const areOpen = (): boolean => slow.some(({ connections }) => connections.some(({ closed }) => !closed));
      while (areOpen() && performance.now() < endMs && !signal.aborted) {
        for (const { connections, repeatedBytes } of slow)
          for (const { closed, socket } of connections)
            if (!closed && repeatedBytes !== undefined) socket.write(repeatedBytes);
        const refusal = await refusalOf(server);
        if (refusal !== undefined)
          findings.push(`During slow connections a normal client was answered with ${refusal}`);
        if (findings.length > 0) break;
        await pause(REPEAT_EVERY_MS);
      }
      for (const { what, connections } of slow) {
        const openCount = connections.filter(({ closed }) => !closed).length;
        if (openCount > 0 && findings.length === 0 && !signal.aborted)
          findings.push(
            `${openCount} of ${connections.length} clients ${what} were still connected after ${CLOSED_MS / 1000} s.`,
          );
      }
    } finally {
      for (const { socket } of slow.flatMap(({ connections }) => connections)) socket.destroy();
    }

    const wanted = MAX_CONNECTIONS_PER_ADDRESS + (quick ? 20 : 200);
    const many = Array.from({ length: wanted }, () =>
      open(server, '127.5.1.1', { what: '', opening: 'GET ', isInQuickForm: true }),
    );
    tryCount += wanted;
    try {
      await Promise.all(many.map(({ settled }) => settled));
      const refusal = await refusalOf(server);
      if (refusal !== undefined)
        findings.push(`Beside ${wanted} connections of one address a client of another was answered with ${refusal}`);
      const openCount = many.filter(({ closed }) => !closed).length;
      if (openCount > MAX_CONNECTIONS_PER_ADDRESS)
        findings.push(`One address held ${openCount} connections; at most ${MAX_CONNECTIONS_PER_ADDRESS} are allowed.`);
    } finally {
      for (const { socket } of many) socket.destroy();
    }
    const fault = await server.fault();
    if (fault !== undefined) findings.push(fault);
    return { tryCount, findings };
  },
};

interface Connection {
  readonly socket: Socket;
  /** Resolves once it is known whether the server accepted the connection. */
  readonly settled: Promise<void>;
  closed: boolean;
}

function open({ port }: AttackedServer, from: string, { opening, reads = true }: Slowness): Connection {
  const socket = connect({ host: '127.0.0.1', port, localAddress: from });
  const { promise: settled, resolve } = Promise.withResolvers<void>();
  const connection: Connection = { socket, settled, closed: false };
  socket.once('connect', () => {
    socket.write(opening);
    // A connection above the limit is closed at once.
    setTimeout(resolve, REPEAT_EVERY_MS).unref();
  });
  socket.on('error', () => undefined);
  socket.once('close', () => {
    connection.closed = true;
    resolve();
  });
  if (reads) socket.resume();
  else socket.pause();
  return connection;
}

/** What a normal client gets instead of an answer. */
async function refusalOf(server: AttackedServer): Promise<string | undefined> {
  const answer = await server
    .ask('{ datasets(first: 1) { totalCount } }', {}, null)
    .catch((error: unknown) => String(error));
  const isAnswered = typeof at(answer, 'data.datasets.totalCount') === 'number';
  return isAnswered ? undefined : JSON.stringify(answer).slice(0, 200);
}

/** A text message of a client, masked with zeros (RFC 6455, 5.2); at most 125 bytes. */
function frameOf(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
}
