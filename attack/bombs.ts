/**
 * Small inputs that grow when they are opened: compressed bodies, nested JSON, checkpoints, and images with false
 * headers.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { brotliCompressSync, crc32, deflateSync, gzipSync } from 'node:zlib';
import { at } from '../test/support/catalogue.ts';
import { familyOf } from '../test/support/processes.ts';
import { hostileFiles } from '../test/fixtures/hostile/torch-corpus.ts';
import { pngThatClaims, tissuePng } from '../test/fixtures/hostile-images.ts';
import { oneOf, type Attack, type Random } from './attack.ts';
import type { AttackedServer } from './attacked-server.ts';
import { openRequests } from './requests.ts';

const OPENED_BYTES = 200_000_000;
/** The total of server, database, worker and decoders; the largest image below has 1.2 GB of pixels. */
const MEMORY_BYTES = 3_000_000_000;
/** An import that takes longer has failed; generous, because a busy machine is slow. */
const IMPORT_MS = 240_000;
const REFUSALS = ['FORMAT_INVALID', 'FILE_TOO_LARGE', 'CHECKPOINT_KEYS_MISMATCH', 'BAD_INPUT', 'OUT_OF_MEMORY'];
const CONTRACT = { imageSizePx: 64, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };

export const bombs: Attack = {
  name: 'bombs',
  about: 'small compressed bodies, nested JSON, checkpoints and images that claim to be large or become large',
  share: 10,
  run: async ({ quick, random, server: sharedServer, startServer, isTimeLeft }) => {
    // A worker decodes the images.
    const env = { PARAFFIN_LOG_LEVEL: 'silent', PARAFFIN_WORKER: 'true' };
    const server = quick ? await sharedServer() : await startServer({ env });
    const bodies = await tryBodies(server, quick);
    const checkpoints = await tryCheckpoints(server, random, quick ? 3 : 60, isTimeLeft);
    const pictures = quick ? NO_RESULTS : await tryPictures(server);
    const fault = await server.fault();
    const tried = [bodies, checkpoints, pictures];
    return {
      tryCount: tried.reduce((sum, { tryCount }) => sum + tryCount, 0),
      findings: [...tried.flatMap(({ findings }) => findings), ...(fault === undefined ? [] : [fault])],
    };
  },
};

interface Tried {
  readonly tryCount: number;
  readonly findings: readonly string[];
}

const NO_RESULTS: Tried = { tryCount: 0, findings: [] };

async function tryBodies(server: AttackedServer, quick: boolean): Promise<Tried> {
  const opened = Buffer.alloc(quick ? OPENED_BYTES / 10 : OPENED_BYTES, ' ');
  const deep = 400_000;
  const query = '{ viewer { role } }';
  const bodies: readonly (readonly [what: string, encoding: string | undefined, body: Buffer | string])[] = [
    ['a gzip body', 'gzip', gzipSync(opened)],
    ['a deflate body', 'deflate', deflateSync(opened)],
    // Smaller, because Brotli compresses slowly.
    ['a Brotli body', 'br', brotliCompressSync(opened.subarray(0, OPENED_BYTES / 10))],
    ['a body compressed twice', 'gzip, gzip', gzipSync(gzipSync(opened))],
    ['endless brackets', undefined, '['.repeat(deep)],
    ['endless objects', undefined, '{"a":'.repeat(deep / 4)],
    [
      'deeply nested variables',
      undefined,
      `{"query":"${query}","variables":${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}}`,
    ],
    ['a list of lists', undefined, `{"query":"${query}","variables":{"a":[${'[],'.repeat(200_000)}[]]}}`],
    ['a long number', undefined, `{"query":"${query}","variables":{"a":${'9'.repeat(500_000)}}}`],
    ['an endless key', undefined, `{"query":"${query}","variables":{"${'k'.repeat(900_000)}":1}}`],
    [
      'many variables',
      undefined,
      `{"query":"${query}","variables":{${Array.from({ length: 60_000 }, (_, n) => `"v${n}":1`).join(',')}}}`,
    ],
  ];
  const requests = openRequests();
  const findings: string[] = [];
  try {
    for (const [what, encoding, body] of bodies) {
      const headers = {
        authorization: `Bearer ${server.adminKey}`,
        'content-type': 'application/json',
        ...(encoding === undefined ? {} : { 'content-encoding': encoding }),
      };
      // If the body is refused before it was read completely, the connection may be closed while the rest is sent.
      const status = await requests.send(server.port, { method: 'POST', path: '/graphql', headers, body }).then(
        (answer) => answer.status,
        () => 400,
      );
      if (status >= 500) findings.push(`${what} was answered with ${status}.`);
      const fault = await server.fault();
      if (fault !== undefined) findings.push(`${what}: ${fault}`);
      if (findings.length > 0) break;
    }
  } finally {
    requests.close();
  }
  return { tryCount: bodies.length, findings };
}

