/** A registry on a small disk that is filled: first by its own users, then completely by another program. */
import { execFile } from 'node:child_process';
import { mkdir, open, rm, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { childEnvironment } from '../src/env.ts';
import { at } from '../test/support/catalogue.ts';
import { lightningFile, someEncoder } from '../test/support/encoder-files.ts';
import type { Attack } from './attack.ts';
import type { AttackedServer } from './attacked-server.ts';
import { openRequests } from './requests.ts';

const run = promisify(execFile);
const PARAFFIN = path.resolve(import.meta.dirname, '../src/cli/main.ts');
/** Enough for a database, its write-ahead log, and a few uploads. */
const DISK_BYTES = 320 * 1024 * 1024;
const UPLOAD_BYTES = 40 * 1024 * 1024;
const UPLOADS = 8;
const CREATE =
  'mutation($slug: String!) { createModel(input: { slug: $slug, name: "m" }) { model { slug } userErrors { code } } }';
const MODELS = '{ models(first: 200) { nodes { slug } } }';

export const fullDisk: Attack = {
  name: 'full-disk',
  about:
    'a disk that uploads and then another program fill to the last byte, changes and checkpoints meanwhile, and a server that is killed there',
  share: 8,
  run: async ({ quick, startServer, folder }) => {
    const home = await folder();
    const disk = path.join(home, 'disk');
    await mkdir(disk);
    const mounted = await run('mount', [
      '-t',
      'tmpfs',
      '-o',
      `size=${DISK_BYTES},mode=0755`,
      'paraffin-attack',
      disk,
    ]).then(
      () => true,
      () => false,
    );
    if (!mounted)
      return {
        tryCount: 0,
        findings: [],
        remarks: ['A separate file system could not be mounted here; that needs root.'],
      };
    const servers: AttackedServer[] = [];
    const start = async (): Promise<AttackedServer> => {
      const server = await startServer({ dataDir: path.join(disk, 'registry'), env: { PARAFFIN_LOG_LEVEL: 'silent' } });
      servers.push(server);
      return server;
    };
    try {
      return await fill(disk, start, quick ? 3 : 20);
    } finally {
      for (const server of servers) await server.stop();
      // Unmounted lazily if a process still reads there: it disappears with its last reader.
      await run('umount', [disk]).catch(() => run('umount', ['-l', disk]));
    }
  },
};

interface Filling {
  tryCount: number;
  readonly findings: string[];
}

async function fill(disk: string, start: () => Promise<AttackedServer>, rounds: number): Promise<Filling> {
  const filling: Filling = { tryCount: 0, findings: [] };
  const { findings } = filling;
  /** The changes that the server has confirmed. */
  const kept: string[] = [];
  const change = async (server: AttackedServer, slug: string): Promise<string> => {
    filling.tryCount += 1;
    const answer = await server.ask(CREATE, { slug }).catch((error: unknown) => String(error));
    const isKept = at(answer, 'data.createModel.model.slug') === slug;
    if (isKept) kept.push(slug);
    return isKept ? 'KEPT' : String(at(answer, 'errors.0.extensions.code') ?? JSON.stringify(answer).slice(0, 200));
  };
  const checkChanges = async (server: AttackedServer, when: string): Promise<void> => {
    const answer = await server.ask(MODELS).catch((error: unknown) => String(error));
    const nodes: unknown = at(answer, 'data.models.nodes');
    const slugs = new Set(Array.isArray(nodes) ? nodes.map((node: unknown) => at(node, 'slug')) : []);
    const lost = kept.filter((slug) => !slugs.has(slug));
    if (lost.length > 0)
      findings.push(
        `${when} ${lost.length} of ${kept.length} changes are gone: ${JSON.stringify(answer).slice(0, 200)}`,
      );
  };

  let server = await start();
  const file = path.join(server.dataDir, 'imports', 'weights');
  await writeFile(file, lightningFile(someEncoder('RESNET18'), ''));
  await change(server, 'before');

  // Filled by its own users: the reserve stays free, and changes are still stored.
  const statuses = await uploadUntilRefused(server);
  filling.tryCount += statuses.length;
  const refused = statuses.filter((status) => status === 507).length;
  const odd = statuses.filter((status) => ![201, 204, 507].includes(status));
  if (refused === 0)
    findings.push(`${UPLOADS} uploads of ${UPLOAD_BYTES} bytes were accepted on a disk of ${DISK_BYTES} bytes.`);
  if (odd.length > 0) findings.push(`Uploads to a disk that fills were answered with ${odd.join(', ')}.`);
  const { blocks, bavail } = await statfs(disk);
  if (bavail < blocks / 20) findings.push(`Uploads left ${bavail} of ${blocks} blocks: the reserve was used.`);
  const imported = await importCode(server, file);
  filling.tryCount += 1;
  if (imported !== 'STORAGE_FULL') findings.push(`A checkpoint on a nearly full disk was answered with ${imported}.`);
  for (let round = 0; round < rounds; round += 1) {
    const verdict = await change(server, `nearly-full-${round}`);
    if (verdict !== 'KEPT') findings.push(`A change on a disk that uploads filled was answered with ${verdict}.`);
  }
  await checkChanges(server, 'On a disk that uploads filled');

  // Filled completely by another program. New changes may fail, but nothing may be lost, and there must be a way back.
  const filler = path.join(disk, 'filler');
  await fillUp(filler);
  for (let round = 0; round < rounds; round += 1) await change(server, `full-${round}`);
  process.kill(server.pid, 'SIGKILL');
  await server.stop();
  filling.tryCount += 1;
  const cleared = await run(process.execPath, [PARAFFIN, 'uploads', 'clear'], {
    env: childEnvironment({ PARAFFIN_DATABASE_URL: '', PARAFFIN_DATA_DIR: server.dataDir }),
  }).then(
    ({ stdout }) => stdout,
    (error: unknown) => String(error),
  );
  if (!cleared.startsWith('Deleted'))
    findings.push(`"paraffin uploads clear" on a full disk: ${cleared.slice(0, 300)}`);
  // The way back uses only this command: the file that fills the disk stays.
  try {
    server = await start();
  } catch (error) {
    findings.push(`After "paraffin uploads clear" the server did not start: ${String(error).slice(0, 500)}`);
    await rm(filler);
    server = await start();
  }
  await checkChanges(server, 'After a kill on a full disk');
  await rm(filler, { force: true });
  const verdict = await change(server, 'after');
  if (verdict !== 'KEPT') findings.push(`After space was freed a change was answered with ${verdict}.`);
  await checkChanges(server, 'After space was freed');
  const fault = await server.fault();
  if (fault !== undefined) findings.push(fault);
  return filling;
}

/** @returns the status of each answer, for creating an upload and for its bytes. */
async function uploadUntilRefused(server: AttackedServer): Promise<number[]> {
  const requests = openRequests();
  const headers = { authorization: `Bearer ${server.adminKey}`, 'tus-resumable': '1.0.0' };
  const one = async (): Promise<number[]> => {
    const begun = await begin(server, headers);
    if (begun.location === null) return [begun.status];
    const sent = await requests.send(server.port, {
      method: 'PATCH',
      path: begun.location,
      headers: { ...headers, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' },
      body: Buffer.alloc(UPLOAD_BYTES, 'bytes '),
    });
    return [begun.status, sent.status];
  };
  try {
    return (await Promise.all(Array.from({ length: UPLOADS }, one))).flat();
  } finally {
    requests.close();
  }
}

async function begin(
  server: AttackedServer,
  headers: Readonly<Record<string, string>>,
): Promise<{ readonly status: number; readonly location: string | null }> {
  const response = await fetch(`${server.url}/uploads`, {
    method: 'POST',
    headers: { ...headers, 'upload-length': String(UPLOAD_BYTES) },
  });
  await response.arrayBuffer();
  return { status: response.status, location: response.headers.get('location') };
}

async function importCode(server: AttackedServer, file: string): Promise<string> {
  const input = {
    path: file,
    modelSlug: 'full',
    inputContract: { imageSizePx: 64, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] },
  };
  const answer = await server.ask(
    'mutation($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { id } userErrors { code } } }',
    { input },
  );
  return String(
    at(answer, 'data.importCheckpoint.userErrors.0.code') ?? at(answer, 'errors.0.extensions.code') ?? 'a checkpoint',
  );
}

/** Writes until the disk has not even one free byte. */
async function fillUp(file: string): Promise<void> {
  await using handle = await open(file, 'w');
  for (let size = 1024 * 1024; size >= 1; size = Math.floor(size / 2)) {
    const piece = Buffer.alloc(size);
    try {
      for (;;) await handle.appendFile(piece);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
    }
  }
}
