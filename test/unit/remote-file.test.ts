/** Fetching from real servers on this machine: correct ones, ones that break off, and ones that send false headers. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { fetchRemoteFile, type RemoteFileOptions } from '../../src/platform/remote-file.ts';

const BYTES = Buffer.alloc(300_000, 'weights of an encoder, ');
const SHA256 = createHash('sha256').update(BYTES).digest('hex');
const HALF = 150_000;

let folder = '';
let base = '';
let requests: { readonly url: string; readonly range: string | undefined; readonly ifRange: string | undefined }[] = [];
const server = createServer((request, response) => {
  const url = request.url ?? '';
  requests.push({ url, range: request.headers.range, ifRange: request.headers['if-range']?.toString() });
  const answer = ANSWERS[url];
  if (answer === undefined) response.writeHead(404).end();
  else answer(request, response);
});

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-remote-'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  base = `http://127.0.0.1:${addressOf(server).port}`;
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(() => {
  requests = [];
});

function addressOf(listening: { address(): AddressInfo | string | null }): AddressInfo {
  const found = listening.address();
  assert.ok(found !== null && typeof found === 'object');
  return found;
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** Half of the file, then the end of the connection. */
function half(response: ServerResponse, headers: Record<string, string>): void {
  response.writeHead(200, { 'content-length': BYTES.length, ...headers });
  response.write(BYTES.subarray(0, HALF), () => response.destroy());
}

function rest(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  contentRange?: string,
  etag = '"one"',
): void {
  const first = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? Number.NaN);
  response.writeHead(206, {
    ...(etag === '' ? {} : { etag }),
    'content-range': contentRange ?? `bytes ${first}-${bytes.length - 1}/${bytes.length}`,
  });
  response.end(bytes.subarray(first));
}

const redirectTo =
  (location: string): Answer =>
  (_request, response) =>
    response.writeHead(302, { location }).end();
const OTHER = Buffer.alloc(BYTES.length, 'another file, ');

