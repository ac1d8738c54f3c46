/** Protection against cross-site requests, which any page in a user's browser can send. */
import type { IncomingMessage } from 'node:http';
import type { RequestHandler } from 'express';
import { DomainError } from '../errors.ts';

type Headers = Pick<IncomingMessage, 'headers'>;

/**
 * Whether a page of another site sent the request. Browsers state the origin of a request in headers that pages cannot
 * change: Sec-Fetch-Site (Fetch Metadata) for servers on https or localhost, and Origin for everything but plain reads.
 * Other programs send neither.
 * @param host the host in the browser's address bar: the Host header, or what a trusted proxy reports.
 */
export function isFromAnotherSite({ headers }: Headers, host = headers.host): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site !== 'same-origin' && site !== 'none';
  return headers.origin !== undefined && URL.parse(headers.origin)?.host !== host;
}

/**
 * Whether the browser's headers prove that a page of this server sent the request. They do for everything but plain
 * reads over http from another machine; other programs do not send these headers.
 * @param host as for `isFromAnotherSite`.
 */
export function isFromOwnPage({ headers }: Headers, host = headers.host): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin';
  return headers.origin !== undefined && URL.parse(headers.origin)?.host === host;
}

/** Whether the user followed a link: the answer is shown to the user, not to the page with the link. */
function isNavigation({ headers, method }: Pick<IncomingMessage, 'headers' | 'method'>): boolean {
  return method === 'GET' && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document';
}

/** Refuses cross-site requests before any database work, because a page may send thousands. */
export function refuseOtherSites(hostOf: (request: IncomingMessage) => string | undefined): RequestHandler {
  return (request, _response, next) => {
    if (!isFromAnotherSite(request, hostOf(request)) || isNavigation(request)) {
      next();
      return;
    }
    throw new DomainError({
      code: 'ORIGIN_NOT_ALLOWED',
      message: 'Requests from pages of other sites are not allowed.',
      hint: 'Use the pages of this server, or send the request from a program with a key.',
    });
  };
}
