/**
 * A worker, a server or a command line is killed while it creates, serves or downloads an export: no unfinished file
 * remains, and the next attempt delivers the whole file.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { childEnvironment } from '../../src/env.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { someEncoder } from '../support/encoder-files.ts';
import { eventually } from '../support/eventually.ts';
import { familyOf, isAlive } from '../support/processes.ts';
import { startServerProcess, type ServerProcess } from '../support/server-process.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const PROGRAM = path.join(ROOT, 'src/cli/main.ts');
/** Deadline of a run on two busy cores, including the time to load TensorFlow. */
const RUN_MS = 120_000;
/** Attempts to freeze a process while it stores a file, which takes a fraction of a second. */
const FREEZE_ATTEMPTS = 8;
/** Consecutive checks of the folder without a wait. */
const CHECKS_PER_TURN = 100;
/** Bytes of a download before it stalls. */
const FIRST_BYTES = 1_000_000;

type Format = 'PYTORCH' | 'ONNX' | 'TFJS';

let database: TestDatabase;
let dataDir = '';
let server: ServerProcess;
let key = '';
let checkpointId = '';

before(async () => {
  database = await openTestDatabase();
  dataDir = await mkdtemp(path.join(tmpdir(), 'paraffin-exports-killed-'));
  server = await startServer();
  key = (await readFile(path.join(dataDir, 'admin-key'), 'utf8')).trim();
  checkpointId = String(at(await importWeights(1), 'data.importCheckpoint.checkpoint.id'));
});
after(async () => {
  server.child.kill('SIGTERM');
  await server.gone;
  await database.close();
  await rm(dataDir, { recursive: true, force: true });
});

const startServer = (): Promise<ServerProcess> =>
  startServerProcess({
    dataDir,
    databaseUrl: database.url,
    env: { PARAFFIN_LOG_LEVEL: 'fatal', PARAFFIN_ARTIFACTS_URL: '' },
  });

/**
 * A connection for each request: on a busy machine a client might reuse a connection just when it is closed because it
 * is idle.
 */
const headers = (): Record<string, string> => ({ connection: 'close', authorization: `Bearer ${key}` });

async function ask(query: string, variables: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
  const response = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { ...headers(), 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  return response.json();
}

async function importWeights(seed: number): Promise<unknown> {
  const file = path.join(dataDir, 'imports', `weights-${seed}.safetensors`);
  await writeFile(file, writeSafetensors(someEncoder('RESNET18', seed)));
  return ask(
    'mutation ($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { id } userErrors { code message } } }',
    {
      input: {
        modelSlug: `killed-${seed}`,
        path: file,
        inputContract: { imageSizePx: 32, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] },
      },
    },
  );
}

/** The downloaded bytes, once they equal those that are registered as verified. */
async function downloaded(format: Format): Promise<Buffer> {
  const bytes = await eventually(
    `a download of ${format}`,
    async () => {
      const response = await fetch(urlOf(format), { headers: headers() });
      return response.ok ? Buffer.from(await response.arrayBuffer()) : undefined;
    },
    RUN_MS,
  );
  const made = await database.db.checkpointExport.findUniqueOrThrow({
    where: { checkpointId_format: { checkpointId, format } },
  });
  assert.deepEqual([made.status, made.sha256], ['AVAILABLE', sha256Of(bytes)]);
  return bytes;
}

const urlOf = (format: Format): string => `${server.url}/checkpoints/${checkpointId}/download?format=${format}`;
const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Unfinished files and folders: those of runs, of downloads, and those not yet moved into the artifact store. */
async function unfinished(): Promise<string[]> {
  const folders = [path.join(dataDir, 'work'), path.join(dataDir, 'artifacts', 'tmp'), path.join(dataDir, 'downloads')];
  const entries = await Promise.all(
    folders.map((folder) => readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])),
  );
  // The server's own folder is kept for its next file; that of a run is deleted with the run.
  return entries
    .flat()
    .filter((entry) => entry.isFile() || entry.name !== 'server')
    .map((entry) => path.relative(dataDir, path.join(entry.parentPath, entry.name)));
}

async function nothingIsLeft(): Promise<void> {
  await eventually('nothing unfinished to be left', async () =>
    (await unfinished()).length === 0 ? true : undefined,
  ).catch(async () => assert.deepEqual(await unfinished(), []));
  // Every stored artifact is registered: the second attempt wrote the same bytes as the killed one.
  const stored = (
    await readdir(path.join(dataDir, 'artifacts', 'sha256'), { recursive: true, withFileTypes: true })
  ).filter((entry) => entry.isFile());
  const rows = await database.db.artifact.findMany({ select: { sha256: true } });
  assert.deepEqual(stored.map(({ name }) => name).sort(), rows.map(({ sha256 }) => sha256).sort());
}

