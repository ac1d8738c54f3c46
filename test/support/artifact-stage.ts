/** An artifact store of either kind, with a way to change what it holds behind its back. */
import { mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, type TestContext } from 'node:test';
import {
  openArtifactStore,
  type ArtifactPlace,
  type ArtifactStore,
  type S3Place,
} from '../../src/platform/artifact-store/index.ts';
import { startS3Proxy, type S3Proxy } from './s3-proxy.ts';
import { bucketClient, deleteRaw, getRaw, keysBelow, putRaw, startS3Server, type S3Server } from './s3-server.ts';
import { temporaryFolder } from './shards.ts';

export const STORE_KINDS = ['folder', 'bucket'] as const;
export type StoreKind = (typeof STORE_KINDS)[number];

/** The files of a folder, or the objects of a bucket. Names are relative to the root of the store. */
export interface RawFiles {
  names(): Promise<string[]>;
  read(name: string): Promise<Buffer>;
  write(name: string, bytes: Uint8Array | string): Promise<void>;
  erase(name: string): Promise<void>;
}

export interface StoreStage extends RawFiles {
  readonly store: ArtifactStore;
  /** The same store, as another process opens it. */
  another(writer?: string): ArtifactStore;
  /** Makes an artifact look as if it had been written at another time, until it is written again. */
  setWrittenAt(sha256: string, writtenAt: Date): Promise<void>;
}

export interface S3Stage {
  readonly server: S3Server;
  readonly proxy: S3Proxy;
}

export function nameOf(sha256: string): string {
  return `sha256/${sha256.slice(0, 2)}/${sha256}`;
}

/** Starts the S3-compatible store of a test file, and a proxy in front of it. Call it once, outside of tests. */
export function useS3(): () => S3Stage {
  let stage: S3Stage | undefined;
  before(async () => {
    const server = await startS3Server();
    stage = { server, proxy: await startS3Proxy(server.endpoint) };
  });
  after(async () => {
    await stage?.proxy.close();
    await stage?.server.stop();
  });
  return () => {
    if (stage === undefined) throw new Error('The S3 store of the tests has not been started.');
    return stage;
  };
}

export async function openStoreStage(kind: StoreKind, context: TestContext, s3: () => S3Stage): Promise<StoreStage> {
  if (kind === 'folder') return folderStage(await temporaryFolder(context));
  const { server, proxy } = s3();
  return bucketStage(server.newPlace(), proxy);
}

/** The store of a registry of the tests, of the kind with which the test command runs. The caller closes it. */
export async function openPlaceStage(place: ArtifactPlace): Promise<StoreStage & { close(): Promise<void> }> {
  if (typeof place === 'string') return { ...folderStage(place), close: () => Promise.resolve() };
  const proxy = await startS3Proxy(place.endpoint ?? '');
  return { ...bucketStage(place, proxy), close: () => proxy.close() };
}

export function rawFilesOf(place: ArtifactPlace): RawFiles {
  if (typeof place !== 'string') {
    const bucket = { bucket: place.bucket, client: bucketClient(place) };
    const keyOf = (name: string): string => `${place.prefix}/${name}`;
    return {
      names: async () => (await keysBelow(bucket, place.prefix)).sort(),
      read: (name) => getRaw(bucket, keyOf(name)),
      write: (name, bytes) => putRaw(bucket, keyOf(name), Buffer.from(bytes)),
      erase: (name) => deleteRaw(bucket, keyOf(name)),
    };
  }
  return {
    names: async () => {
      const entries = await readdir(place, { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => entry.isFile())
        .map((entry) => path.relative(place, path.join(entry.parentPath, entry.name)))
        .sort();
    },
    read: (name) => readFile(path.join(place, name)),
    write: async (name, bytes) => {
      await mkdir(path.dirname(path.join(place, name)), { recursive: true });
      await writeFile(path.join(place, name), bytes);
    },
    erase: (name) => rm(path.join(place, name)),
  };
}

function folderStage(folder: string): StoreStage {
  return {
    ...rawFilesOf(folder),
    store: openArtifactStore(folder),
    another: (writer) => openArtifactStore(folder, writer),
    setWrittenAt: (sha256, writtenAt) => utimes(path.join(folder, nameOf(sha256)), writtenAt, writtenAt),
  };
}

/** The store is reached through the proxy, which can report other times. */
function bucketStage(place: S3Place, proxy: S3Proxy): StoreStage {
  const proxied = { ...place, endpoint: proxy.endpoint };
  return {
    ...rawFilesOf(place),
    store: openArtifactStore(proxied),
    another: (writer) => openArtifactStore(proxied, writer),
    setWrittenAt: async (sha256, writtenAt) =>
      proxy.setWrittenAt(`${place.bucket}/${place.prefix}/${nameOf(sha256)}`, writtenAt),
  };
}
