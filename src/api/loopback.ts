/** Whether a request was sent from this very machine, by somebody who meant this server. */
import type { IncomingMessage } from 'node:http';

const LOOPBACK_ADDRESS = /^(::1|(::ffff:)?127(\.\d{1,3}){3})$/;
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;
const FORWARDING_HEADERS = ['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'] as const;

/**
 * True only for a direct connection over loopback under a loopback name. Behind a proxy on this machine everybody in the world would
 * seem local; and a page in a browser can make its own name point here (DNS rebinding), but can not change the Host that is sent.
 */
export function isLoopbackRequest(request: Pick<IncomingMessage, 'headers'> & { readonly socket: { readonly remoteAddress?: string | undefined } }): boolean {
  const { headers, socket } = request;
  return (
    LOOPBACK_ADDRESS.test(socket.remoteAddress ?? '') && LOOPBACK_HOST.test(headers.host ?? '') && FORWARDING_HEADERS.every((name) => headers[name] === undefined)
  );
}
