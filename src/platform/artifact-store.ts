/**
 * Immutable bytes named by their sha256, in a local directory.
 *
 * A write goes to a temporary file, is synced, then renamed into place, and the folder is synced: after a power cut
 * an artifact is either whole or absent. An S3-compatible store can stand behind the same four functions.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { DomainError } from '../errors.ts';

export interface StoredBytes {
  readonly sha256: string;
  readonly byteSize: number;
}

export interface ArtifactStore {
  /** Stores the bytes of a stream or buffer; the same bytes twice are one artifact. Nothing stays behind when the source fails. */
  put(source: Uint8Array | NodeJS.ReadableStream | AsyncIterable<Uint8Array>): Promise<StoredBytes>;
  /** The whole content, checked against its name. Throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT. */
  read(sha256: string): Promise<Buffer>;
  /** Size in bytes, or undefined when absent. Throws DomainError ARTIFACT_NOT_FOUND for what is no sha256. */
  byteSizeOf(sha256: string): Promise<number | undefined>;
  /** Path of the file for readers that seek (shards, downloads). It is not checked to exist. */
  pathOf(sha256: string): string;
}

const TEMPORARY_DIR = 'tmp';
const SHA256_PATTERN = /^[0-9a-f]{64}$/;

export function openArtifactStore(rootDir: string): ArtifactStore {
  const temporaryDir = path.join(rootDir, TEMPORARY_DIR);
  const pathOf = (sha256: string): string => {
    // The name becomes a path, so nothing but a digest may pass.
    if (!SHA256_PATTERN.test(sha256)) {
      throw new DomainError({ code: 'ARTIFACT_NOT_FOUND', message: 'That is not a sha256 in lower-case hex.', field: 'sha256', hint: 'Use the sha256 that the API printed.' });
    }
    return path.join(rootDir, 'sha256', sha256.slice(0, 2), sha256);
  };
  return {
    pathOf,
    put: async (source) => {
      await mkdir(temporaryDir, { recursive: true });
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
      const hash = createHash('sha256');
      try {
        for await (const chunk of createReadStream(pathOf(sha256))) {
          const bytes = Buffer.from(chunk);
          hash.update(bytes);
          chunks.push(bytes);
        }
      } catch (cause) {
        if (!isAbsence(cause)) throw cause;
        throw new DomainError({ code: 'ARTIFACT_NOT_FOUND', message: `Artifact ${sha256} is not in the store.`, hint: 'Restore it from a backup.', cause });
      }
      if (hash.digest('hex') !== sha256) {
        throw new DomainError({ code: 'ARTIFACT_CORRUPT', message: `Artifact ${sha256} has changed on disk.`, hint: 'Restore it from a backup.' });
      }
      return Buffer.concat(chunks);
    },
    byteSizeOf: async (sha256) => stat(pathOf(sha256)).then((facts) => facts.size, () => undefined),
  };
}

/** A write that has not moved for so long belongs to a process that was killed. */
const ABANDONED_MS = 3_600_000;

/** Removes what killed processes left unfinished in a store. Safe while others write to it. */
export async function removeAbandonedWrites(rootDir: string): Promise<void> {
  const folder = path.join(rootDir, TEMPORARY_DIR);
  const names = await readdir(folder).catch(() => []);
  for (const file of names.map((name) => path.join(folder, name))) {
    const modifiedMs = await stat(file).then((facts) => facts.mtimeMs, () => undefined);
    if (modifiedMs !== undefined && Date.now() - modifiedMs > ABANDONED_MS) await rm(file, { force: true });
  }
}

async function writeSynced(source: Uint8Array | NodeJS.ReadableStream | AsyncIterable<Uint8Array>, file: string): Promise<StoredBytes> {
  const hash = createHash('sha256');
  let byteSize = 0;
  const measure = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      hash.update(chunk);
      byteSize += chunk.length;
      done(null, chunk);
    },
  });
  const handle = await open(file, 'wx');
  try {
    await pipeline(source instanceof Uint8Array ? Readable.from([source]) : source, measure, async (chunks: AsyncIterable<Buffer>) => {
      // appendFile goes on after a short write (a disk that is nearly full); write does not.
      for await (const chunk of chunks) await handle.appendFile(chunk);
    });
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { sha256: hash.digest('hex'), byteSize };
}

function isAbsence(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

async function moveIntoPlace(temporaryPath: string, finalPath: string): Promise<void> {
  const folder = path.dirname(finalPath);
  const firstMade = await mkdir(folder, { recursive: true });
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