async function tryCheckpoints(
  server: AttackedServer,
  random: Random,
  count: number,
  isTimeLeft: () => boolean,
): Promise<Tried> {
  const header = (byteSize: bigint, text: string): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(byteSize);
    return Buffer.concat([bytes, Buffer.from(text)]);
  };
  const tensors = `{${Array.from({ length: 50_000 }, (_, n) => `"t${n}":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`).join(',')}}`;
  const files: readonly [Buffer, ...Buffer[]] = [
    header(2n ** 63n, '{}'),
    header(99_000_000n, '{'),
    header(BigInt(tensors.length), tensors),
    header(100n, '{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}'.padEnd(100)),
    // The others are hostile only under lowered limits, which a server does not have.
    ...hostileFiles()
      .filter(({ limits }) => limits === undefined)
      .map(({ bytes }) => bytes),
  ];
  const findings: string[] = [];
  let tryCount = 0;
  const tryOne = async (): Promise<void> => {
    tryCount += 1;
    const name = `bomb-${tryCount}`;
    const bytes = oneOf(files, random);
    const file = path.join(server.dataDir, 'imports', name);
    await writeFile(file, bytes);
    const answer = await server
      .ask(
        'mutation($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { id } userErrors { code } } }',
        { input: { path: file, modelSlug: 'bombs', inputContract: CONTRACT } },
      )
      .catch((error: unknown) => String(error));
    const code: unknown = at(answer, 'data.importCheckpoint.userErrors.0.code');
    if (typeof code !== 'string' || !REFUSALS.includes(code))
      findings.push(
        `A checkpoint (${bytes.length} bytes, ${bytes.subarray(0, 60).toString('latin1')}) was answered with ${JSON.stringify(answer).slice(0, 300)}`,
      );
  };
  // Two at once: the limit of the server for one user.
  for (let left = count; left > 0 && findings.length === 0 && isTimeLeft(); left -= 2)
    await Promise.all([tryOne(), ...(left > 1 ? [tryOne()] : [])]);
  return { tryCount, findings };
}

/** Valid images among them must be imported, whatever else the folder contains. */
async function tryPictures(server: AttackedServer): Promise<Tried> {
  const folder = path.join(server.dataDir, 'imports', 'pictures');
  const labels = ['gland', 'stroma'];
  for (const label of labels) await mkdir(path.join(folder, label), { recursive: true });
  const pictures: Readonly<Record<string, Buffer>> = {
    'claims-much.png': pngThatClaims(30_000, 30_000),
    'claims-all.png': pngThatClaims(2 ** 31 - 1, 2 ** 31 - 1),
    'is-much.png': blackPng(20_000, 20_000),
    'is-wide.png': blackPng(200_000, 2_000),
    'entities.svg': Buffer.from(
      `<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aaaaaaaaaa">${Array.from({ length: 9 }, (_, n) => `<!ENTITY a${n} "${`&${n === 0 ? 'a' : `a${n - 1}`};`.repeat(10)}">`).join('')}]><svg xmlns="http://www.w3.org/2000/svg" width="100000" height="100000"><text>&a8;</text></svg>`,
    ),
    'outside.svg': Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="file:///etc/passwd"/></svg>',
    ),
    'claims.gif': Buffer.from('474946383961ffffffff000000002c00000000ffffffff00020144003b', 'hex'),
    'claims.tif': Buffer.from('49492a0008000000ffff', 'hex'),
    'claims.bmp': Buffer.concat([Buffer.from('424d', 'hex'), Buffer.alloc(52, 0x7f)]),
    'nothing.jpg': Buffer.alloc(0),
  };
  for (const [name, bytes] of Object.entries(pictures)) await writeFile(path.join(folder, 'gland', name), bytes);
  const validCount = 8;
  for (let seed = 0; seed < validCount; seed += 1)
    await writeFile(path.join(folder, labels[seed % 2] ?? '', `sound-${seed}.png`), await tissuePng(64, seed));
  const tryCount = Object.keys(pictures).length + validCount;

  const created = await server.ask(
    'mutation { createDataset(input: { name: "Bombs", slug: "bombs", imageKind: PATCH }) { dataset { id } } }',
  );
  const launched = await server.ask(
    'mutation($input: ImportDatasetVersionInput!) { importDatasetVersion(input: $input) { run { id } userErrors { message } } }',
    {
      input: {
        datasetId: at(created, 'data.createDataset.dataset.id'),
        path: folder,
        layout: 'FOLDER_PER_LABEL',
        accept: ['NOT_EVALUABLE', 'LABELS_LOOK_ALIKE', 'GROUPS_LOOK_ALIKE'],
      },
    },
  );
  const id: unknown = at(launched, 'data.importDatasetVersion.run.id');
  if (typeof id !== 'string') throw new Error(`The import was not launched: ${JSON.stringify(launched)}`);
  let peakBytes = 0;
  const endMs = performance.now() + IMPORT_MS;
  const query = 'query($id: ID!) { run(id: $id) { status failure { code message } datasetVersion { imageCount } } }';
  for (;;) {
    peakBytes = Math.max(peakBytes, await memoryOf(await familyOf(server.pid)));
    const answer = await server.ask(query, { id }).catch((error: unknown) => String(error));
    const status: unknown = at(answer, 'data.run.status');
    if (status === 'SUCCEEDED' || status === 'FAILED' || performance.now() > endMs) {
      const findings: string[] = [];
      if (at(answer, 'data.run.datasetVersion.imageCount') !== validCount)
        findings.push(
          `Images with false headers and ${validCount} valid ones gave ${JSON.stringify(answer).slice(0, 400)}`,
        );
      if (peakBytes > MEMORY_BYTES) findings.push(`Images with false headers took ${Math.round(peakBytes / 1e6)} MB.`);
      return { tryCount, findings };
    }
    await pause(100);
  }
}

/** A valid greyscale PNG with one bit per pixel, all black. */
function blackPng(width: number, height: number): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(data.length, 0);
    frame.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([1, 0, 0, 0, 0], 8);
  const pixels = deflateSync(Buffer.alloc((1 + Math.ceil(width / 8)) * height));
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', pixels), chunk('IEND', Buffer.alloc(0))]);
}

/**
 * Memory that only these processes hold: the buffers that the processes of the database share would be counted once for
 * each.
 */
async function memoryOf(pids: readonly number[]): Promise<number> {
  const sizes = await Promise.all(
    pids.map(async (pid) => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
      return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
