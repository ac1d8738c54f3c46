/**
 * The servers of the download benchmark. Each prints its address and serves until it is stopped.
 *
 *   node bench/download-server.ts paraffin <file>    the whole server with its own database; the file is a checkpoint
 *   node bench/download-server.ts plain <file>       only Node's createReadStream piped into the response
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { makeRun, newCheckpoint } from '../test/support/checkpoints.ts';
import { openTestDatabase } from '../test/support/database.ts';
import { startTestServer } from '../test/support/server.ts';

async function serveParaffin(file: string): Promise<string> {
  const database = await openTestDatabase();
  const server = await startTestServer(database);
  const { sha256, byteSize } = await server.store.put(createReadStream(file));
  const sourceRunId = await makeRun(database);
  const checkpoint = await database.transact((tx) =>
    server.services.models.registerCheckpoint(tx, newCheckpoint({ modelSlug: 'bench', sourceRunId, sha256, byteSize })),
  );
  process.once('SIGTERM', () => {
    void server
      .close()
      .then(database.close)
      .then(() => process.exit(0));
  });
  return `${server.url}/checkpoints/${checkpoint.id}/download`;
}

async function servePlain(file: string): Promise<string> {
  const { size } = await stat(file);
  const server = createServer((_request, response) => {
    response.setHeader('Content-Length', size);
    createReadStream(file).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The plain server has no port.');
  return `http://127.0.0.1:${address.port}/`;
}

const [kind, file] = process.argv.slice(2);
if (file === undefined || (kind !== 'paraffin' && kind !== 'plain'))
  throw new Error('usage: node bench/download-server.ts paraffin|plain <file>');
console.log(await (kind === 'paraffin' ? serveParaffin(file) : servePlain(file)));
