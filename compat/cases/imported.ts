/** Imports a folder into a separate registry and decodes what it stored with a reader that the import does not use. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { extract } from 'tar-stream';
import { z } from 'zod';
import { startApp } from '../../src/app.ts';
import { connectToRegistry, type RegistryClient } from '../../src/cli/demo/client.ts';
import type { DemoDataset } from '../../src/cli/demo/images.ts';
import { ensureDataset, followRun, launchImport } from '../../src/cli/demo/steps.ts';
import { installEngine } from '../../src/cli/engine.ts';
import { readEnvironment } from '../../src/env.ts';
import { openManifest, PIXEL_DIGEST_BYTES } from '../../src/formats/manifest/index.ts';
import { accessBytes } from '../../src/formats/random-access.ts';
import { createLogger } from '../../src/logger.ts';
import { onStopSignal } from '../../src/platform/stop-signal.ts';
import { scoped, tf } from '../../workers/engine/tensorflow.ts';
import type { FileIssue, RgbImage } from './verdict.ts';

export interface StoredFile {
  readonly image: RgbImage;
  readonly matchesDigest: boolean;
}

export interface ImportedFolder {
  /** By path within the folder. */
  readonly stored: ReadonlyMap<string, StoredFile>;
  readonly issues: ReadonlyMap<string, readonly FileIssue[]>;
  /** By name, why files were not imported as images: side files, hidden files. */
  readonly passedOver: readonly string[];
}

/** Starts a registry, imports the unchanged folder, reads everything back, and removes the registry. */
export async function importFolder(folder: string): Promise<ImportedFolder> {
  await installEngine();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-cases-'));
  const importRoot = await realpath(folder);
  const env = {
    // Every folder of the server follows from this one, the artifacts that its worker reads among them.
    ...readEnvironment({ ...process.env, PARAFFIN_DATA_DIR: dataDir }),
    ...{ port: 0, logLevel: 'error', importRoots: [importRoot], withWorker: true },
  };
  const server = await startApp(env, createLogger('error', 'cases'));
  const stopped = onStopSignal(() => server.stop());
  try {
    const key = (await readFile(path.join(dataDir, 'admin-key'), 'utf8')).trim();
    return await importedOf(connectToRegistry(server.url, key), importRoot);
  } finally {
    await server.stop();
    stopped.dispose();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function importedOf(client: RegistryClient, importRoot: string): Promise<ImportedFolder> {
  const dataset: DemoDataset = {
    ...{ slug: 'cases', name: 'Cases', path: importRoot, layout: 'FLAT', labelsCsvPath: null, patchSizePx: null },
    isTest: false,
  };
  const datasetId = await ensureDataset(client, dataset, true);
  // Every file is treated as an image, regardless of its name.
  const runId = await launchImport(client, datasetId, dataset, ['MASKS_AMONG_IMAGES']);
  // An import that finds no usable image fails, and its report says why.
  const failure = await followRun(client, 'import', runId, process.stderr).then(
    () => null,
    (error: unknown) => error,
  );
  const { importReport, datasetVersion } = await runOf(client, runId);
  if (importReport === null) throw failure ?? new Error('The import left no report.');
  const stored = datasetVersion === null ? new Map<string, StoredFile>() : await storedOf(client, datasetVersion);
  const passedOver = importReport.passedOver.map(({ reason }) => reason);
  return { stored, issues: await issuesOf(client, runId), passedOver };
}

async function storedOf(client: RegistryClient, version: Version): Promise<Map<string, StoredFile>> {
  const manifest = await openManifest(accessBytes(await client.download(`/artifacts/${version.manifestSha256}`)), {
    imageCount: version.imageCount,
    shardByteSizes: version.shards.map(({ byteSize }) => byteSize),
  });
  const columns = await manifest.read(['key', 'sourcePath', 'pixelDigest']);
  const members = new Map<string, Buffer>();
  for (const { url } of version.shards)
    for (const [key, bytes] of await imagesOf(await client.download(url))) members.set(key, bytes);
  const stored = new Map<string, StoredFile>();
  for (let row = 0; row < manifest.rowCount; row += 1) {
    const key = columns.key.at(row) ?? '';
    const sourcePath = columns.sourcePath.at(row);
    const bytes = members.get(key);
    if (bytes === undefined || sourcePath === null) throw new Error(`Image ${key} is not in its shard.`);
    const image = await decodeIndependently(bytes);
    const digest = columns.pixelDigest.subarray(row * PIXEL_DIGEST_BYTES, (row + 1) * PIXEL_DIGEST_BYTES);
    stored.set(sourcePath, { image, matchesDigest: createHash('sha256').update(image.data).digest().equals(digest) });
  }
  return stored;
}

/**
 * PNG and JPEG are decoded by TensorFlow's own libpng and libjpeg; WebP by libvips without any processing, because
 * there is no other reader.
 */
async function decodeIndependently(bytes: Buffer): Promise<RgbImage> {
  const isPng = bytes.toString('latin1', 1, 4) === 'PNG';
  if (!isPng && bytes[0] !== 0xff) {
    const { data, info } = await sharp(bytes).toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data };
  }
  return scoped(() => {
    const decoded = isPng
      ? tf.node.decodePng(bytes, 3)
      : tf.node.decodeJpeg(bytes, 3, 1, true, false, 1, 'INTEGER_ACCURATE');
    const [height, width] = decoded.shape;
    return { width, height, data: Uint8Array.from(decoded.dataSync()) };
  });
}

async function imagesOf(shard: Buffer): Promise<Map<string, Buffer>> {
  const reader = extract();
  reader.end(shard);
  const images = new Map<string, Buffer>();
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
    const { name } = entry.header;
    if (!name.endsWith('.json')) images.set(name.replace(/\.\w+$/, ''), Buffer.concat(chunks));
  }
  return images;
}

