/** A simulated network connection: a proxy on loopback that can be cut, fall silent, break off and be slow. */
import { connect, createServer, type Socket } from 'node:net';
import { Transform } from 'node:stream';

export interface Wire {
  readonly port: number;
  /** Ends every connection and accepts no new one until `mend`. */
  cut(): void;
  /**
   * Nothing passes any more, and the end is not signalled, as if the machine behind had disappeared. Open connections
   * and those attempted until `mend` stay silent forever.
   */
  fallSilent(): void;
  mend(): void;
  /** Resets each new connection after this many bytes in either direction. */
  breakAfter(bytes: () => number): void;
  /** Stops the resets; each new connection transfers this many bytes per second in either direction. */
  slowDown(bytesPerSecond: number): void;
  brokenCount(): number;
  /** Connections that were attempted while it was cut or silent. */
  refusedCount(): number;
  close(): Promise<void>;
}

interface Condition {
  /** Number of bytes until a connection is reset. */
  readonly bytes: () => number;
  readonly bytesPerSecond: number;
}

const GOOD: Condition = { bytes: () => Infinity, bytesPerSecond: Infinity };

/** @param portBehind called for each connection, because a restarted server may listen on another port. */
export async function openWire(portBehind: () => Promise<number>): Promise<Wire> {
  const open = new Set<Socket>();
  let isCut = false;
  let isSilent = false;
  let silenceCount = 0;
  let condition = GOOD;
  let brokenCount = 0;
  let refusedCount = 0;
  const keep = (socket: Socket): void => {
    open.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => open.delete(socket));
  };
  const server = createServer((near) => {
    keep(near);
    portBehind().then(
      (port) => {
        if (isCut) {
          refusedCount += 1;
          near.destroy();
          return;
        }
        if (isSilent) {
          refusedCount += 1;
          return;
        }
        const far = connect(port, '127.0.0.1');
        keep(far);
        const { bytes, bytesPerSecond } = condition;
        const silencesBefore = silenceCount;
        let leftBytes = bytes();
        const pass = (count: number): boolean => {
          if (leftBytes < 0 || silenceCount > silencesBefore) return false;
          leftBytes -= count;
          if (leftBytes >= 0) return true;
          brokenCount += 1;
          near.resetAndDestroy();
          far.resetAndDestroy();
          return false;
        };
        near.pipe(wireOf(pass, bytesPerSecond)).pipe(far);
        far.pipe(wireOf(pass, bytesPerSecond)).pipe(near);
        near.on('close', () => far.destroy());
        // The regular end of a connection passes through the pipe, after the bytes that a slow wire still holds, so
        // that no complete response is lost.
        far.on('close', (hadError) => {
          if (hadError && silenceCount === silencesBefore) near.destroy();
        });
      },
      () => near.destroy(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The proxy has no port.');
  const cut = (): void => {
    isCut = true;
    for (const socket of open) socket.destroy();
  };
  return {
    port: address.port,
    cut,
    fallSilent: () => {
      isSilent = true;
      silenceCount += 1;
    },
    mend: () => {
      isCut = false;
      isSilent = false;
    },
    breakAfter: (bytes) => {
      condition = { ...GOOD, bytes };
    },
    slowDown: (bytesPerSecond) => {
      condition = { ...GOOD, bytesPerSecond };
    },
    brokenCount: () => brokenCount,
    refusedCount: () => refusedCount,
    close: () => {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** @param pass called with every chunk; if it returns false, nothing more is passed on. */
function wireOf(pass: (count: number) => boolean, bytesPerSecond: number): Transform {
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      if (!pass(chunk.length)) return;
      if (bytesPerSecond === Infinity) done(null, chunk);
      else setTimeout(() => done(null, chunk), (1000 * chunk.length) / bytesPerSecond);
    },
  });
}