const ANSWERS: Readonly<Record<string, Answer>> = {
  '/file': (_request, response) => response.writeHead(200, { 'content-length': BYTES.length }).end(BYTES),
  '/without-length': (_request, response) => {
    response.writeHead(200);
    response.write(BYTES.subarray(0, HALF));
    response.end(BYTES.subarray(HALF));
  },
  '/resumes': (request, response) =>
    request.headers.range === undefined ? half(response, { etag: '"one"' }) : rest(request, response, BYTES),
  '/changes': (request, response) =>
    request.headers.range === undefined
      ? half(response, { etag: '"one"' })
      : response.writeHead(200, { etag: '"two"', 'content-length': OTHER.length }).end(OTHER),
  '/weak': (request, response) =>
    requests.length === 1
      ? half(response, { etag: 'W/"one"' })
      : response.writeHead(200).end(request.headers.range === undefined ? BYTES : OTHER),
  '/wrong-range': (request, response) => {
    if (request.headers.range !== undefined)
      rest(request, response, BYTES, `bytes 0-${BYTES.length - 1}/${BYTES.length}`);
    else if (requests.length === 1) half(response, { etag: '"one"' });
    else response.writeHead(200).end(BYTES);
  },
  '/other-rest': (request, response) => {
    if (requests.length === 1) half(response, { etag: '"one"' });
    else if (request.headers.range === undefined)
      response.writeHead(200, { etag: '"two"', 'content-length': OTHER.length }).end(OTHER);
    else rest(request, response, OTHER, undefined, '"two"');
  },
  '/rest-without-validator': (request, response) => {
    if (request.headers.range === undefined && requests.length > 1) response.writeHead(200).end(BYTES);
    else if (request.headers.range === undefined) half(response, { etag: '"one"' });
    else rest(request, response, OTHER, undefined, '');
  },
  '/always-wrong-range': (request, response) => {
    if (request.headers.range === undefined) half(response, { etag: '"one"' });
    else rest(request, response, BYTES, `bytes 0-${BYTES.length - 1}/${BYTES.length}`);
  },
  '/always-another': (_request, response) => half(response, { etag: `"${requests.length}"` }),
  '/no-range': (request, response) => {
    if (request.headers.range !== undefined) response.writeHead(416).end();
    else if (requests.length === 1) half(response, { etag: '"one"' });
    else response.writeHead(200).end(BYTES);
  },
  '/never-ends-well': (_request, response) => half(response, {}),
  '/busy': (_request, response) =>
    requests.length < 3 ? response.writeHead(503).end() : response.writeHead(200).end(BYTES),
  '/always-busy': (_request, response) => response.writeHead(503).end(),
  '/stalls': (_request, response) => {
    if (requests.length > 1) response.writeHead(200).end(BYTES);
    else response.writeHead(200, { 'content-length': BYTES.length }).write(BYTES.subarray(0, HALF));
  },
  '/drips': (_request, response) => {
    response.writeHead(200);
    const drip = setInterval(() => response.write('x'), 20);
    response.on('close', () => clearInterval(drip));
  },
  '/endless': (_request, response) => {
    response.writeHead(200);
    const write = (): void => {
      while (!response.destroyed && response.write(BYTES));
    };
    response.on('drain', write);
    write();
  },
  '/promises-less': (_request, response) => {
    response.socket?.end(`HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n${BYTES.subarray(0, 50).toString()}`);
  },
  '/gzip': (_request, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(BYTES),
  '/forbidden': (_request, response) => response.writeHead(403).end('secret words of the server'),
  '/hop': redirectTo('/hop-2'),
  '/hop-2': redirectTo('file'),
  '/loop': redirectTo('/loop'),
  '/nowhere': (_request, response) => response.writeHead(302).end(),
  '/to-private': (_request, response) =>
    response.writeHead(307, { location: `http://127.0.0.2:${addressOf(server).port}/file` }).end(),
  '/to-private-name': (_request, response) =>
    response.writeHead(307, { location: `http://localhost:${addressOf(server).port}/file` }).end(),
  '/to-file-scheme': redirectTo('file:///etc/passwd'),
  '/to-credentials': redirectTo('http://user:word@127.0.0.1/'),
  '/to-nonsense': redirectTo('http://['),
};

async function fetchFrom(
  place: string,
  options: Partial<RemoteFileOptions> = {},
): Promise<{ sha256: string; byteSize: number }> {
  const destination = path.join(folder, 'fetched');
  const url = place.startsWith('/') ? base + place : place;
  try {
    const fetched = await fetchRemoteFile({
      url,
      destination,
      maxBytes: 1_000_000,
      isAllowedAddress: () => true,
      retryDelayMs: 1,
      ...options,
    });
    assert.equal(
      createHash('sha256')
        .update(await readFile(destination))
        .digest('hex'),
      fetched.sha256,
      'what was reported is what was written',
    );
    return fetched;
  } finally {
    await rm(destination, { force: true });
  }
}

async function faultOf(place: string, options: Partial<RemoteFileOptions> = {}): Promise<DomainError> {
  const destination = path.join(folder, 'refused');
  const url = place.startsWith('/') ? base + place : place;
  const fetching = fetchRemoteFile({
    url,
    destination,
    maxBytes: 1_000_000,
    isAllowedAddress: () => true,
    retryDelayMs: 1,
    field: 'input.url',
    ...options,
  });
  const error = await fetching.then(
    () => assert.fail('it was fetched'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof DomainError, String(error));
  assert.equal(error.field, 'input.url');
  assert.deepEqual(await readdir(folder), [], 'nothing stays behind');
  return error;
}

describe('a file', () => {
  test('is downloaded completely, verified, with progress', async () => {
    const progress: number[] = [];
    const options = {
      expectedSha256: SHA256,
      expectedByteSize: BYTES.length,
      onProgress: (each: { receivedBytes: number }) => progress.push(each.receivedBytes),
    };
    assert.deepEqual(await fetchFrom('/file', options), { sha256: SHA256, byteSize: BYTES.length });
    assert.equal(progress.at(-1), BYTES.length);
    assert.deepEqual(
      progress,
      progress.toSorted((a, b) => a - b),
    );
  });

  test('needs no Content-Length', async () => {
    assert.equal((await fetchFrom('/without-length')).sha256, SHA256);
  });

  test('is followed through redirects, relative ones too', async () => {
    assert.equal((await fetchFrom('/hop')).sha256, SHA256);
    assert.deepEqual(
      requests.map(({ url }) => url),
      ['/hop', '/hop-2', '/file'],
    );
  });

  test('at a host name is fetched from one of its addresses', async () => {
    assert.equal((await fetchFrom(base.replace('127.0.0.1', 'localhost') + '/file')).sha256, SHA256);
  });
});

describe('a connection that breaks off', () => {
  test('is resumed where it broke off', async () => {
    assert.equal((await fetchFrom('/resumes')).sha256, SHA256);
    // The bytes that had arrived: those still in the network when it broke are lost.
    const [first, second] = requests;
    assert.deepEqual([requests.length, first?.range, second?.ifRange], [2, undefined, '"one"']);
    assert.match(second?.range ?? '', /^bytes=[1-9]\d*-$/);
  });

  test('restarts from the beginning if the file has changed meanwhile', async () => {
    assert.equal((await fetchFrom('/changes')).sha256, createHash('sha256').update(OTHER).digest('hex'));
  });

  test('restarts from the beginning if nothing proves that the rest belongs to the same file', async () => {
    assert.equal((await fetchFrom('/weak')).sha256, SHA256);
    assert.deepEqual(
      requests.map(({ range }) => range),
      [undefined, undefined],
    );
  });

  test('never joins two files: a rest with another ETag, or without one, is discarded', async () => {
    assert.equal((await fetchFrom('/other-rest')).sha256, createHash('sha256').update(OTHER).digest('hex'));
    requests = [];
    assert.equal((await fetchFrom('/rest-without-validator')).sha256, SHA256);
  });

  test('is abandoned after a few tries if the rest is always wrong or always of another file', async () => {
    for (const place of ['/always-wrong-range', '/always-another']) {
      requests = [];
      assert.equal((await faultOf(place)).code, 'REMOTE_BROKEN_OFF', place);
      assert.ok(requests.length <= 12, `${requests.length} requests to ${place}`);
    }
  });

  test('is not resumed once the caller has aborted', async () => {
    const client = new AbortController();
    const fetching = faultOf('/drips', { signal: client.signal, onProgress: () => client.abort() });
    assert.equal((await fetching).code, 'REMOTE_BROKEN_OFF');
    assert.equal(requests.length, 1);
  });

  for (const place of ['/wrong-range', '/no-range']) {
    test(`is begun again when the rest cannot be had (${place})`, async () => {
      assert.equal((await fetchFrom(place)).sha256, SHA256);
    });
  }

  test('is resumed if it stalls', async () => {
    assert.equal((await fetchFrom('/stalls', { stallTimeoutMs: 100 })).sha256, SHA256);
  });

  test('a busy server is retried', async () => {
    assert.equal((await fetchFrom('/busy')).sha256, SHA256);
  });

  test('retries are limited in number', async () => {
    for (const place of ['/never-ends-well', '/always-busy']) {
      const error = await faultOf(place);
      assert.deepEqual([error.code, error.retryable], ['REMOTE_BROKEN_OFF', true], place);
      assert.ok(requests.length <= 12);
    }
  });

  test('retries are limited in time', async () => {
    assert.equal((await faultOf('/drips', { totalTimeoutMs: 200 })).code, 'REMOTE_BROKEN_OFF');
  });
});

describe('is refused', () => {
  const wrong: readonly (readonly [string, string, string, Partial<RemoteFileOptions>?])[] = [
    ['more than is allowed, by its length', '/file', 'FILE_TOO_LARGE', { maxBytes: BYTES.length - 1 }],
    ['more than is allowed, by its bytes', '/endless', 'FILE_TOO_LARGE'],
    ['another size than expected', '/file', 'DIGEST_MISMATCH', { expectedByteSize: 7 }],
    [
      'another size than expected, reported only at the end',
      '/without-length',
      'DIGEST_MISMATCH',
      { expectedByteSize: 7 },
    ],
    ['another sha256 than expected', '/file', 'DIGEST_MISMATCH', { expectedSha256: '0'.repeat(64) }],
    ['a file that is encoded', '/gzip', 'REMOTE_REFUSED'],
    ['an HTTP error', '/forbidden', 'REMOTE_REFUSED'],
    ['what is not there', '/no-such', 'REMOTE_REFUSED'],
    ['a loop of redirects', '/loop', 'REMOTE_URL_NOT_ALLOWED'],
    ['a redirect to nowhere', '/nowhere', 'REMOTE_REFUSED'],
    ['a redirect to a local file', '/to-file-scheme', 'REMOTE_URL_NOT_ALLOWED'],
    ['a redirect with a password', '/to-credentials', 'REMOTE_URL_NOT_ALLOWED'],
    ['a redirect to nonsense', '/to-nonsense', 'REMOTE_URL_NOT_ALLOWED'],
    ['a local file', 'file:///etc/passwd', 'REMOTE_URL_NOT_ALLOWED'],
    ['another scheme', 'ftp://example.org/file', 'REMOTE_URL_NOT_ALLOWED'],
    ['no address', 'weights.ckpt', 'REMOTE_URL_NOT_ALLOWED'],
    ['a password', 'https://user:word@example.org/', 'REMOTE_URL_NOT_ALLOWED'],
    ['a host that does not exist', 'http://no-such-host.invalid/file', 'REMOTE_UNREACHABLE'],
    ['loopback', 'http://127.0.0.1/file', 'REMOTE_URL_NOT_ALLOWED', { isAllowedAddress: undefined }],
    ['loopback in other words', 'http://2130706433/file', 'REMOTE_URL_NOT_ALLOWED', { isAllowedAddress: undefined }],
    ['loopback in hex', 'http://0x7f.1/file', 'REMOTE_URL_NOT_ALLOWED', { isAllowedAddress: undefined }],
    ['loopback of IPv6', 'http://[::1]/file', 'REMOTE_URL_NOT_ALLOWED', { isAllowedAddress: undefined }],
    ['mapped loopback', 'http://[::ffff:127.0.0.1]/file', 'REMOTE_URL_NOT_ALLOWED', { isAllowedAddress: undefined }],
    ['a name of loopback', 'http://localhost/file', 'REMOTE_URL_NOT_ALLOWED', { isAllowedAddress: undefined }],
    [
      'the metadata of a cloud',
      'http://169.254.169.254/latest',
      'REMOTE_URL_NOT_ALLOWED',
      { isAllowedAddress: undefined },
    ],
  ];
  for (const [what, place, code, options] of wrong) {
    test(what, async () => {
      const error = await faultOf(place, options);
      assert.equal(error.code, code, error.message);
      assert.doesNotMatch(error.message, /secret words/);
      if (options !== undefined && 'isAllowedAddress' in options) assert.deepEqual(requests, [], 'nothing was asked');
    });
  }

  test('an address without a server', async () => {
    const closed = createTcpServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = addressOf(closed);
    closed.close();
    await once(closed, 'close');
    const error = await faultOf(`http://127.0.0.1:${port}/file`);
    assert.deepEqual([error.code, error.retryable], ['REMOTE_UNREACHABLE', true]);
    assert.match(error.message, /no server listens there \(ECONNREFUSED\)/);
    assert.match(error.hint ?? '', /import it by path/);
  });

  test('a server that never answers', async () => {
    const silent = createTcpServer((socket) => socket.on('error', () => undefined).resume()).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const error = await faultOf(`http://127.0.0.1:${addressOf(silent).port}/file`, { stallTimeoutMs: 50 });
    silent.close();
    assert.equal(error.code, 'REMOTE_UNREACHABLE');
    assert.match(error.message, /ETIMEDOUT/);
  });

  test('a server that does not speak HTTP', async () => {
    const odd = createTcpServer((socket) => socket.on('error', () => undefined).end('SSH-2.0-OpenSSH\r\n')).listen(
      0,
      '127.0.0.1',
    );
    await once(odd, 'listening');
    const error = await faultOf(`http://127.0.0.1:${addressOf(odd).port}/file`);
    odd.close();
    assert.ok(['REMOTE_UNREACHABLE', 'REMOTE_BROKEN_OFF'].includes(error.code), error.code);
  });

  test('more bytes than announced: only the announced ones count', async () => {
    assert.equal((await faultOf('/promises-less', { expectedSha256: SHA256 })).code, 'DIGEST_MISMATCH');
  });
});

describe('every redirect must meet the same rule', () => {
  /** Treats the first server as the only public address, because all addresses here are on loopback. */
  const onlyTheFirst = (): ((address: string) => boolean) => {
    let asked = 0;
    return () => (asked += 1) === 1;
  };
  for (const [place, what] of [
    ['/to-private', 'a closed address'],
    ['/to-private-name', 'a name that stands for one'],
  ] as const) {
    test(`a redirect to ${what} is refused, and nothing is asked there`, async () => {
      assert.equal((await faultOf(place, { isAllowedAddress: onlyTheFirst() })).code, 'REMOTE_URL_NOT_ALLOWED');
      assert.deepEqual(
        requests.map(({ url }) => url),
        [place],
      );
    });
  }

  test('an allowed redirect is followed', async () => {
    assert.equal((await fetchFrom('/hop', { isAllowedAddress: (address) => address === '127.0.0.1' })).sha256, SHA256);
  });
});