const versionSchema = z.object({
  ...{ id: z.string(), manifestSha256: z.string(), imageCount: z.number() },
  shards: z.array(z.object({ url: z.string(), byteSize: z.number() })),
});
type Version = z.infer<typeof versionSchema>;
const runSchema = z.object({
  run: z.object({
    importReport: z.object({ passedOver: z.array(z.object({ reason: z.string() })) }).nullable(),
    datasetVersion: versionSchema.nullable(),
  }),
});

async function runOf(client: RegistryClient, runId: string) {
  const query = `query ($id: ID!) { run(id: $id) {
    importReport { passedOver { reason } } datasetVersion { id manifestSha256 imageCount shards { url byteSize } } } }`;
  return (await client.request(runSchema, query, { id: runId })).run;
}

const pageSchema = z.object({
  pageInfo: z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() }),
  nodes: z.array(
    z.object({
      ...{ kind: z.string(), path: z.string(), kept: z.boolean(), reason: z.string() },
      relatedPath: z.string().nullable(),
    }),
  ),
});
const issuesSchema = z.object({ run: z.object({ importReport: z.object({ issueEntries: pageSchema }) }) });

async function issuesOf(client: RegistryClient, runId: string): Promise<Map<string, FileIssue[]>> {
  const query = `query ($id: ID!, $after: String) { run(id: $id) { importReport { issueEntries(first: 200, after: $after) {
    pageInfo { hasNextPage endCursor } nodes { kind path kept reason relatedPath } } } } }`;
  const entries: z.infer<typeof pageSchema>['nodes'] = [];
  for (let after: string | null = null, isLast = false; !isLast;) {
    const answer: z.infer<typeof issuesSchema> = await client.request(issuesSchema, query, { id: runId, after });
    const { nodes, pageInfo } = answer.run.importReport.issueEntries;
    entries.push(...nodes);
    after = pageInfo.endCursor;
    isLast = !pageInfo.hasNextPage;
  }
  return Map.groupBy(entries, (entry) => entry.path);
}
