/**
 * A TCP proxy on loopback for fault injection: it can disconnect, drop all traffic silently, reset connections, limit
 * their rate, and delay and reorder messages.
 */
import { connect, createServer, type Socket } from 'node:net';
import { Transform } from 'node:stream';

export interface TcpProxy {
  readonly port: number;
  /** Ends every connection and accepts no new one until `restore`. */
  disconnect(): void;
  /**
   * Forwards nothing more and signals no end, as if the server's machine had disappeared. Connections that are open,
   * and those attempted until `restore`, never receive another byte.
   */
  blackhole(): void;
  /** Delays messages, and lets some requests arrive late, from now on and on every connection. */
  disorder(disorder: Disorder): void;
  /** Ends `disconnect`, `blackhole` and `disorder`, the first two for new connections. */
  restore(): void;
  /** Resets each new connection after this many bytes in either direction. */
  resetAfter(bytes: () => number): void;
  /** Stops the resets; each new connection transfers this many bytes per second in either direction. */
  limitRate(bytesPerSecond: number): void;
  resetCount(): number;
  /** Connections that were attempted during `disconnect` or `blackhole`. */
  refusedCount(): number;
  /** Requests that arrived after their sender had lost the connection. */
  lateCount(): number;
  close(): Promise<void>;
}

/** A message is what follows a silence. Messages of one connection keep their order; those of several do not. */
export interface Disorder {
  /** How long a message of either side is under way. */
  readonly delayMs: () => number;
  /**
   * Undefined for most requests. With a number, the sender loses its connection at once, and the request arrives so
   * much later: after its repetition, and perhaps after newer requests. Its answer is lost.
   */
  readonly lateMs: () => number | undefined;
}

/** Bytes that come sooner after the previous ones belong to the same message. */
const SILENCE_MS = 50;
/** How long the server may take to answer a request that arrived late. */
const LATE_ANSWER_MS = 10_000;

interface Limits {
  /** Number of bytes until a connection is reset. */
  readonly bytes: () => number;
  readonly bytesPerSecond: number;
}

const UNLIMITED: Limits = { bytes: () => Infinity, bytesPerSecond: Infinity };

/**
 * @param upstreamPort called for each connection, because a restarted server may listen on another port.
 * @param host the address on which it listens; the upstream is always on loopback.
 */
export async function startTcpProxy(upstreamPort: () => Promise<number>, host = '127.0.0.1'): Promise<TcpProxy> {
  const openSockets = new Set<Socket>();
  let isDisconnected = false;
  let isBlackholed = false;
  let blackholeCount = 0;
  let limits = UNLIMITED;
  let resetCount = 0;
  let refusedCount = 0;
  let lateCount = 0;
  let disorder: Disorder | undefined;
  const track = (socket: Socket): void => {
    openSockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => openSockets.delete(socket));
  };
  const server = createServer((client) => {
    track(client);
    upstreamPort().then(
      (port) => {
        if (isDisconnected) {
          refusedCount += 1;
          client.destroy();
          return;
        }
        if (isBlackholed) {
          refusedCount += 1;
          return;
        }
        const upstream = connect(port, '127.0.0.1');
        track(upstream);
        const { bytes, bytesPerSecond } = limits;
        const blackholesBefore = blackholeCount;
        let remainingBytes = bytes();
        const mayPass = (count: number): boolean => {
          if (remainingBytes < 0 || blackholeCount > blackholesBefore) return false;
          remainingBytes -= count;
          if (remainingBytes >= 0) return true;
          resetCount += 1;
          client.resetAndDestroy();
          upstream.resetAndDestroy();
          return false;
        };
        let isLate = false;
        const requestDelay = (): number => {
          const lateMs = isLate ? undefined : disorder?.lateMs();
          if (lateMs === undefined) return disorder?.delayMs() ?? 0;
          isLate = true;
          lateCount += 1;
          client.resetAndDestroy();
          setTimeout(() => upstream.destroy(), lateMs + LATE_ANSWER_MS).unref();
          return lateMs;
        };
        const answerDelay = (): number => disorder?.delayMs() ?? 0;
        client.pipe(delayedStream(requestDelay)).pipe(meteredStream(mayPass, bytesPerSecond)).pipe(upstream);
        upstream.pipe(delayedStream(answerDelay)).pipe(meteredStream(mayPass, bytesPerSecond)).pipe(client);
        client.on('close', () => {
          if (!isLate) upstream.destroy();
        });
        // The regular end of a connection passes through the pipe, after the bytes that a rate limit still delays, so
        // that no complete response is lost.
        upstream.on('close', (hadError) => {
          if (hadError && blackholeCount === blackholesBefore) client.destroy();
        });
      },
      () => client.destroy(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The proxy has no port.');
  const disconnect = (): void => {
    isDisconnected = true;
    for (const socket of openSockets) socket.destroy();
  };
  return {
    port: address.port,
    disconnect,
    blackhole: () => {
      isBlackholed = true;
      blackholeCount += 1;
    },
    restore: () => {
      isDisconnected = false;
      isBlackholed = false;
      disorder = undefined;
    },
    disorder: (wanted) => {
      disorder = wanted;
    },
    resetAfter: (bytes) => {
      limits = { ...UNLIMITED, bytes };
    },
    limitRate: (bytesPerSecond) => {
      limits = { ...UNLIMITED, bytesPerSecond };
    },
    resetCount: () => resetCount,
    refusedCount: () => refusedCount,
    lateCount: () => lateCount,
    close: () => {
      disconnect();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** @param mayPass called with the size of every chunk; once it returns false, nothing more is forwarded. */
function meteredStream(mayPass: (count: number) => boolean, bytesPerSecond: number): Transform {
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      if (!mayPass(chunk.length)) return;
      if (bytesPerSecond === Infinity) done(null, chunk);
      else setTimeout(() => done(null, chunk), (1000 * chunk.length) / bytesPerSecond);
    },
  });
}

/** @param delayMs called with each message. */
function delayedStream(delayMs: () => number): Transform {
  let lastMs = Number.NEGATIVE_INFINITY;
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      const isMessage = performance.now() - lastMs > SILENCE_MS;
      const pass = (): void => {
        lastMs = performance.now();
        done(null, chunk);
      };
      const waitMs = isMessage ? delayMs() : 0;
      if (waitMs === 0) pass();
      else setTimeout(pass, waitMs);
    },
  });
}