/** The files that the server, or any run, has only partly stored. */
async function halfStored(writer: 'server' | 'run'): Promise<string[]> {
  const folder = path.join(dataDir, 'artifacts', 'tmp');
  return (await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []))
    .filter((entry) => entry.isFile() && (path.basename(entry.parentPath) === 'server') === (writer === 'server'))
    .map((entry) => path.join(entry.parentPath, entry.name));
}

async function processOf(program: string): Promise<number | undefined> {
  for (const pid of await familyOf(server.pid))
    if ((await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).includes(program)) return pid;
  return undefined;
}

/**
 * Freezes a process while it stores a file, so that killing it certainly leaves an unfinished one.
 * @param begin starts work that stores a file, and returns a check of whether it has ended; called again if the moment
 * was missed.
 * @returns the frozen process.
 */
async function frozenWhileStoring(
  writer: 'server' | 'run',
  program: string,
  begin: () => Promise<() => Promise<boolean>>,
): Promise<number> {
  for (let attempt = 1; attempt <= FREEZE_ATTEMPTS; attempt += 1) {
    const isOver = await begin();
    const caught = await eventually(
      'something to be stored',
      async () => {
        for (let check = 1; check <= CHECKS_PER_TURN; check += 1) {
          if ((await halfStored(writer)).length === 0) continue;
          const pid = await processOf(program);
          if (pid === undefined) continue;
          process.kill(pid, 'SIGSTOP');
          if ((await halfStored(writer)).length > 0) return pid;
          process.kill(pid, 'SIGCONT');
        }
        return (await isOver()) ? 'MISSED' : undefined;
      },
      RUN_MS,
    );
    if (caught !== 'MISSED') return caught;
  }
  throw new Error(`It was never frozen while storing a file, in ${FREEZE_ATTEMPTS} attempts.`);
}

/** Exports a format again, even if an export of it exists. */
async function launchExport(format: Format): Promise<() => Promise<boolean>> {
  const answer = await ask(
    'mutation ($input: ExportCheckpointInput!) { exportCheckpoint(input: $input) { run { id } userErrors { code } } }',
    { input: { checkpointId, formats: [format] } },
  );
  const id = String(at(answer, 'data.exportCheckpoint.run.id'));
  return async () =>
    ['SUCCEEDED', 'FAILED'].includes((await database.db.run.findUniqueOrThrow({ where: { id } })).status);
}

async function untilAllEnded(pids: readonly number[]): Promise<void> {
  await eventually(
    'every process to end',
    async () => ((await Promise.all(pids.map(isAlive))).includes(true) ? undefined : true),
    RUN_MS,
  );
}

test('a child that is killed while it stores its file leaves nothing, and the second attempt succeeds', async () => {
  const child = await frozenWhileStoring('run', 'workers/child.ts', () => launchExport('PYTORCH'));
  const [half = ''] = await halfStored('run');
  process.kill(child, 'SIGKILL');
  await untilAllEnded([child]);
  await eventually('its file to be gone', async () =>
    stat(half).then(
      () => undefined,
      () => true,
    ),
  );
  const run = await eventually(
    'the second attempt to succeed',
    async () =>
      (await database.db.run.findFirst({ where: { kind: 'EXPORT', attempt: 2, status: 'SUCCEEDED' } })) ?? undefined,
    RUN_MS,
  );
  assert.equal(run.attempt, 2);
  await downloaded('PYTORCH');
  await nothingIsLeft();
});

test('a server that is killed while a download waits for its file leaves no process, and the next server delivers the file', async () => {
  const family = await familyOf(server.pid);
  const waiting = fetch(urlOf('ONNX'), { headers: headers() }).then(
    (response) => response.status,
    () => 'broken off',
  );
  const child = await eventually('the child that makes it', () => processOf('workers/child.ts'), RUN_MS);
  server.child.kill('SIGKILL');
  assert.equal(await waiting, 'broken off');
  await untilAllEnded([...family, child]);
  server = await startServer();
  await downloaded('ONNX');
  await nothingIsLeft();
});

/** Without waiting for the end of their term. */
async function expireLeases(): Promise<void> {
  await database.db.run.updateMany({ where: { status: 'RUNNING' }, data: { leaseExpiresAt: new Date(0) } });
}

test('server, worker and child that are killed at once leave nothing after the next start', async () => {
  const child = await frozenWhileStoring('run', 'workers/child.ts', () => launchExport('TFJS'));
  const family = await familyOf(server.pid);
  for (const pid of family) process.kill(pid, 'SIGKILL');
  await untilAllEnded([...family, child]);
  assert.ok((await halfStored('run')).length > 0, 'as after a power cut');
  await expireLeases();
  server = await startServer();
  await downloaded('TFJS');
  await nothingIsLeft();
});

