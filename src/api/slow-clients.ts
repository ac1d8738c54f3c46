/** Protection against slow clients: limits on connections, headers and bodies. */
import type { Server } from 'node:http';
import type { RequestHandler } from 'express';
import { addressKey } from './rate-limit.ts';

export interface Timeouts {
  /** From the first byte of a request to the end of its headers. */
  readonly headersMs: number;
  /** From the end of the headers to the end of the body; for an upload, between two chunks. */
  readonly bodyMs: number;
  /** How long a connection without a request stays open. */
  readonly idleMs: number;
  /** The time limit of one operation. */
  readonly requestMs: number;
  /** Interval between pings of a WebSocket; a client that does not answer is disconnected. */
  readonly pingMs: number;
  /** How often the key of an open WebSocket is checked again. */
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
 * Open connections of one address, WebSockets included. All clients behind a proxy share this limit, so a proxy should
 * keep few connections open.
 */
export const MAX_CONNECTIONS_PER_ADDRESS = 512;
export const MAX_CONNECTIONS = 4_096;

export function limitConnections(server: Server, perAddress = MAX_CONNECTIONS_PER_ADDRESS): void {
  const open = new Map<string, number>();
  server.maxConnections = MAX_CONNECTIONS;
  server.on('connection', (socket) => {
    // After an accepted or refused upgrade nothing else handles errors of the connection, and a reset by the client
    // would end the process.
    socket.on('error', () => socket.destroy());
    // Counts IPv6 by network, because one client may use more addresses than the server has connections.
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

/** An upload may take any time, as long as bytes keep arriving. */
const UPLOADS = /^\/uploads(\/|$)|^\/worker\/runs\/[^/]+\/artifacts\//;

/** A body that does not arrive in time is answered with 408, and the connection is closed. */
export function receiveWithin({ bodyMs }: Pick<Timeouts, 'bodyMs'>): RequestHandler {
  return (request, response, next) => {
    const { socket } = request;
    let bytesSeen = socket.bytesRead;
    const timer = setTimeout(() => {
      // Either the whole body has arrived, or bytes are buffered that the server has not read: the client is not slow.
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
      // The answer was sent before the body was read; Node would read and discard the rest, however slowly it arrives.
      setTimeout(() => {
        if (!request.complete) socket.destroy();
      }, bodyMs).unref();
    });
    next();
  };
}
