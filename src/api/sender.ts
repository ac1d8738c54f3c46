/** From where a request was sent. */
import { isIP } from 'node:net';
import type { IncomingMessage } from 'node:http';
import proxyaddr from 'proxy-addr';
import { ownersOfPeer } from '../platform/socket-owner.ts';
import { isFromAnotherSite } from './other-sites.ts';

export interface Sender {
  /** The address of the client, as far as the declared proxies report it; null when the connection has ended. */
  readonly address: string | null;
  /** The host by which browsers reached us: the Host header, or what a declared proxy says. */
  readonly host: string | undefined;
  /** Whether browsers reached us by https: only a declared proxy can tell, as this server speaks http alone. */
  readonly isHttps: boolean;
  /**
   * True only for a direct connection by a program of this server's own user on this very machine, who meant this
   * server. Asks the kernel: only where it matters.
   */
  isLocal(): boolean;
}

type SenderRequest = Pick<IncomingMessage, 'headers' | 'httpVersion'> & {
  readonly socket: {
    readonly remoteAddress?: string | undefined;
    readonly remotePort?: number | undefined;
    readonly localAddress?: string | undefined;
    readonly localPort?: number | undefined;
  };
};

export interface SenderOptions {
  /** The address that the server listens on. */
  readonly host: string;
  /**
   * Addresses and subnets (`10.0.0.0/8`, `loopback`) whose X-Forwarded-For is believed. It is read from its end, which
   * the nearest proxy wrote, up to the first address that is not one of them: what a client makes up stands before that
   * and counts for nothing.
   */
  readonly trustedProxies: readonly string[];
  /** For tests of what another user of this machine sends. */
  readonly ownersOf?: typeof ownersOfPeer;
}

const LOOPBACK_ADDRESS = /^(::1|(::ffff:)?127(\.\d{1,3}){3})$/;
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;
const FORWARDING_HEADER = /^(forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip)$/;

/** @throws TypeError for anything that is not an address or subnet. */
export function senderReader({
  host: boundHost,
  trustedProxies,
  ownersOf = ownersOfPeer,
}: SenderOptions): (request: SenderRequest) => Sender {
  const isTrusted = proxyaddr.compile([...trustedProxies]);
  const isBoundToLoopback = isLoopbackName(boundHost);
  const known = new WeakMap<object, boolean>();
  const isOurUser = ({ socket }: SenderRequest): boolean => {
    const answer = known.get(socket) ?? isOfOurUser(socket, ownersOf);
    known.set(socket, answer);
    return answer;
  };
  return (request) => {
    const direct = request.socket.remoteAddress;
    const isProxy = direct !== undefined && isTrusted(direct, 0);
    const forwarded = (name: string): string | undefined => (isProxy ? lastOf(request.headers[name]) : undefined);
    return {
      address: direct === undefined ? null : plain(isProxy ? forwardedFor(request, direct, isTrusted) : direct),
      host: forwarded('x-forwarded-host') ?? request.headers.host,
      // Some proxies name the scheme of the socket.
      isHttps: /^(https|wss)$/i.test(forwarded('x-forwarded-proto') ?? ''),
      isLocal: () => isBoundToLoopback && !isProxy && isLoopbackRequest(request) && isOurUser(request),
    };
  };
}

/** What the person who starts the server should know about the address that it listens on; undefined for nothing. */
export function bindingWarning(host: string, trustedProxies: readonly string[]): string | undefined {
  if (isLoopbackName(host) || trustedProxies.length > 0) return undefined;
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

function isLoopbackName(host: string): boolean {
  return LOOPBACK_HOST.test(host) || host === '::1';
}

/** The nearest proxy wrote the last one. */
function lastOf(header: string | string[] | undefined): string | undefined {
  return (Array.isArray(header) ? header.join(',') : header)?.split(',').at(-1)?.trim();
}

/**
 * Behind a proxy on this machine everybody in the world would seem local. Many proxies leave a header; nginx, left to
 * its defaults, leaves none but speaks HTTP/1.0. And a page in a browser can make its own name point here (DNS
 * rebinding), but cannot change the Host that is sent.
 */
function isLoopbackRequest(request: SenderRequest): boolean {
  const { headers, httpVersion, socket } = request;
  return (
    LOOPBACK_ADDRESS.test(socket.remoteAddress ?? '') &&
    LOOPBACK_HOST.test(headers.host ?? '') &&
    httpVersion !== '1.0' &&
    !Object.keys(headers).some((name) => FORWARDING_HEADER.test(name)) &&
    !isFromAnotherSite(request)
  );
}

/** A proxy that leaves no trace at all still runs as a user of its own; so do the other people of this machine. */
function isOfOurUser(socket: SenderRequest['socket'], ownersOf: typeof ownersOfPeer): boolean {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  if (remoteAddress === undefined || remotePort === undefined || localAddress === undefined || localPort === undefined)
    return false;
  const owners = ownersOf({ address: localAddress, port: localPort }, { address: remoteAddress, port: remotePort });
  return owners.length > 0 && owners.every((owner) => owner === process.getuid?.());
}
