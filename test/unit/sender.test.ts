/** The address that a request came from, and the client that an address is counted as. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { describe, test } from 'node:test';
import { addressKey } from '../../src/api/rate-limit.ts';
import { bindingWarning, createSenderReader } from '../../src/api/sender.ts';
import { ownersOfPeer, ownersOfPort } from '../../src/platform/socket-owner.ts';

const OURS = process.getuid?.() ?? -1;
const SOMEBODY_ELSE = OURS + 1;

interface Case {
  readonly host?: string;
  readonly proxies?: readonly string[];
  readonly from?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly httpVersion?: string;
  readonly owners?: readonly number[];
}

function senderOf({
  host = '127.0.0.1',
  proxies = [],
  from = '127.0.0.1',
  headers = {},
  httpVersion = '1.1',
  owners = [OURS],
}: Case): { address: string | null; isLocal: boolean; isHttps: boolean } {
  const read = createSenderReader({ host, trustedProxies: proxies, ownersOf: () => owners });
  const { address, isLocal, isHttps } = read({
    headers: { host: '127.0.0.1:4000', ...headers },
    httpVersion,
    socket: { remoteAddress: from, remotePort: 50_000, localAddress: '127.0.0.1', localPort: 4000 },
  });
  return { address, isLocal: isLocal(), isHttps };
}

describe('a sender', () => {
  const proxies = ['10.0.0.0/8', '127.0.0.1'];
  const local: readonly [string, Case][] = [
    ['of this machine', {}],
    ['of this machine over an IPv6 socket', { from: '::ffff:127.0.0.1' }],
    ['of this machine under the name localhost', { host: 'localhost', headers: { host: 'localhost:4000' } }],
    [
      'that is a page of this server',
      { headers: { 'sec-fetch-site': 'same-origin', origin: 'http://127.0.0.1:4000' } },
    ],
    ['that typed the address', { headers: { 'sec-fetch-site': 'none' } }],
  ];
  for (const [what, given] of local) test(`${what} is local`, () => assert.equal(senderOf(given).isLocal, true));

  const others: readonly [string, Case][] = [
    ['from elsewhere', { from: '203.0.113.9' }],
    ['of a server that listens beyond this machine', { host: '0.0.0.0' }],
    ['that reached us under a name of its own', { headers: { host: 'attacker.example' } }],
    ['behind a proxy that leaves a header', { headers: { 'x-forwarded-host': 'paraffin.example' } }],
    ['behind nginx with its default configuration, which speaks HTTP/1.0', { httpVersion: '1.0' }],
    ['behind a proxy without any trace, which runs as another user', { owners: [SOMEBODY_ELSE] }],
    ['whose connection the kernel does not know', { owners: [] }],
    ['behind a declared proxy on this machine that says nothing', { proxies }],
    ['that is a page of another site', { headers: { 'sec-fetch-site': 'cross-site' } }],
    ['that is a page of another port', { headers: { 'sec-fetch-site': 'same-site' } }],
    ['that is a page of another origin, in an older browser', { headers: { origin: 'http://127.0.0.1:8080' } }],
    ['that is a page without an origin', { headers: { origin: 'null' } }],
  ];
  for (const [what, given] of others) test(`${what} is not local`, () => assert.equal(senderOf(given).isLocal, false));

  const addresses: readonly [string, Case, string][] = [
    ['without a proxy is the peer of the connection', { headers: { 'x-forwarded-for': '198.51.100.7' } }, '127.0.0.1'],
    [
      'that claims to be this machine is not',
      { proxies, from: '203.0.113.9', headers: { 'x-forwarded-for': '127.0.0.1' } },
      '203.0.113.9',
    ],
    [
      'behind a proxy is the address that the proxy reports',
      { proxies, from: '10.1.2.3', headers: { 'x-forwarded-for': '198.51.100.7' } },
      '198.51.100.7',
    ],
    [
      'behind two proxies is the address that the outer one reports',
      { proxies, headers: { 'x-forwarded-for': '198.51.100.7, 10.9.9.9' } },
      '198.51.100.7',
    ],
    [
      'cannot change its address by a header of its own',
      { proxies, from: '10.1.2.3', headers: { 'x-forwarded-for': '127.0.0.1, 198.51.100.7' } },
      '198.51.100.7',
    ],
    [
      'behind a proxy that writes no address is the proxy',
      { proxies, from: '10.1.2.3', headers: { 'x-forwarded-for': 'unknown' } },
      '10.1.2.3',
    ],
  ];
  for (const [what, given, address] of addresses) test(what, () => assert.equal(senderOf(given).address, address));

  const schemes: readonly [string, Case, boolean][] = [
    ['that came directly by http', {}, false],
    ['that a proxy received by https', { proxies, headers: { 'x-forwarded-proto': 'https' } }, true],
    ['that a proxy received as a socket by https', { proxies, headers: { 'x-forwarded-proto': 'wss' } }, true],
    ['that a proxy received by http', { proxies, headers: { 'x-forwarded-proto': 'http' } }, false],
    ['behind a proxy whose client claims https', { proxies, headers: { 'x-forwarded-proto': 'https, http' } }, false],
    ['behind no declared proxy that claims https', { headers: { 'x-forwarded-proto': 'https' } }, false],
  ];
  for (const [what, given, isHttps] of schemes)
    test(`${what} is ${isHttps ? '' : 'not '}reached by https`, () => assert.equal(senderOf(given).isHttps, isHttps));

  test('whose connection has ended is unknown', () => {
    const { address, isLocal } = createSenderReader({ host: '127.0.0.1', trustedProxies: [] })({
      headers: {},
      httpVersion: '1.1',
      socket: {},
    });
    assert.deepEqual([address, isLocal()], [null, false]);
  });
});

describe('the kernel', () => {
  /**
   * /proc/net/tcp and tcp6. Ports: 0FA0 is 4000, C350 is 50000, 1F90 is 8080. States: 0A listens, 01 is connected, 06
   * has ended, and its owner 0 means nothing.
   */
  const TABLES = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 101 1
   1: 0100007F:C350 0100007F:0FA0 01 00000000:00000000 00:00000000 00000000    33        0 102 1
   2: 0200007F:C350 0100007F:0FA0 01 00000000:00000000 00:00000000 00000000  1000        0 103 1
   3: 0100007F:C351 0100007F:0FA0 06 00000000:00000000 00:00000000 00000000     0        0 104 1
  sl  local_address                         remote_address                        st tx_queue rx_queue uid
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 105 1
   1: 0000000000000000FFFF00000100007F:C352 0000000000000000FFFF00000100007F:0FA0 01 00000000:00000000 00:00000000 00000000  1002        0 106 1
