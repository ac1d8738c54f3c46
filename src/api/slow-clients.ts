/** Nobody holds the server by being slow: bounds on connections, on headers and on bodies. */
import type { Server } from 'node:http';
import type { RequestHandler } from 'express';
import { addressKey } from './rate-limit.ts';

export interface Timeouts {
  /** From the first byte of a request to the end of its headers. */
  readonly headersMs: number;
  /** From there to the end of its body; of an upload, between two parts of it. */
  readonly bodyMs: number;
  /** A connection without a request. */
  readonly idleMs: number;
  /** Of one operation. */
  readonly requestMs: number;
  /** Between two pings of a socket; one that does not answer is closed. */
  readonly pingMs: number;
  /** How often the key of an open socket is looked at again. */
  readonly recheckMs: number;
}

export const DEFAULT_TIMEOUTS: Timeouts = {
  headersMs: 10_000,
  bodyMs: 20_000,
  idleMs: 5_000,
  requestMs: 30_000,
  pingMs: 12_000,
  recheckMs: 30_000,
};

/**
 * Open connections of one address, sockets among them; of a proxy, its clients share them, so it should keep few of
 * them open.
 */
export const MAX_CONNECTIONS_PER_ADDRESS = 512;
export const MAX_CONNECTIONS = 4_096;

export function boundConnections(server: Server, perAddress = MAX_CONNECTIONS_PER_ADDRESS): void {
  const open = new Map<string, number>();
  server.maxConnections = MAX_CONNECTIONS;
  server.on('connection', (socket) => {
    // Once a connection has been upgraded, or refused that, nobody else listens: a peer that resets it would end the
    // process.
    socket.on('error', () => socket.destroy());
    // An owner of IPv6 addresses has more of them than the server has connections.
    const address = addressKey(socket.remoteAddress ?? null);
    const count = (open.get(address) ?? 0) + 1;
    if (count > perAddress) {
      socket.destroy();
      return;
    }
    open.set(address, count);
    socket.once('close', () => {
      const left = (open.get(address) ?? 1) - 1;
      if (left > 0) open.set(address, left);
      else open.delete(address);
    });
  });
}

/** Uploads are as long as their files; what bounds them is that they continue. */
const UPLOADS = /^\/uploads(\/|$)/;

/** A body that does not come is waited for no longer: 408, and the connection is closed. */
export function receiveWithin({ bodyMs }: Pick<Timeouts, 'bodyMs'>): RequestHandler {
  return (request, response, next) => {
    const { socket } = request;
    let bytesSeen = socket.bytesRead;
    const timer = setTimeout(() => {
      // All of it is here, or as much as is read ahead: then it is we who are slow.
      if (request.complete) return;
      if (request.readableLength > 0 || (UPLOADS.test(request.path) && socket.bytesRead > bytesSeen)) {
        bytesSeen = socket.bytesRead;
        timer.refresh();
        return;
      }
      if (!response.headersSent) response.status(408).set('Connection', 'close').end();
      request.destroy();
    }, bodyMs);
    request.once('end', () => clearTimeout(timer));
    response.once('close', () => {
      clearTimeout(timer);
      if (request.complete) return;
      // Answered without being read: Node takes what is left off the wire, however slowly it comes.
      setTimeout(() => {
        if (!request.complete) socket.destroy();
      }, bodyMs).unref();
    });
    next();
  };
}
