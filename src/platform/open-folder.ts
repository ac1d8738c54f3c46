/**
 * Access to files below an open folder. Each part of a path is opened relative to the part before, as with openat(2)
 * (here through /proc/self/fd), and symbolic links are not followed, so that replacing a folder by a link meanwhile has
 * no effect.
 */
import { constants, lstat, open, readdir, type FileHandle } from 'node:fs/promises';
import { fstatSync, type Dirent, type Stats } from 'node:fs';

export type OpenFault =
  /** The path does not exist. */
  | 'NOT_FOUND'
  /** The path, or a part of it, is a link, a pipe, a device or a folder. */
  | 'NOT_A_REGULAR_FILE'
  /** The path exists but cannot be opened. */
  | 'UNREADABLE';

export class OpenError extends Error {
  readonly fault: OpenFault;

  constructor(fault: OpenFault, cause?: unknown) {
    super(`The file cannot be opened: ${fault}.`, { cause });
    this.name = 'OpenError';
    this.fault = fault;
  }
}

/** What shows that a file is still the same one, on whichever machine its folder is mounted. */
export interface FileFacts {
  readonly byteSize: number;
  /** Whole milliseconds since 1970: not every file system keeps more. */
  readonly modifiedAtMs: number;
}

export interface OpenFolder extends AsyncDisposable {
  /** The file descriptor, for a process that shall see the folder. */
  readonly descriptor: number;
  /**
   * @returns the open folder, which the caller closes. @throws OpenError, also for a file where a folder is expected.
   */
  openFolder(relativePath: string): Promise<OpenFolder>;
  /**
   * Opens a regular file to read. Never blocks, as opening a pipe could.
   * @param relativePath with `/` between its parts. @throws OpenError.
   */
  openFile(relativePath: string): Promise<FileHandle>;
  /** Without opening the file; null if there is no regular file at the path. */
  factsOf(relativePath: string): Promise<FileFacts | null>;
  /** The entries of a folder below this one. @throws OpenError. */
  entriesOf(relativePath: string): Promise<Dirent[]>;
}

/** Linux's O_PATH, for which Node has no constant: a reference to a path without permission to read it. */
const O_PATH = 0o10000000;
const FOLDER_FLAGS = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const FILE_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** An open folder for all who read in it at the same time; it is closed when the last of them has left. */
interface SharedFolder {
  readonly path: string;
  readonly handle: Promise<FileHandle>;
  userCount: number;
}

/** @param folder an absolute, trusted path: links in it are followed. @throws OpenError. */
export async function openFolder(folder: string): Promise<OpenFolder> {
  return asOpenFolder(await openPath(folder, O_PATH | constants.O_DIRECTORY));
}

function asOpenFolder(folder: FileHandle): OpenFolder {
  /** The folder of the last file, kept open: an import reads folder by folder, each several folders deep. */
  let recent: SharedFolder | undefined;

  const openParts = async (parts: readonly string[]): Promise<FileHandle> => {
    let current = folder;
    for (const part of parts) {
      try {
        const next = await openPath(procPathOf(current, part), FOLDER_FLAGS);
        if (current !== folder) await current.close();
        current = next;
      } catch (error) {
        if (current !== folder) await current.close();
        throw error;
      }
    }
    return current;
  };
  const leave = async (shared: SharedFolder): Promise<void> => {
    shared.userCount -= 1;
    if (shared.userCount > 0) return;
    const handle = await shared.handle.catch(() => undefined);
    await handle?.close();
  };
  const enter = (parts: readonly string[]): SharedFolder => {
    const path = parts.join('/');
    if (recent?.path === path) {
      recent.userCount += 1;
      return recent;
    }
    const before = recent;
    // Its two users are the caller and this memory of it.
    const shared: SharedFolder = { path, handle: openParts(parts), userCount: 2 };
    recent = shared;
    shared.handle.catch(() => {
      // A folder that cannot be opened may be there the next time.
      if (recent === shared) recent = undefined;
    });
    if (before !== undefined) void leave(before);
    return shared;
  };
  /** Calls `work` with the folder at the path; an empty path is this folder itself. */
  const within = async <Result>(
    parts: readonly string[],
    work: (folder: FileHandle) => Promise<Result>,
  ): Promise<Result> => {
    if (parts.length === 0) return work(folder);
    const shared = enter(parts);
    try {
      return await work(await shared.handle);
    } finally {
      await leave(shared);
    }
  };

  return {
    descriptor: folder.fd,
    openFolder: async (relativePath) =>
      within(partsOf(relativePath), async (found) =>
        asOpenFolder(await openPath(`/proc/self/fd/${found.fd}/.`, O_PATH)),
      ),
    openFile: async (relativePath) => {
      const parts = partsOf(relativePath);
      const name = parts.pop();
      if (name === undefined) throw new OpenError('NOT_A_REGULAR_FILE');
      return within(parts, async (found) => {
        const file = await openPath(procPathOf(found, name), FILE_FLAGS);
        // Without a thread: the file is open, so this waits for no disk.
        if (fstatSync(file.fd).isFile()) return file;
        await file.close();
        throw new OpenError('NOT_A_REGULAR_FILE');
      });
    },
    factsOf: async (relativePath) => {
      const parts = partsOf(relativePath);
      const name = parts.pop() ?? '.';
      try {
        return await within(parts, async (found) => {
          const stats = await lstat(procPathOf(found, name));
          return stats.isFile() ? factsFrom(stats) : null;
        });
      } catch {
        return null;
      }
    },
    entriesOf: async (relativePath) =>
      within(partsOf(relativePath), async (found) =>
        readdir(`/proc/self/fd/${found.fd}`, { withFileTypes: true }).catch((cause: unknown) => {
          throw new OpenError('UNREADABLE', cause);
        }),
      ),
    [Symbol.asyncDispose]: async () => {
      if (recent !== undefined) await leave(recent);
      await folder.close();
    },
  };
}

export function factsFrom({ size, mtimeMs }: Pick<Stats, 'size' | 'mtimeMs'>): FileFacts {
  return { byteSize: size, modifiedAtMs: Math.floor(mtimeMs) };
}

function procPathOf(folder: FileHandle, name: string): string {
  return `/proc/self/fd/${folder.fd}/${name}`;
}

/** @throws OpenError for a path that would leave the folder. */
function partsOf(relativePath: string): string[] {
  const parts = relativePath.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw new OpenError('NOT_A_REGULAR_FILE');
  return parts;
}

async function openPath(place: string, flags: number): Promise<FileHandle> {
  return open(place, flags).catch((cause: unknown) => {
    throw new OpenError(faultOf(cause), cause);
  });
}

function faultOf(cause: unknown): OpenFault {
  switch (cause instanceof Error && 'code' in cause ? cause.code : undefined) {
    case 'ENOENT':
    // No file can have this name.
    case 'ENAMETOOLONG':
    case 'ERR_INVALID_ARG_VALUE':
      return 'NOT_FOUND';
    // The path contains a symbolic link, is a socket, or has a file in place of a folder.
    case 'ELOOP':
    case 'ENOTDIR':
    case 'ENXIO':
      return 'NOT_A_REGULAR_FILE';
    default:
      return 'UNREADABLE';
  }
}