`;
  const near = { address: '127.0.0.1', port: 4000 };

  test('reports the owner of a connection, by both of its ends', () => {
    assert.deepEqual(ownersOfPeer(near, { address: '127.0.0.1', port: 50_000 }, TABLES), [33]);
    assert.deepEqual(ownersOfPeer(near, { address: '127.0.0.2', port: 50_000 }, TABLES), [1000]);
    assert.deepEqual(ownersOfPeer(near, { address: '::ffff:127.0.0.1', port: 50_002 }, TABLES), [1002]);
    assert.deepEqual(ownersOfPeer(near, { address: '127.0.0.1', port: 50_001 }, TABLES), []);
    assert.deepEqual(ownersOfPeer(near, { address: '127.0.0.1', port: 1 }, TABLES), []);
  });

  test('reports the owner of a port, on one address and on all addresses', () => {
    assert.deepEqual(ownersOfPort(near, TABLES), [1000]);
    assert.deepEqual(ownersOfPort({ address: '127.0.0.1', port: 8080 }, TABLES), [1001]);
    assert.deepEqual(ownersOfPort({ address: '127.0.0.1', port: 1 }, TABLES), []);
  });

  test('reports that a connection and a port of this process are our own', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    const accepted = once(server, 'connection');
    const client = connect(address.port, '127.0.0.1');
    await accepted;
    assert.deepEqual(
      ownersOfPeer({ address: '127.0.0.1', port: address.port }, { address: '127.0.0.1', port: client.localPort ?? 0 }),
      [OURS],
    );
    assert.deepEqual(ownersOfPort({ address: '127.0.0.1', port: address.port }), [OURS]);
    client.destroy();
    server.close();
  });
});

test('an IPv6 address is counted with its /64 network, an IPv4 address by itself', () => {
  assert.equal(addressKey('2001:db8::1'), addressKey('2001:db8:0:0:ffff::2'));
  assert.notEqual(addressKey('2001:db8::1'), addressKey('2001:db8:0:1::1'));
  assert.equal(addressKey('::1'), addressKey('0:0:0:0:0:0:0:1'));
  assert.notEqual(addressKey('192.0.2.1'), addressKey('192.0.2.2'));
});

test('listening beyond this machine gives a warning, unless a proxy is declared', () => {
  for (const host of ['127.0.0.1', 'localhost', '::1']) assert.equal(bindingWarning(host, []), undefined);
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'paraffin.example'])
    assert.match(bindingWarning(host, []) ?? '', /without TLS/);
  assert.equal(bindingWarning('0.0.0.0', ['10.0.0.0/8']), undefined);
});
