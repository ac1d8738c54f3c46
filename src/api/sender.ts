/** Determines the sender of a request: its address, and the host and scheme that the browser used. */
import { isIP } from 'node:net';
import type { IncomingMessage } from 'node:http';
import proxyaddr from 'proxy-addr';
import { ownersOfPeer } from '../platform/socket-owner.ts';
import { isFromAnotherSite } from './other-sites.ts';

export interface Sender {
  /** The address of the client, as far as the declared proxies report it; null when the connection has ended. */
  readonly address: string | null;
  /** The host in the browser's address bar: the Host header, or what a trusted proxy reports. */
  readonly host: string | undefined;
  /**
   * Whether the browser used https; only a trusted proxy can report it, because this server itself speaks only http.
   */
  readonly isHttps: boolean;
  /**
   * True only for a direct connection from a program on this machine that runs as the server's own user, and that a
   * page of another site did not cause. Queries the kernel, so call it only where needed.
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
   * Addresses and subnets (`10.0.0.0/8`, `loopback`) whose X-Forwarded-For is trusted. The header is read from its end,
   * which the nearest proxy wrote, up to the first address that is not a trusted proxy. Values before it may be forged
   * by the client and are ignored.
   */
  readonly trustedProxies: readonly string[];
  /** Replaced in tests that simulate another user of this machine. */
  readonly ownersOf?: typeof ownersOfPeer;
}

const LOOPBACK_ADDRESS = /^(::1|(::ffff:)?127(\.\d{1,3}){3})$/;
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;
const FORWARDING_HEADER = /^(forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip)$/;

/** @throws TypeError if a trusted proxy is not an address or subnet. */
export function createSenderReader({
  host: boundHost,
  trustedProxies,
  ownersOf = ownersOfPeer,
}: SenderOptions): (request: SenderRequest) => Sender {
  const isTrusted = proxyaddr.compile([...trustedProxies]);
  const isBoundToLoopback = isLoopbackName(boundHost);
  const ownership = new WeakMap<object, boolean>();
  const isOurUser = ({ socket }: SenderRequest): boolean => {
    const answer = ownership.get(socket) ?? isOfOurUser(socket, ownersOf);
    ownership.set(socket, answer);
    return answer;
  };
  return (request) => {
    const direct = request.socket.remoteAddress;
    const isProxy = direct !== undefined && isTrusted(direct, 0);
    const forwarded = (name: string): string | undefined => (isProxy ? lastValue(request.headers[name]) : undefined);
    return {
      address:
        direct === undefined ? null : withoutIpv4Prefix(isProxy ? forwardedFor(request, direct, isTrusted) : direct),
      host: forwarded('x-forwarded-host') ?? request.headers.host,
      // Some proxies report wss for a WebSocket.
      isHttps: /^(https|wss)$/i.test(forwarded('x-forwarded-proto') ?? ''),
      isLocal: () => isBoundToLoopback && !isProxy && isLoopbackRequest(request) && isOurUser(request),
    };
  };
}

/** A warning for the operator if keys would cross the network unencrypted; undefined if not. */
export function bindingWarning(host: string, trustedProxies: readonly string[]): string | undefined {
  if (isLoopbackName(host) || trustedProxies.length > 0) return undefined;
  return `Listening on ${host} without TLS: keys cross the network unencrypted. Put a TLS proxy in front of the server, and set PARAFFIN_TRUST_PROXY to its address.`;
}

/** The client's address from X-Forwarded-For; if an entry is not an address, the last valid one before it. */
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

/** An IPv4 address without the prefix that it has on an IPv6 socket. */
function withoutIpv4Prefix(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}

function isLoopbackName(host: string): boolean {
  return LOOPBACK_HOST.test(host) || host === '::1';
}

/** The last value of a list header, which the nearest proxy wrote. */
function lastValue(header: string | string[] | undefined): string | undefined {
  return (Array.isArray(header) ? header.join(',') : header)?.split(',').at(-1)?.trim();
}

/**
 * Behind a proxy on this machine, every client would seem local. Many proxies add a header; nginx with its defaults
 * adds none, but uses HTTP/1.0. A page in a browser can make its own domain resolve to this machine (DNS rebinding),
 * but cannot change the Host header.
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

/** Detects a proxy that adds no header, and other people on this machine: both run as other users than this server. */
function isOfOurUser(socket: SenderRequest['socket'], ownersOf: typeof ownersOfPeer): boolean {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  if (remoteAddress === undefined || remotePort === undefined || localAddress === undefined || localPort === undefined)
    return false;
  const owners = ownersOf({ address: localAddress, port: localPort }, { address: remoteAddress, port: remotePort });
  return owners.length > 0 && owners.every((owner) => owner === process.getuid?.());
}
