/** A network of one wire: a proxy on loopback that can be cut, break off in the middle, and be slow. */
import { connect, createServer, type Socket } from 'node:net';
import { Transform } from 'node:stream';

export interface Wire {
  readonly port: number;
  /** Ends every connection and takes no new one until `mend`. */
  cut(): void;
  mend(): void;
  /** Each new connection is reset once so many bytes have gone over it, in either direction. */
  breakAfter(bytes: () => number): void;
  /** No more breaks; each new connection lets so many bytes through in a second, in either direction. */
  slowDown(bytesPerSecond: number): void;
  brokenCount(): number;
  /** Connections that were asked for while it was cut. */
  refusedCount(): number;
  close(): Promise<void>;
}

interface Condition {
  /** Of a connection, until it is reset. */
  readonly bytes: () => number;
  readonly bytesPerSecond: number;
}

const GOOD: Condition = { bytes: () => Infinity, bytesPerSecond: Infinity };

/** @param portBehind asked again for each connection: what was started again may listen elsewhere. */
export async function openWire(portBehind: () => Promise<number>): Promise<Wire> {
  const open = new Set<Socket>();
  let isCut = false;
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
        const far = connect(port, '127.0.0.1');
        keep(far);
        const { bytes, bytesPerSecond } = condition;
        let leftBytes = bytes();
        const pass = (count: number): boolean => {
          if (leftBytes < 0) return false;
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
        // An orderly end comes through the pipe, behind the bytes that a slow wire still holds: a whole answer must not
        // be lost to it.
        far.on('close', (hadError) => {
          if (hadError) near.destroy();
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
    mend: () => {
      isCut = false;
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

/** @param pass called with every chunk; false: it is not passed on any more. */
function wireOf(pass: (count: number) => boolean, bytesPerSecond: number): Transform {
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      if (!pass(chunk.length)) return;
      if (bytesPerSecond === Infinity) done(null, chunk);
      else setTimeout(() => done(null, chunk), (1000 * chunk.length) / bytesPerSecond);
    },
  });
}