test('a server that is killed while it stores weights itself leaves nothing after the next start', async () => {
  await frozenWhileStoring('server', 'serve', async () => {
    let isOver = false;
    importWeights(2).then(
      () => (isOver = true),
      () => (isOver = true),
    );
    return async () => isOver;
  });
  const family = await familyOf(server.pid);
  for (const pid of family) process.kill(pid, 'SIGKILL');
  await untilAllEnded(family);
  assert.ok((await halfStored('server')).length > 0, 'as after a power cut');
  await expireLeases();
  server = await startServer();
  assert.deepEqual(await halfStored('server'), []);
  assert.deepEqual(at(await importWeights(2), 'data.importCheckpoint.userErrors'), []);
  await nothingIsLeft();
});

interface GatedServer {
  readonly url: string;
  /** The requested ranges. */
  readonly ranges: readonly string[];
  open(): void;
  close(): Promise<void>;
}

/** A proxy that, until it is opened, passes only the first bytes of a file and then stalls. */
async function startGatedServer(): Promise<GatedServer> {
  let isOpen = false;
  const ranges: string[] = [];
  const door = createServer((incoming, outgoing) => {
    const pass = async (): Promise<void> => {
      const { 'if-match': ifMatch, range, 'content-type': contentType } = incoming.headers;
      const response = await fetch(server.url + (incoming.url ?? ''), {
        method: incoming.method ?? 'GET',
        headers: {
          ...headers(),
          ...(range === undefined ? {} : { range }),
          ...(ifMatch === undefined ? {} : { 'if-match': ifMatch }),
          ...(contentType === undefined ? {} : { 'content-type': contentType }),
        },
        body: incoming.method === 'POST' ? await text(incoming) : null,
      });
      const answered = [...response.headers].filter(
        ([name]) => !['connection', 'content-encoding', 'transfer-encoding'].includes(name),
      );
      outgoing.writeHead(response.status, Object.fromEntries(answered));
      const bytes = Buffer.from(await response.arrayBuffer());
      const isPart = range !== undefined;
      if (isPart) ranges.push(range);
      if (isPart && !isOpen) outgoing.write(bytes.subarray(0, FIRST_BYTES));
      else outgoing.end(bytes);
    };
    pass().catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
  const address = door.address();
  assert.ok(address !== null && typeof address === 'object');
  return {
    url: `http://127.0.0.1:${address.port}`,
    ranges,
    open: () => (isOpen = true),
    close: async () => {
      door.closeAllConnections();
      await new Promise((resolve) => door.close(resolve));
    },
  };
}

test('a download to --out that is killed leaves no file of that name; the same command continues and deletes the partial files', async (context) => {
  const [door, folder] = [await startGatedServer(), path.join(dataDir, 'desk')];
  context.after(door.close);
  await mkdir(folder);
  const out = path.join(folder, 'encoder.bin');
  await writeFile(`${out}.part`, 'of another program');
  const download = (format: Format): { child: ChildProcess; ended: Promise<unknown[]> } => {
    const child = spawn(process.execPath, [PROGRAM, 'download', checkpointId, '--format', format, '--out', out], {
      env: childEnvironment({ PARAFFIN_DATA_DIR: folder, PARAFFIN_URL: door.url, PARAFFIN_API_KEY: key }),
      stdio: 'ignore',
    });
    return { child, ended: once(child, 'exit') };
  };
  for (const format of ['PYTORCH', 'ONNX'] as const) {
    const { sha256 } = await database.db.checkpointExport.findUniqueOrThrow({
      where: { checkpointId_format: { checkpointId, format } },
    });
    const part = `${out}.${sha256?.slice(0, 16)}.part`;
    const { child, ended } = download(format);
    await eventually(
      'its first bytes on the disk',
      async () =>
        stat(part).then(
          ({ size }) => (size >= FIRST_BYTES ? true : undefined),
          () => undefined,
        ),
      RUN_MS,
    );
    child.kill('SIGKILL');
    await ended;
    assert.ok(!(await readdir(folder)).includes('encoder.bin'), 'an incomplete file does not have the requested name');
  }
  door.open();
  const { ended } = download('ONNX');
  assert.deepEqual(await ended, [0, null]);
  assert.equal(door.ranges.at(-1), `bytes=${FIRST_BYTES}-`, 'the download continues');
  assert.deepEqual(await readdir(folder), ['encoder.bin', 'encoder.bin.part'], 'neither part is left');
  assert.ok((await readFile(out)).equals(await downloaded('ONNX')));
});
