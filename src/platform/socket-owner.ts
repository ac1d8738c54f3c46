/**
 * Finds the user that owns a TCP connection or a listening port of this machine, from Linux's /proc/net/tcp and
 * /proc/net/tcp6: the only property of a loopback peer that the peer cannot forge.
 */
import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';

/** The address and port of one end of a connection. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

interface Row {
  readonly local: string;
  readonly remote: string;
  readonly state: string;
  readonly uid: number;
}

const LISTENING = '0A';
/** The state of a socket that no process owns any more. */
const TIME_WAIT = '06';
const ANY_ADDRESS = [hexOf('0.0.0.0'), '0'.repeat(32)];

/**
 * The user ids that own the remote end of a connection: one, or none if the kernel does not list it.
 * @param peerEnd on this machine.
 * @param tables the text of the kernel's tables.
 */
export function ownersOfPeer(ownEnd: Endpoint, peerEnd: Endpoint, tables = readTables()): readonly number[] {
  const ownEndNames = namesOf(ownEnd);
  const peerEndNames = namesOf(peerEnd);
  return rowsOf(tables)
    .filter(
      ({ local, remote, state }) =>
        state !== LISTENING && state !== TIME_WAIT && peerEndNames.includes(local) && ownEndNames.includes(remote),
    )
    .map(({ uid }) => uid);
}

/**
 * The user ids that listen on a port so that a connection to `address` can reach them; empty if there is no listener.
 */
export function ownersOfPort({ address, port }: Endpoint, tables = readTables()): readonly number[] {
  const names = [...namesOf({ address, port }), ...ANY_ADDRESS.map((any) => `${any}:${portHexOf(port)}`)];
  return rowsOf(tables)
    .filter(({ local, state }) => state === LISTENING && names.includes(local))
    .map(({ uid }) => uid);
}

function readTables(): string {
  return ['/proc/net/tcp', '/proc/net/tcp6']
    .map((file) => {
      try {
        return readFileSync(file, 'latin1');
      } catch {
        // Not Linux, or IPv6 is disabled.
        return '';
      }
    })
    .join('\n');
}

/** `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid …` */
function rowsOf(tables: string): Row[] {
  return tables.split('\n').flatMap((line) => {
    const [, local, remote, state, , , , uid] = line.trim().split(/\s+/);
    return local === undefined || remote === undefined || state === undefined || !/^\d+$/.test(uid ?? '')
      ? []
      : [{ local, remote, state, uid: Number(uid) }];
  });
}

/** The notations of the kernel for an endpoint: an IPv4 address can belong to a socket of either family. */
function namesOf({ address, port }: Endpoint): string[] {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  const names = isIPv4(plain) ? [hexOf(plain), `0000000000000000FFFF0000${hexOf(plain)}`] : [hexOf(plain)];
  return names.map((name) => `${name}:${portHexOf(port)}`);
}

/** Four-byte words in the machine's byte order, which is little-endian on all supported machines. */
function hexOf(address: string): string {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number).reverse()).toString('hex').toUpperCase();
  // Of the IPv6 addresses, only loopback is needed.
  return address === '::1' ? '00000000000000000000000001000000' : 'unknown';
}

function portHexOf(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, '0');
}
