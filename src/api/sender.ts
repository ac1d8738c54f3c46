/** From where a request was sent. */
import { isIP } from 'node:net';
import type { IncomingMessage } from 'node:http';
import proxyaddr from 'proxy-addr';

export interface Sender {
  /** Of the client, as far as the declared proxies can tell; null when the connection has ended. */
  readonly address: string | null;
  /** True only for a direct connection from this very machine, by somebody who meant this server. */
  readonly isLoopback: boolean;
}

type SenderRequest = Pick<IncomingMessage, 'headers'> & {
  readonly socket: { readonly remoteAddress?: string | undefined };
};

const LOOPBACK_ADDRESS = /^(::1|(::ffff:)?127(\.\d{1,3}){3})$/;
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;
const FORWARDING_HEADERS = ['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'] as const;

/**
 * @param trustedProxies addresses and subnets (`10.0.0.0/8`, `loopback`) whose X-Forwarded-For is believed. It is read
 * from its end, which the nearest proxy wrote, up to the first address that is not one of them: what a client makes up
 * stands before that and counts for nothing.
 * @throws TypeError for anything that is not an address or subnet.
 */
export function senderReader(trustedProxies: readonly string[]): (request: SenderRequest) => Sender {
  const isTrusted = proxyaddr.compile([...trustedProxies]);
  return (request) => {
    const direct = request.socket.remoteAddress;
    if (direct === undefined) return { address: null, isLoopback: false };
    const isProxy = isTrusted(direct, 0);
    return {
      address: plain(isProxy ? forwardedFor(request, direct, isTrusted) : direct),
      isLoopback: !isProxy && isLoopbackRequest(request),
    };
  };
}

/** What the person who starts the server should know about the address that it listens on; undefined for nothing. */
export function bindingWarning(host: string, trustedProxies: readonly string[]): string | undefined {
  if (LOOPBACK_HOST.test(host) || host === '::1' || trustedProxies.length > 0) return undefined;
  return `Listening on ${host} without TLS: keys cross the network in the clear. Put a proxy that speaks TLS in front, and name it in PARAFFIN_TRUST_PROXY.`;
}

/** Never anything that is not an address: a broken proxy is taken for the client. */
function forwardedFor(
  request: SenderRequest,
  direct: string,
  isTrusted: (address: string, hop: number) => boolean,
): string {
  const header = request.headers['x-forwarded-for'];
  const hops = (Array.isArray(header) ? header.join(',') : (header ?? ''))
    .split(',')
    .map((hop) => hop.trim())
    .reverse();
  let nearest = direct;
  for (const [index, hop] of hops.entries()) {
    if (isIP(hop) === 0) return nearest;
    nearest = hop;
    if (!isTrusted(hop, index + 1)) return hop;
  }
  return nearest;
}

/** An IPv4 address is one whether it came over a socket of either family. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}

/**
 * True only for a direct connection over loopback under a loopback name. Behind a proxy on this machine everybody in
 * the world would seem local; and a page in a browser can make its own name point here (DNS rebinding), but cannot
 * change the Host that is sent.
 */
function isLoopbackRequest({ headers, socket }: SenderRequest): boolean {
  return (
    LOOPBACK_ADDRESS.test(socket.remoteAddress ?? '') &&
    LOOPBACK_HOST.test(headers.host ?? '') &&
    FORWARDING_HEADERS.every((name) => headers[name] === undefined)
  );
}
