/**
 * The cookie that holds the token of a session (RFC 6265). A page cannot read it, and no other site has it sent; where
 * browsers reached us by https, it is sent by https alone, and no neighbouring domain can set one in its place.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isFromAnotherSite, isFromOwnPage } from './other-sites.ts';
import type { Sender } from './sender.ts';

export interface SessionCookie {
  /** The token that a request may use; undefined where there is none, or where another site may have caused it. */
  tokenOf(request: IncomingMessage): string | undefined;
  /** @param expiresAt of the session. */
  give(request: IncomingMessage, response: ServerResponse, token: string, expiresAt: Date): void;
  /** Makes the browser forget it. */
  take(request: IncomingMessage, response: ServerResponse): void;
}

export function createSessionCookie(senderOf: (request: IncomingMessage) => Sender): SessionCookie {
  /** Browsers send a cookie to every port of a host: two registries on one machine keep theirs apart by name. */
  const nameFor = (request: IncomingMessage, { isHttps }: Sender): string =>
    `${isHttps ? '__Host-' : ''}paraffin-${request.socket.localPort ?? 0}`;
  const set = (request: IncomingMessage, response: ServerResponse, value: string, maxAgeSeconds: number): void => {
    const sender = senderOf(request);
    const attributes = ['Path=/', 'HttpOnly', 'SameSite=Strict', `Max-Age=${maxAgeSeconds}`];
    if (sender.isHttps) attributes.push('Secure');
    response.appendHeader('Set-Cookie', [`${nameFor(request, sender)}=${value}`, ...attributes].join('; '));
  };
  return {
    tokenOf: (request) => {
      const sender = senderOf(request);
      const token = valueOf(request.headers.cookie ?? '', nameFor(request, sender));
      return token !== undefined && maySend(request, sender.host) ? token : undefined;
    },
    give: (request, response, token, expiresAt) =>
      set(request, response, token, Math.max(0, Math.floor((expiresAt.getTime() - Date.now()) / 1000))),
    take: (request, response) => set(request, response, '', 0),
  };
}

/**
 * SameSite keeps other sites out, but not their neighbours on another port or under another name of the same domain.
 * What may change something needs a browser's word that a page of ours sent it, and so does a socket.
 */
function maySend(request: IncomingMessage, host: string | undefined): boolean {
  const isRead = ['GET', 'HEAD'].includes(request.method ?? '') && request.headers.upgrade === undefined;
  return isRead ? !isFromAnotherSite(request, host) : isFromOwnPage(request, host);
}

/** A token has no letter that would have to be decoded. */
function valueOf(header: string, name: string): string | undefined {
  const pair = header
    .split(';')
    .map((text) => text.trim())
    .find((text) => text.startsWith(`${name}=`));
  return pair?.slice(name.length + 1);
}
