/**
 * Immutable bytes named by their sha256, in a local directory.
 *
 * A write goes to a temporary file, is synced, then renamed into place, and the folder is synced: after a power cut
 * an artifact is either whole or absent. An S3-compatible store can implement the same functions.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { link, mkdir, open, opendir, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { DomainError } from '../errors.ts';
import { spaceGuard } from './free-space.ts';

export interface StoredBytes {
  readonly sha256: string;
  readonly byteSize: number;
}

export interface ArtifactStore {
  /**
   * Stores the bytes of a stream or buffer; equal bytes are stored once. Nothing is left behind when the source fails.
   * @throws DomainError STORAGE_FULL before the reserve of the disk is touched.
   */
  put(source: Uint8Array | NodeJS.ReadableStream | AsyncIterable<Uint8Array>): Promise<StoredBytes>;
  /** The whole content, verified against its digest. Throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT. */
  read(sha256: string): Promise<Buffer>;
  /**
   * Size in bytes, or undefined when absent. Throws DomainError ARTIFACT_NOT_FOUND for anything that is not a sha256.
   */
  byteSizeOf(sha256: string): Promise<number | undefined>;
  /** Reads the whole content without keeping it. Throws as `read` does. */
  verify(sha256: string): Promise<void>;
  /**
   * For a reader that verifies the bytes itself and closes the file. Throws ARTIFACT_NOT_FOUND, or ARTIFACT_CORRUPT for
   * a file in quarantine.
   */
  open(sha256: string): Promise<FileHandle>;
  /** Path of the file for readers that seek (shards). The file may not exist. */
  pathOf(sha256: string): string;

  // For maintenance: fsck, gc, backup.

  /** Reads the file again and, if its digest is still wrong, moves it to quarantine/. @returns whether it was moved. */
  quarantine(sha256: string): Promise<boolean>;
  /**
   * Every stored file, in no order; artifacts that arrive meanwhile may be included. A file that is not an artifact has
   * `sha256` undefined.
   */
  files(): AsyncGenerator<StoredFile>;
  /**
   * Deletes the file unless it was written at or after `unlessSince`; putting the same bytes again counts as writing.
   * @returns whether it was deleted.
   */
  remove(sha256: string, unlessSince: Date): Promise<boolean>;
  /** The quarantined files, and their total size. */
  quarantined(): Promise<{ readonly fileCount: number; readonly byteSize: number }>;
}

export interface StoredFile {
  readonly path: string;
  readonly sha256: string | undefined;
  readonly byteSize: number;
  readonly writtenAt: Date;
}

const TEMPORARY_DIR = 'tmp';
const QUARANTINE_DIR = 'quarantine';
const SHA256_PATTERN = /^[0-9a-f]{64}$/;
/** Large enough that disk and hash, not JavaScript, limit the throughput. */
const READ_BYTES = 1024 * 1024;

/**
 * @param writer names the folder of this process's unfinished files, which `removeUnfinished` deletes when the process
 * has ended. Without a name, unfinished files are deleted by their age alone.
 */
