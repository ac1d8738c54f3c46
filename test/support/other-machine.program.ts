/**
 * What runs on the other machine of test/support/other-machine.ts: a worker, and a way for its HTTP to the socket that
 * is all that this machine has of the first one. First it writes one line about what it sees from here.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import path from 'node:path';
import { viewSchema, wayInSchema, type View } from './other-machine.ts';

const { socket, hiddenFolder, databasePort } = wayInSchema.parse(JSON.parse(process.argv[2] ?? ''));

const pass = (client: Socket): void => {
  const registry = connect({ path: socket });
  client.pipe(registry).pipe(client);
  for (const [one, other] of [
    [client, registry],
    [registry, client],
  ] as const)
    one.on('error', () => other.destroy()).on('close', () => other.destroy());
};
const way = createServer(pass).listen(0, '127.0.0.1');
await once(way, 'listening');
const address = way.address();
if (address === null || typeof address === 'string') throw new Error('The way to the registry has no port.');

const view: View = {
  networkInterfaces: Object.keys(networkInterfaces()),
  filesOfServer: await readdir(hiddenFolder).catch(() => []),
  reachesDatabase: await reaches(databasePort),
};
process.stdout.write(`${JSON.stringify(viewSchema.parse(view))}\n`);

const worker = spawn(
  process.execPath,
  [path.resolve(import.meta.dirname, '../../src/cli/main.ts'), 'worker', '--url', `http://127.0.0.1:${address.port}`],
  { stdio: ['ignore', 'ignore', 'inherit'] },
);
process.on('SIGTERM', () => void worker.kill('SIGTERM'));
const [code] = await once(worker, 'exit');
process.exit(code === 0 ? 0 : 1);

function reaches(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect({ host: '127.0.0.1', port, timeout: 5_000 });
    for (const [event, isReached] of [
      ['connect', true],
      ['error', false],
      ['timeout', false],
    ] as const)
      connection.once(event, () => {
        connection.destroy();
        resolve(isReached);
      });
  });
}
