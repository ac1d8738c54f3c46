/**
 * Copies of remote artifacts on this machine, shared by all its processes: verified as they arrive, limited in size,
 * the least recently used ones removed first.
 *
 *   sha256/<aa>/<sha256>   the copies
 *   held/<process>/        a hard link to each copy that a process holds, and the files that it is receiving
 *   held/<process>.lock    locked while the process lives
 *   locks/                 one process makes room or receives an artifact at a time
 *
 * A hard link is what holding means: a copy with more than one link is never removed, and if it is removed in the very
 * moment in which it is linked, its bytes stay with the link. A process that was killed holds nothing for longer than
 * until the next one starts, because the kernel releases its lock.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { link, mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { DomainError } from '../../errors.ts';
import { tryLockFile } from '../file-lock.ts';
import { requireSpace } from '../free-space.ts';
import type { LocalFile, LocalFiles } from './local-file.ts';
import { artifactCorrupt, artifactMissing, requireSha256, type ArtifactStore } from './store.ts';
import type { VerifiedMemory } from './verified-memory.ts';
import { readVerified } from './verify.ts';

export interface FileCacheOptions {
  readonly store: Pick<ArtifactStore, 'stat' | 'open' | 'scan'>;
  readonly folder: string;
  readonly maxBytes: number;
  readonly memory: VerifiedMemory;
}

/** How often another process may remove a copy between its arrival and our link to it. */
const HOLD_ATTEMPTS = 5;
const LOCK_POLL_MS = 50;

export function openFileCache({ store, folder, maxBytes, memory }: FileCacheOptions): LocalFiles {
  const copiesDir = path.join(folder, 'sha256');
  const heldDir = path.join(folder, 'held');
  const locksDir = path.join(folder, 'locks');
  const copyOf = (sha256: string): string => path.join(copiesDir, requireSha256(sha256).slice(0, 2), sha256);

  let entering: Promise<Membership> | undefined;
  const enter = (): Promise<Membership> => {
    entering ??= (async () => {
      await Promise.all([heldDir, locksDir].map((made) => mkdir(made, { recursive: true, mode: 0o700 })));
      await removeDeadProcesses(heldDir);
      return joinProcesses(heldDir);
    })();
    return entering;
  };

  const receive = async (sha256: string, own: Membership): Promise<void> => {
    const lock = await locked(path.join(locksDir, sha256));
    try {
      // Another process received it while we waited.
      if ((await sizeOf(copyOf(sha256))) !== undefined) return;
      const facts = await store.stat(sha256);
      if (facts === undefined) {
        // Fails with the reason: missing, or in quarantine.
        (await store.open(sha256)).destroy();
        throw artifactMissing(sha256);
      }
      const arriving = path.join(own.folder, `${randomUUID()}.part`);
      try {
        const file = await withRoom(facts.byteSize, () => reserved(arriving, facts.byteSize));
        // Bytes may also change on the way: only a second wrong copy in a row is damage.
        await receiveInto(file, store, sha256, facts.byteSize)
          .catch(async (error: unknown) => {
            if (!isCorrupt(error)) throw error;
            await receiveInto(file, store, sha256, facts.byteSize);
          })
          .finally(() => file.close());
        await mkdir(path.dirname(copyOf(sha256)), { recursive: true, mode: 0o700 });
        await memory.verified(sha256, arriving, () => Promise.resolve());
        await rename(arriving, copyOf(sha256));
      } finally {
        await rm(arriving, { force: true });
      }
    } finally {
      // Under the lock, so that nobody else has this file locked.
      await rm(path.join(locksDir, sha256), { force: true });
      await lock.close();
    }
  };

  /** Removes the least recently used copies until so many bytes fit, then calls `take`, which uses that room. */
  const withRoom = async <Result>(byteCount: number, take: () => Promise<Result>): Promise<Result> => {
    const lock = await locked(path.join(locksDir, 'room'));
    try {
      const copies = await filesIn(copiesDir);
      const arriving = (await filesIn(heldDir)).filter(({ file }) => file.endsWith('.part'));
      let usedBytes = [...copies, ...arriving].reduce((sum, { byteSize }) => sum + byteSize, 0);
      const removable = copies.filter(({ linkCount }) => linkCount === 1).sort((a, b) => a.usedMs - b.usedMs);
      for (const { file, byteSize } of removable) {
        if (usedBytes + byteCount <= maxBytes) break;
        await rm(file, { force: true });
        await memory.forget(path.basename(file));
        usedBytes -= byteSize;
      }
      if (usedBytes + byteCount > maxBytes) throw cacheFull(maxBytes, usedBytes + byteCount);
      await requireSpace(folder, byteCount);
      return await take();
    } finally {
      await lock.close();
    }
  };

  const receiving = new Map<string, Promise<void>>();
  const received = (sha256: string, own: Membership): Promise<void> => {
    const known = receiving.get(sha256);
    if (known !== undefined) return known;
    const begun = receive(sha256, own).finally(() => receiving.delete(sha256));
    receiving.set(sha256, begun);
    return begun;
  };

  return {
    hold: async (sha256) => {
      requireSha256(sha256);
      const own = await enter();
      for (let attempt = 1; ; attempt += 1) {
        const held = await linked(copyOf(sha256), path.join(own.folder, randomUUID()));
        if (held === undefined) {
          if (attempt > HOLD_ATTEMPTS) throw cacheFull(maxBytes, maxBytes);
          await received(sha256, own);
          continue;
        }
        if (await memory.isVerified(sha256, held.path)) return held;
        const isWhole = await memory
          .verified(sha256, held.path, () => verifyFile(held.path, sha256))
          .then(
            () => true,
            () => false,
          );
        if (isWhole) return held;
        // A copy that changed on this disk says nothing about the store.
        await rm(copyOf(sha256), { force: true });
        await held.release();
      }
    },
    close: async () => {
      const own = await entering;
      entering = undefined;
      await own?.leave();
    },
  };
}

