/** A second server on a data directory that is in use, and one after a server that was killed. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { childEnvironment } from '../src/env.ts';
import { eventually } from '../test/support/eventually.ts';
import { isAlive } from '../test/support/processes.ts';
import type { Attack } from './attack.ts';

const PARAFFIN = path.resolve(import.meta.dirname, '../src/cli/main.ts');
/** As root directly, otherwise in a separate user namespace. */
const NAMESPACES = [['--net'], ['--net', '--user', '--map-root-user']];

export const twoServers: Attack = {
  name: 'two-servers',
  about: 'a second server on one data directory, in a separate network namespace, and kills of the first',
  share: 8,
  run: async ({ quick, startServer, isTimeLeft }) => {
    const findings: string[] = [];
    const namespaces = NAMESPACES.find((options) => spawnSync('unshare', [...options, 'true']).status === 0);
    let server = await startServer({ env: { PARAFFIN_LOG_LEVEL: 'fatal' } });
    const { dataDir } = server;
    let tryCount = 0;
    const startSecond = async (prefix: readonly string[]): Promise<void> => {
      tryCount += 1;
      const [command = '', ...args] = [...prefix, process.execPath, PARAFFIN, 'serve'];
      const second = spawn(command, args, {
        env: childEnvironment({
          PARAFFIN_DATABASE_URL: '',
          PARAFFIN_DATA_DIR: dataDir,
          PARAFFIN_PORT: '0',
          PARAFFIN_WORKER: 'false',
          PARAFFIN_LOG_LEVEL: 'fatal',
        }),
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      // A server that starts prints its address, and is ended by this attack.
      second.stdout.on('data', (chunk: Buffer) => {
        if (!chunk.toString('utf8').includes('Paraffin is at')) return;
        findings.push('A second server served the data directory of a living one.');
        second.kill('SIGKILL');
      });
      await once(second, 'exit');
      const fault = await server.fault();
      if (fault !== undefined) findings.push(`After a second server was started: ${fault}`);
    };
    for (let round = quick ? 1 : 4; round > 0 && isTimeLeft() && findings.length === 0; round -= 1) {
      await startSecond([]);
      if (namespaces !== undefined) await startSecond(['unshare', ...namespaces]);
      if (quick) break;
      tryCount += 1;
      const pidFile = path.join(dataDir, 'postgres', 'cluster', 'postmaster.pid');
      const postgres = Number((await readFile(pidFile, 'utf8')).split('\n', 1).join(''));
      process.kill(server.pid, 'SIGKILL');
      const isGone = await eventually(
        'PostgreSQL to end with its server',
        async () => ((await isAlive(postgres)) ? undefined : true),
        30_000,
      ).catch(() => false);
      if (!isGone) findings.push('A PostgreSQL outlived its server by half a minute.');
      server = await startServer({ dataDir, env: { PARAFFIN_LOG_LEVEL: 'fatal' } });
    }
    return {
      tryCount,
      findings,
      remarks: namespaces === undefined ? ['A network namespace could not be created here.'] : [],
    };
  },
};
