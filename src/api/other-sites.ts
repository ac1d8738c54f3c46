/** Requests that a browser sends on behalf of a page of another site, which may be any page that somebody looks at. */
import type { IncomingMessage } from 'node:http';
import type { RequestHandler } from 'express';
import { DomainError } from '../errors.ts';

type Headers = Pick<IncomingMessage, 'headers'>;

/**
 * Browsers say from where a request comes, and pages cannot change that: by Sec-Fetch-Site (Fetch Metadata) to servers
 * on https and on this machine, by Origin with everything but plain reads. Other programs say neither.
 * @param host under which browsers reach us; the Host header, but behind a declared proxy.
 */
export function isFromAnotherSite({ headers }: Headers, host = headers.host): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site !== 'same-origin' && site !== 'none';
  return headers.origin !== undefined && URL.parse(headers.origin)?.host !== host;
}

/**
 * Whether a browser vouches that a page of ours sent it. Browsers do so for everything but plain reads over http from
 * beyond this machine; other programs never do.
 * @param host as above.
 */
export function isFromOwnPage({ headers }: Headers, host = headers.host): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin';
  return headers.origin !== undefined && URL.parse(headers.origin)?.host === host;
}

/** Somebody followed a link to us: she sees what it leads to, the page with the link does not. */
function isNavigation({ headers, method }: Pick<IncomingMessage, 'headers' | 'method'>): boolean {
  return method === 'GET' && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document';
}

/** Refuses them before anything is looked up, counted or written: a page may send thousands. */
export function refuseOtherSites(hostOf: (request: IncomingMessage) => string | undefined): RequestHandler {
  return (request, _response, next) => {
    if (!isFromAnotherSite(request, hostOf(request)) || isNavigation(request)) {
      next();
      return;
    }
    throw new DomainError({
      code: 'ORIGIN_NOT_ALLOWED',
      message: 'A page of another site may not use this registry through your browser.',
      hint: 'Use the pages of this server, or a program of your own with a key.',
    });
  };
}
