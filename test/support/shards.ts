/** Small shards for tests: images drawn by a formula, packed as the import packs them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { walkShard, type ShardImage } from '../../src/formats/manifest/index.ts';
import { accessBytes } from '../../src/formats/random-access.ts';
import type { ImagePlaces, ShardSource } from '../../workers/engine/data/opened-shard.ts';
import { storedDecoders } from '../../workers/imaging/decoder/stored-decoder.ts';

export interface TarMember {
  readonly name: string;
  readonly bytes: Buffer;
}

/** A folder that is deleted after the test. */
export async function temporaryFolder(context: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'paraffin-shards-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A tar file's bytes. */
export async function tarBytes(members: readonly TarMember[]): Promise<Buffer> {
  const archive = pack();
  for (const { name, bytes } of members) archive.entry({ name }, bytes);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Writes a shard and returns its path. */
export async function writeShard(folder: string, fileName: string, members: readonly TarMember[]): Promise<string> {
  const path = join(folder, fileName);
  await writeFile(path, await tarBytes(members));
  return path;
}

/** The images of a shard in the order of the file. */
export async function imagesOf(shardPath: string): Promise<ShardImage[]> {
  return walkShard(accessBytes(await readFile(shardPath)), 'the test');
}

/** Where the images of a shard lie, as the manifest of its version lists them. */
export async function placesOf(shardPath: string): Promise<ImagePlaces> {
  const images = await imagesOf(shardPath);
  return {
    byteOffset: Float64Array.from(images, ({ byteOffset }) => byteOffset),
    byteLength: Uint32Array.from(images, ({ byteLength }) => byteLength),
  };
}

/** A shard as a reading opens it. @param changed places that a manifest gives instead of the true ones. */
export async function sourceOf(shardPath: string, changed?: ImagePlaces): Promise<ShardSource> {
  const places = changed ?? (await placesOf(shardPath));
  return {
    imageCount: places.byteOffset.length,
    open: async () => ({ path: shardPath, places, release: async () => undefined }),
  };
}

/** The bytes at an image's place. */
export async function storedBytes(shardPath: string, { byteOffset, byteLength }: ShardImage): Promise<Buffer> {
  return (await readFile(shardPath)).subarray(byteOffset, byteOffset + byteLength);
}

/** Not the folder of all temporary files: that may contain the project itself, which the decoder must read. */
const hiddenFolder = mkdtempSync(join(tmpdir(), 'paraffin-hidden-'));
process.once('exit', () => rmSync(hiddenFolder, { recursive: true, force: true }));

/** The decoder of every reading of images, in its sandbox. */
export const openDecoder = storedDecoders({ hiddenFolder, scratchFolder: tmpdir() });

/** A PNG of one colour, whose red level identifies the image. */
export async function plainPng(red: number, sizePx = 16): Promise<Buffer> {
  return sharp({ create: { width: sizePx, height: sizePx, channels: 3, background: { r: red, g: 100, b: 200 } } })
    .png()
    .toBuffer();
}

/** Members `{prefix}{n}.png` with `{prefix}{n}.json` beside them, red = firstRed + n. */
export async function plainImages(prefix: string, count: number, firstRed = 0): Promise<TarMember[]> {
  const members = await Promise.all(
    Array.from({ length: count }, async (_, index) => [
      { name: `${prefix}${index}.png`, bytes: await plainPng(firstRed + index) },
      { name: `${prefix}${index}.json`, bytes: Buffer.from('{}') },
    ]),
  );
  return members.flat();
}
