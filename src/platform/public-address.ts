/** Which addresses the server may connect to for a user: those of the public internet. */
import { BlockList, isIP } from 'node:net';

/** IANA's special-purpose registries for IPv4, and multicast and reserved space. */
const NON_PUBLIC_IPV4: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.31.196.0', 24],
  ['192.52.193.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['192.175.48.0', 24],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
];
/**
 * Special ranges within global unicast, 2000::/3: protocol assignments (such as Teredo), documentation, and 6to4, which
 * embeds any IPv4 address.
 */
const NON_PUBLIC_IPV6: readonly (readonly [string, number])[] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
];

const closed = new BlockList();
for (const [network, prefix] of NON_PUBLIC_IPV4) closed.addSubnet(network, prefix, 'ipv4');
for (const [network, prefix] of NON_PUBLIC_IPV6) closed.addSubnet(network, prefix, 'ipv6');
const globalUnicast = new BlockList();
globalUnicast.addSubnet('2000::', 3, 'ipv6');

/**
 * False for loopback, private, link-local, unique-local, mapped, reserved and multicast addresses, and for text that is
 * not an address.
 */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !closed.check(address, 'ipv4');
    case 6:
      // Outside of 2000::/3 are ::1, fe80::/10, fc00::/7, ff00::/8, and all ranges that embed IPv4 addresses
      // (::ffff:0:0/96, 64:ff9b::/96).
      return !address.includes('%') && globalUnicast.check(address, 'ipv6') && !closed.check(address, 'ipv6');
    default:
      return false;
  }
}