interface Membership {
  /** For the links and arriving files of this process. */
  readonly folder: string;
  leave(): Promise<void>;
}

async function joinProcesses(heldDir: string): Promise<Membership> {
  const folder = path.join(heldDir, randomUUID());
  const lock = await locked(`${folder}.lock`);
  await mkdir(folder, { mode: 0o700 });
  return {
    folder,
    leave: async () => {
      await rm(folder, { recursive: true, force: true });
      await rm(`${folder}.lock`, { force: true });
      await lock.close();
    },
  };
}

async function removeDeadProcesses(heldDir: string): Promise<void> {
  for (const name of await readdir(heldDir)) {
    if (!name.endsWith('.lock')) continue;
    const lock = await tryLockFile(path.join(heldDir, name));
    if (lock === undefined) continue;
    await rm(path.join(heldDir, name.slice(0, -'.lock'.length)), { recursive: true, force: true });
    await rm(path.join(heldDir, name), { force: true });
    await lock.close();
  }
}

async function locked(file: string): Promise<FileHandle> {
  for (;;) {
    const lock = await tryLockFile(file);
    if (lock !== undefined) return lock;
    await pause(LOCK_POLL_MS);
  }
}

/** A link to the copy; undefined if there is no copy. */
async function linked(copy: string, to: string): Promise<LocalFile | undefined> {
  try {
    await link(copy, to);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
  const release = (): Promise<void> => rm(to, { force: true });
  return { path: to, release, [Symbol.asyncDispose]: release };
}

/** A new file that has its full size from the start, so that other processes count it in full. */
async function reserved(file: string, byteSize: number): Promise<FileHandle> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.truncate(byteSize);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** @throws DomainError ARTIFACT_CORRUPT for other bytes, and the errors of the store. */
async function receiveInto(
  file: FileHandle,
  store: Pick<ArtifactStore, 'scan'>,
  sha256: string,
  byteSize: number,
): Promise<void> {
  let position = 0;
  await readVerified(store, sha256, async (bytes) => {
    const first = position;
    position += bytes.length;
    if (position > byteSize) throw artifactCorrupt(sha256);
    for (let written = 0; written < bytes.length;) {
      const { bytesWritten } = await file.write(bytes, written, bytes.length - written, first + written);
      written += bytesWritten;
    }
  });
  // A power cut must not leave a file that is remembered as verified and has lost its bytes.
  await file.sync();
}

async function verifyFile(file: string, sha256: string): Promise<void> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) hash.update(chunk);
  if (hash.digest('hex') !== sha256) throw artifactCorrupt(sha256);
}

interface CacheFile {
  readonly file: string;
  readonly byteSize: number;
  readonly linkCount: number;
  /** The inode changes with each link, so this is when the copy was last held or released. */
  readonly usedMs: number;
}

async function filesIn(folder: string): Promise<CacheFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => {
        const file = path.join(entry.parentPath, entry.name);
        const facts = await stat(file).catch(() => undefined);
        return facts === undefined
          ? []
          : [{ file, byteSize: facts.size, linkCount: facts.nlink, usedMs: facts.ctimeMs }];
      }),
  );
  return files.flat();
}

async function sizeOf(file: string): Promise<number | undefined> {
  return stat(file).then(
    ({ size }) => size,
    () => undefined,
  );
}

function cacheFull(maxBytes: number, neededBytes: number): DomainError {
  return new DomainError({
    code: 'STORAGE_FULL',
    message: `The runs of this machine read ${neededBytes} bytes at the same time, and its cache holds ${maxBytes}.`,
    field: 'PARAFFIN_CACHE_BYTES',
    hint: 'Raise PARAFFIN_CACHE_BYTES, or run fewer runs at the same time.',
    retryable: true,
  });
}

function isCorrupt(error: unknown): boolean {
  return error instanceof DomainError && error.code === 'ARTIFACT_CORRUPT';
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
