/** From where a request came, and whom an address is counted as. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addressKey } from '../../src/api/rate-limit.ts';
import { bindingWarning, senderReader } from '../../src/api/sender.ts';

const requestFrom = (remoteAddress: string, headers: Record<string, string> = {}) => ({
  headers: { host: '127.0.0.1:4000', ...headers },
  socket: { remoteAddress },
});

describe('a sender', () => {
  const PROXIES = ['10.0.0.0/8', '127.0.0.1'];
  const cases: readonly [string, readonly string[], string, Record<string, string>, string, boolean][] = [
    ['of this machine is local', [], '127.0.0.1', {}, '127.0.0.1', true],
    ['of this machine over an IPv6 socket is local', [], '::ffff:127.0.0.1', {}, '127.0.0.1', true],
    ['from elsewhere is not', [], '203.0.113.9', {}, '203.0.113.9', false],
    [
      'that claims to be another through no proxy is who it is, and not local',
      [],
      '127.0.0.1',
      { 'x-forwarded-for': '198.51.100.7' },
      '127.0.0.1',
      false,
    ],
    [
      'that claims to be this machine is not',
      PROXIES,
      '203.0.113.9',
      { 'x-forwarded-for': '127.0.0.1' },
      '203.0.113.9',
      false,
    ],
    [
      'behind a proxy is who the proxy says',
      PROXIES,
      '10.1.2.3',
      { 'x-forwarded-for': '198.51.100.7' },
      '198.51.100.7',
      false,
    ],
    [
      'behind two proxies is who the far one says',
      PROXIES,
      '127.0.0.1',
      { 'x-forwarded-for': '198.51.100.7, 10.9.9.9' },
      '198.51.100.7',
      false,
    ],
    [
      'cannot make itself another in front of the proxies',
      PROXIES,
      '10.1.2.3',
      { 'x-forwarded-for': '127.0.0.1, 198.51.100.7' },
      '198.51.100.7',
      false,
    ],
    ['behind a proxy on this machine that says nothing is not local', PROXIES, '127.0.0.1', {}, '127.0.0.1', false],
    [
      'behind a proxy that writes no address is the proxy',
      PROXIES,
      '10.1.2.3',
      { 'x-forwarded-for': 'unknown' },
      '10.1.2.3',
      false,
    ],
    [
      'that reached us under a name of its own is not local',
      [],
      '127.0.0.1',
      { host: 'attacker.example' },
      '127.0.0.1',
      false,
    ],
  ];
  for (const [what, proxies, remoteAddress, headers, address, isLoopback] of cases) {
    test(what, () =>
      assert.deepEqual(senderReader(proxies)(requestFrom(remoteAddress, headers)), { address, isLoopback }),
    );
  }

  test('whose connection has ended is nobody', () => {
    assert.deepEqual(senderReader([])({ headers: {}, socket: {} }), { address: null, isLoopback: false });
  });
});

test('an IPv6 address is counted with the 2^64 beside it, an IPv4 address by itself', () => {
  assert.equal(addressKey('2001:db8::1'), addressKey('2001:db8:0:0:ffff::2'));
  assert.notEqual(addressKey('2001:db8::1'), addressKey('2001:db8:0:1::1'));
  assert.equal(addressKey('::1'), addressKey('0:0:0:0:0:0:0:1'));
  assert.notEqual(addressKey('192.0.2.1'), addressKey('192.0.2.2'));
});

test('listening beyond this machine is warned of, unless a proxy is declared', () => {
  for (const host of ['127.0.0.1', 'localhost', '::1']) assert.equal(bindingWarning(host, []), undefined);
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'paraffin.example'])
    assert.match(bindingWarning(host, []) ?? '', /without TLS/);
  assert.equal(bindingWarning('0.0.0.0', ['10.0.0.0/8']), undefined);
});
