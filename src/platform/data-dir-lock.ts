/** One server for one data directory: a second one would stop the first one's database. */
import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { createServer } from 'node:net';
import { DomainError } from '../errors.ts';

/**
 * Holds the data directory until `release` or the end of the process, however it ends.
 *
 * The lock is a name in Linux's abstract socket namespace: the kernel frees it with the process, so a killed server
 * leaves nothing stale behind, as a pid file would.
 * @throws DomainError CONFLICT when another process holds it.
 */
export async function lockDataDir(dataDir: string): Promise<{ release(): Promise<void> }> {
  const digest = createHash('sha256')
    .update(await realpath(dataDir))
    .digest('hex');
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: Error & { code?: string }) => {
      if (error.code !== 'EADDRINUSE') reject(error);
      else
        reject(
          new DomainError({
            code: 'CONFLICT',
            message: `Another Paraffin serves ${dataDir}.`,
            hint: 'Stop it, or set PARAFFIN_DATA_DIR to another folder.',
          }),
        );
    });
    server.listen(`\0paraffin-${digest.slice(0, 40)}`, resolve);
  });
  server.unref();
  return {
    release: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
      }),
  };
}
