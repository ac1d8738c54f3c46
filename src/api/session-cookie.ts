/**
 * The cookie that holds the token of a session (RFC 6265). Scripts cannot read it (HttpOnly), and requests of other
 * sites do not include it (SameSite=Strict). Over https it is sent only over https (Secure), and other domains cannot
 * overwrite it (the prefix __Host-).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isFromAnotherSite, isFromOwnPage } from './other-sites.ts';
import type { Sender } from './sender.ts';

export interface SessionCookie {
  /** The token of a request; undefined if it has none, or if another site may have caused the request. */
  tokenOf(request: IncomingMessage): string | undefined;
  /** @param expiresAt the end of the session. */
  set(request: IncomingMessage, response: ServerResponse, token: string, expiresAt: Date): void;
  /** Makes the browser delete the cookie. */
  clear(request: IncomingMessage, response: ServerResponse): void;
}

export function createSessionCookie(senderOf: (request: IncomingMessage) => Sender): SessionCookie {
  /** Browsers send a cookie to every port of a host; the port in its name separates two registries on one machine. */
  const nameFor = (request: IncomingMessage, { isHttps }: Sender): string =>
    `${isHttps ? '__Host-' : ''}paraffin-${request.socket.localPort ?? 0}`;
  const write = (request: IncomingMessage, response: ServerResponse, value: string, maxAgeSeconds: number): void => {
    const sender = senderOf(request);
    const attributes = ['Path=/', 'HttpOnly', 'SameSite=Strict', `Max-Age=${maxAgeSeconds}`];
    if (sender.isHttps) attributes.push('Secure');
    response.appendHeader('Set-Cookie', [`${nameFor(request, sender)}=${value}`, ...attributes].join('; '));
  };
  return {
    tokenOf: (request) => {
      const sender = senderOf(request);
      const token = valueOf(request.headers.cookie ?? '', nameFor(request, sender));
      return token !== undefined && isAllowed(request, sender.host) ? token : undefined;
    },
    set: (request, response, token, expiresAt) =>
      write(request, response, token, Math.max(0, Math.floor((expiresAt.getTime() - Date.now()) / 1000))),
    clear: (request, response) => write(request, response, '', 0),
  };
}

/**
 * SameSite excludes other sites, but not another port or another subdomain of the same site. A request that may change
 * something, and a WebSocket, therefore also need headers that prove that a page of this server sent them.
 */
function isAllowed(request: IncomingMessage, host: string | undefined): boolean {
  const isRead = ['GET', 'HEAD'].includes(request.method ?? '') && request.headers.upgrade === undefined;
  return isRead ? !isFromAnotherSite(request, host) : isFromOwnPage(request, host);
}

/** The value of a cookie, without decoding: a token contains no encoded characters. */
function valueOf(header: string, name: string): string | undefined {
  const pair = header
    .split(';')
    .map((text) => text.trim())
    .find((text) => text.startsWith(`${name}=`));
  return pair?.slice(name.length + 1);
}
