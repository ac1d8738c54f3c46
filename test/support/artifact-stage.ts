/** An artifact store of either kind, with a way to change what it holds behind its back. */
import { mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, type TestContext } from 'node:test';
import { openArtifactStore, openS3Store, type ArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { startS3Proxy, type S3Proxy } from './s3-proxy.ts';
import { deleteRaw, getRaw, keysBelow, putRaw, startS3Server, type S3Server } from './s3-server.ts';
import { temporaryFolder } from './shards.ts';

export const STORE_KINDS = ['folder', 'bucket'] as const;
export type StoreKind = (typeof STORE_KINDS)[number];

export interface StoreStage {
  readonly store: ArtifactStore;
  /** The same store, as another process opens it. */
  another(writer?: string): ArtifactStore;
  /** The names of all files or objects, relative to the root of the store. */
  names(): Promise<string[]>;
  read(name: string): Promise<Buffer>;
  write(name: string, bytes: Uint8Array | string): Promise<void>;
  erase(name: string): Promise<void>;
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
  return kind === 'folder' ? folderStage(await temporaryFolder(context)) : bucketStage(s3());
}

function folderStage(folder: string): StoreStage {
  return {
    store: openArtifactStore(folder),
    another: (writer) => openArtifactStore(folder, writer),
    names: async () => {
      const entries = await readdir(folder, { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => entry.isFile())
        .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
        .sort();
    },
    read: (name) => readFile(path.join(folder, name)),
    write: async (name, bytes) => {
      await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
      await writeFile(path.join(folder, name), bytes);
    },
    erase: (name) => rm(path.join(folder, name)),
    setWrittenAt: (sha256, writtenAt) => utimes(path.join(folder, nameOf(sha256)), writtenAt, writtenAt),
  };
}

function bucketStage({ server, proxy }: S3Stage): StoreStage {
  const place = server.newPlace(proxy.endpoint);
  const keyOf = (name: string): string => `${place.prefix}/${name}`;
  return {
    store: openS3Store(place),
    another: (writer) => openS3Store(place, writer === undefined ? {} : { writer }),
    names: async () => (await keysBelow(server, place.prefix)).sort(),
    read: (name) => getRaw(server, keyOf(name)),
    write: (name, bytes) => putRaw(server, keyOf(name), Buffer.from(bytes)),
    erase: (name) => deleteRaw(server, keyOf(name)),
    setWrittenAt: async (sha256, writtenAt) =>
      proxy.setWrittenAt(`${place.bucket}/${keyOf(nameOf(sha256))}`, writtenAt),
  };
}
