/**
 * An artifact store in a local directory.
 *
 * A write goes to a temporary file, is synced, then renamed into place, and the folder is synced: after a power cut
 * an artifact is either whole or absent.
 */
import { createHash, randomUUID } from 'node:crypto';
import { link, mkdir, open, opendir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { DomainError } from '../../errors.ts';
import { spaceGuard } from '../free-space.ts';
import { READ_BYTES, streamOf } from './byte-source.ts';
import {
  artifactCorrupt,
  artifactMissing,
  isSha256,
  isWanted,
  requireSha256,
  type ArtifactStore,
  type ByteSource,
  type StoredBytes,
  type StoredFile,
} from './store.ts';
import { readWhole, scanStream, verifyArtifact } from './verify.ts';

export interface LocalArtifactStore extends ArtifactStore {
  /** Path of the file, which may not exist. */
  pathOf(sha256: string): string;
}

const TEMPORARY_DIR = 'tmp';
const QUARANTINE_DIR = 'quarantine';
/** In the store's root; fsck and gc look at the folders beside it. */
const IDENTITY_FILE = 'store-id';

/** A temporary file that was not written to for this long belongs to a process that was killed. */
const ABANDONED_MS = 3_600_000;

/**
 * @param writer names the folder of this process's unfinished files, which `removeUnfinished` deletes when the process
 * has ended. Without a name, unfinished files are deleted by their age alone.
 */
export function openLocalStore(rootDir: string, writer = ''): LocalArtifactStore {
  const unfinishedDir = path.join(rootDir, TEMPORARY_DIR);
  const temporaryDir = path.join(unfinishedDir, writer);
  const identityFile = path.join(rootDir, IDENTITY_FILE);
  const pathOf = (sha256: string): string =>
    path.join(rootDir, 'sha256', requireSha256(sha256).slice(0, 2), requireSha256(sha256));
  const quarantinePathOf = (sha256: string): string =>
    path.join(rootDir, QUARANTINE_DIR, path.basename(pathOf(sha256)));

  const openBytes: ArtifactStore['open'] = async (sha256, range) => {
    try {
      const handle = await open(pathOf(sha256), 'r');
      return handle.createReadStream({
        highWaterMark: READ_BYTES,
        ...(range === undefined ? {} : { start: range.first, end: range.last }),
      });
    } catch (cause) {
      if (!hasCode(cause, 'ENOENT')) throw cause;
      throw (await exists(quarantinePathOf(sha256))) ? artifactCorrupt(sha256, cause) : artifactMissing(sha256, cause);
    }
  };
  const self: Pick<ArtifactStore, 'open' | 'scan'> = {
    open: openBytes,
    scan: (sha256, take) => scanStream(self, sha256, take),
  };

  return {
    location: rootDir,
    pathOf,
    put: async (source, named) => {
      await mkdir(temporaryDir, { recursive: true, mode: 0o700 });
      const temporaryPath = path.join(temporaryDir, randomUUID());
      try {
        const stored = await writeSynced(source, temporaryPath);
        if (isWanted(stored, named)) await moveIntoPlace(temporaryPath, pathOf(stored.sha256));
        return stored;
      } finally {
        await rm(temporaryPath, { force: true });
      }
    },
    stat: async (sha256) =>
      stat(pathOf(sha256)).then(
        ({ size, mtime }) => ({ byteSize: size, writtenAt: mtime }),
        () => undefined,
      ),
    ...self,
    read: (sha256) => readWhole(self, sha256),
    list: () => filesBelow(path.join(rootDir, 'sha256')),
    delete: async (sha256, unlessSince) => {
      const file = pathOf(sha256);
      const writtenMs = await stat(file).then(
        (facts) => facts.mtimeMs,
        () => undefined,
      );
      if (writtenMs === undefined || writtenMs >= unlessSince.getTime()) return false;
      await mkdir(temporaryDir, { recursive: true, mode: 0o700 });
      const doomed = path.join(temporaryDir, randomUUID());
      await rename(file, doomed);
      try {
        // Another writer may have stored intact bytes between the check and the rename: that file is moved back, unless
        // it has been stored again already.
        if ((await stat(doomed)).mtimeMs < unlessSince.getTime()) return true;
        await link(doomed, file).catch((error: unknown) => {
          if (!hasCode(error, 'EEXIST')) throw error;
        });
        return false;
      } finally {
        await rm(doomed, { force: true });
        await syncFolder(path.dirname(file));
      }
    },
    link: undefined,
    direct: undefined,
    upkeep: {
      // Folders are made when they are needed, and a full or read-only disk says so by itself.
      requireUsable: () => Promise.resolve(),
      readIdentity: () =>
        readFile(identityFile, 'utf8').then(
          (text) => text.trim(),
          (error: unknown) => {
            if (hasCode(error, 'ENOENT')) return undefined;
            throw error;
          },
        ),
      writeIdentity: async (storeId) => {
        await mkdir(rootDir, { recursive: true, mode: 0o700 });
        await writeFile(identityFile, `${storeId}\n`, { mode: 0o600 });
      },
      markRestoring: () => Promise.resolve(),
      isRestoring: () => Promise.resolve(false),
      quarantine: async (sha256) => {
        const file = pathOf(sha256);
        const isCorrupt = await verifyArtifact(self, sha256).then(
          () => false,
          (error: unknown) => error instanceof DomainError && error.code === 'ARTIFACT_CORRUPT',
        );
        // An artifact that is in quarantine already is corrupt and has no file.
        if (!isCorrupt || !(await exists(file))) return false;
        await mkdir(path.join(rootDir, QUARANTINE_DIR), { recursive: true, mode: 0o700 });
        try {
          await moveIntoPlace(file, quarantinePathOf(sha256));
        } catch (error) {
          // Two readers found the same damage, and the other one has just moved it.
          if (hasCode(error, 'ENOENT')) return false;
          throw error;
        }
        await syncFolder(path.dirname(file));
        return true;
      },
      quarantined: async () => {
        const folder = path.join(rootDir, QUARANTINE_DIR);
        const names = await readdir(folder).catch(() => []);
        const sizes = await Promise.all(
          names.map((name) =>
            stat(path.join(folder, name)).then(
              (facts) => facts.size,
              () => 0,
            ),
          ),
        );
        return { fileCount: names.length, byteSize: sizes.reduce((sum, size) => sum + size, 0) };
      },
      unfinishedWriters: () => readdir(unfinishedDir).catch(() => []),
      removeUnfinished: (name) => rm(path.join(unfinishedDir, name), { recursive: true, force: true }),
      removeAbandoned: async () => {
        const names = await readdir(unfinishedDir).catch(() => []);
        for (const file of names.map((name) => path.join(unfinishedDir, name))) {
          const facts = await stat(file).catch(() => undefined);
          if (facts?.isFile() === true && Date.now() - facts.mtimeMs > ABANDONED_MS) await rm(file, { force: true });
        }
      },
    },
  };
}

async function* filesBelow(folder: string): AsyncGenerator<StoredFile> {
  if (!(await exists(folder))) return;
  for await (const entry of await opendir(folder)) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) {
      yield* filesBelow(file);
      continue;
    }
    const facts = await stat(file).catch(() => undefined);
    if (facts === undefined) continue;
    const hasValidName = isSha256(entry.name) && path.basename(folder) === entry.name.slice(0, 2);
    yield { path: file, sha256: hasValidName ? entry.name : undefined, byteSize: facts.size, writtenAt: facts.mtime };
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

async function writeSynced(source: ByteSource, file: string): Promise<StoredBytes> {
  const hash = createHash('sha256');
  let byteSize = 0;
  const measure = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      hash.update(chunk);
      byteSize += chunk.length;
      done(null, chunk);
    },
  });
  const handle = await open(file, 'wx', 0o600);
  try {
    await pipeline(streamOf(source), spaceGuard(path.dirname(file)), measure, async (chunks: AsyncIterable<Buffer>) => {
      // appendFile continues after a short write (a disk that is nearly full); write does not.
      for await (const chunk of chunks) await handle.appendFile(chunk);
    });
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { sha256: hash.digest('hex'), byteSize };
}

/** A read error of the disk: it concerns one file and says nothing about the others. */
export function isBadSector(error: unknown): boolean {
  return hasCode(error, 'EIO');
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

async function moveIntoPlace(temporaryPath: string, finalPath: string): Promise<void> {
  const folder = path.dirname(finalPath);
  const firstMade = await mkdir(folder, { recursive: true, mode: 0o700 });
  await rename(temporaryPath, finalPath);
  await syncFolder(folder);
  if (firstMade !== undefined) await syncFolder(path.dirname(firstMade));
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