export function openArtifactStore(rootDir: string, writer = ''): ArtifactStore {
  const temporaryDir = path.join(unfinishedDirOf(rootDir), writer);
  const pathOf = (sha256: string): string => {
    // The name becomes part of a path, so only a digest is accepted.
    if (!SHA256_PATTERN.test(sha256)) {
      throw new DomainError({
        code: 'ARTIFACT_NOT_FOUND',
        message: 'The text is not a sha256 in lower-case hex.',
        field: 'sha256',
        hint: 'Use a sha256 from an answer of the API.',
      });
    }
    return path.join(rootDir, 'sha256', sha256.slice(0, 2), sha256);
  };
  const quarantinePathOf = (sha256: string): string =>
    path.join(rootDir, QUARANTINE_DIR, path.basename(pathOf(sha256)));

  /** For a file that could not be opened. */
  const notFoundError = async (sha256: string, cause: unknown): Promise<unknown> => {
    if (!isNotFound(cause)) return cause;
    if (await exists(quarantinePathOf(sha256))) return corrupt(sha256, cause);
    return new DomainError({
      code: 'ARTIFACT_NOT_FOUND',
      message: `Artifact ${sha256} is not in the store.`,
      hint: 'Restore it from a backup.',
      cause,
    });
  };
  /** Passes each chunk on, then compares the digest of the whole content with the name. */
  const readChecked = async (sha256: string, take: (bytes: Buffer) => void): Promise<void> => {
    const hash = createHash('sha256');
    try {
      for await (const chunk of createReadStream(pathOf(sha256), { highWaterMark: READ_BYTES })) {
        const bytes = Buffer.from(chunk);
        hash.update(bytes);
        take(bytes);
      }
    } catch (cause) {
      throw await notFoundError(sha256, cause);
    }
    if (hash.digest('hex') !== sha256) throw corrupt(sha256);
  };
  const verify = (sha256: string): Promise<void> => readChecked(sha256, () => undefined);

  return {
    pathOf,
    put: async (source) => {
      await mkdir(temporaryDir, { recursive: true, mode: 0o700 });
      const temporaryPath = path.join(temporaryDir, randomUUID());
      try {
        const stored = await writeSynced(source, temporaryPath);
        await moveIntoPlace(temporaryPath, pathOf(stored.sha256));
        return stored;
      } finally {
        await rm(temporaryPath, { force: true });
      }
    },
    read: async (sha256) => {
      const chunks: Buffer[] = [];
      await readChecked(sha256, (bytes) => chunks.push(bytes));
      return Buffer.concat(chunks);
    },
    byteSizeOf: async (sha256) =>
      stat(pathOf(sha256)).then(
        (facts) => facts.size,
        () => undefined,
      ),
    verify,
    open: async (sha256) => {
      try {
        return await open(pathOf(sha256), 'r');
      } catch (cause) {
        throw await notFoundError(sha256, cause);
      }
    },
    quarantine: async (sha256) => {
      const isCorrupt = await verify(sha256).then(
        () => false,
        (error: unknown) => error instanceof DomainError && error.code === 'ARTIFACT_CORRUPT',
      );
      // Two readers may find the same damage concurrently; the second one then has no file to move.
      if (!isCorrupt || !(await exists(pathOf(sha256)))) return false;
      await mkdir(path.join(rootDir, QUARANTINE_DIR), { recursive: true, mode: 0o700 });
      await moveIntoPlace(pathOf(sha256), quarantinePathOf(sha256));
      await syncFolder(path.dirname(pathOf(sha256)));
      return true;
    },
    files: () => filesBelow(path.join(rootDir, 'sha256')),
    remove: async (sha256, unlessSince) => {
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
    const hasValidName = SHA256_PATTERN.test(entry.name) && path.basename(folder) === entry.name.slice(0, 2);
    yield { path: file, sha256: hasValidName ? entry.name : undefined, byteSize: facts.size, writtenAt: facts.mtime };
  }
}

function corrupt(sha256: string, cause?: unknown): DomainError {
  return new DomainError({
    code: 'ARTIFACT_CORRUPT',
    message: `Artifact ${sha256} has changed on disk.`,
    hint: 'Restore it from a backup.',
    cause,
  });
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** A temporary file that was not written to for this long belongs to a process that was killed. */
const ABANDONED_MS = 3_600_000;

/** The folder of unfinished files of a store, with a subfolder for each named writer. */
export function unfinishedDirOf(rootDir: string): string {
  return path.join(rootDir, TEMPORARY_DIR);
}

/** Removes the unfinished files of a writer whose process has ended. */
export async function removeUnfinished(rootDir: string, writer: string): Promise<void> {
  await rm(path.join(unfinishedDirOf(rootDir), writer), { recursive: true, force: true });
}

/** Removes unfinished files of killed processes without a writer name. Safe during concurrent writes. */
export async function removeAbandonedWrites(rootDir: string): Promise<void> {
  const folder = unfinishedDirOf(rootDir);
  const names = await readdir(folder).catch(() => []);
  for (const file of names.map((name) => path.join(folder, name))) {
    const facts = await stat(file).catch(() => undefined);
    if (facts?.isFile() === true && Date.now() - facts.mtimeMs > ABANDONED_MS) await rm(file, { force: true });
  }
}

async function writeSynced(
  source: Uint8Array | NodeJS.ReadableStream | AsyncIterable<Uint8Array>,
  file: string,
): Promise<StoredBytes> {
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
    await pipeline(
      source instanceof Uint8Array ? Readable.from([source]) : source,
      spaceGuard(path.dirname(file)),
      measure,
      async (chunks: AsyncIterable<Buffer>) => {
        // appendFile continues after a short write (a disk that is nearly full); write does not.
        for await (const chunk of chunks) await handle.appendFile(chunk);
      },
    );
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

function isNotFound(error: unknown): boolean {
  return hasCode(error, 'ENOENT');
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
