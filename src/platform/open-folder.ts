/**
 * A folder that is held open, and what lies below it. Each part of a path is opened below the one before, as openat(2)
 * does (here by /proc/self/fd), and no link is followed: someone who exchanges a folder for a link meanwhile leads
 * nowhere.
 */
import { constants, open, readdir, type FileHandle } from 'node:fs/promises';
import type { Dirent } from 'node:fs';

export type OpenFault =
  /** Nothing is there. */
  | 'NOT_FOUND'
  /** A link, a pipe, a device or a folder is there, or on the way. */
  | 'NOT_A_REGULAR_FILE'
  /** It is there and cannot be opened. */
  | 'UNREADABLE';

export class OpenError extends Error {
  readonly fault: OpenFault;

  constructor(fault: OpenFault, cause?: unknown) {
    super(`The file cannot be opened: ${fault}.`, { cause });
    this.name = 'OpenError';
    this.fault = fault;
  }
}

export interface OpenFolder extends AsyncDisposable {
  /** @returns what is open; the caller closes it. @throws OpenError, also for a file where a folder is expected. */
  openFolder(relativePath: string): Promise<OpenFolder>;
  /**
   * Opens a regular file to read. It never waits, as an open of a pipe would.
   * @param relativePath with `/` between its parts. @throws OpenError.
   */
  openFile(relativePath: string): Promise<FileHandle>;
  /** What lies directly in a folder below. @throws OpenError. */
  entriesOf(relativePath: string): Promise<Dirent[]>;
}

/** Linux's O_PATH, which Node does not name: a place in the file system, without the right to read it. */
const O_PATH = 0o10000000;
const FOLDER_FLAGS = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const FILE_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * @param folder absolute, and trusted: links above it are followed. @throws OpenError.
 */
export async function openFolder(folder: string): Promise<OpenFolder> {
  return below(await opened(folder, O_PATH | constants.O_DIRECTORY));
}

function below(folder: FileHandle): OpenFolder {
  /** Gives the folder that a path leads to, which is this one for an empty path, to `work`. */
  const within = async <Result>(
    parts: readonly string[],
    work: (folder: FileHandle) => Promise<Result>,
  ): Promise<Result> => {
    let current = folder;
    try {
      for (const part of parts) {
        const next = await opened(placeIn(current, part), FOLDER_FLAGS);
        if (current !== folder) await current.close();
        current = next;
      }
      return await work(current);
    } finally {
      if (current !== folder) await current.close();
    }
  };

  return {
    openFolder: async (relativePath) =>
      within(partsOf(relativePath), async (found) => below(await opened(`/proc/self/fd/${found.fd}/.`, O_PATH))),
    openFile: async (relativePath) => {
      const parts = partsOf(relativePath);
      const name = parts.pop();
      if (name === undefined) throw new OpenError('NOT_A_REGULAR_FILE');
      return within(parts, async (found) => {
        const file = await opened(placeIn(found, name), FILE_FLAGS);
        if ((await file.stat()).isFile()) return file;
        await file.close();
        throw new OpenError('NOT_A_REGULAR_FILE');
      });
    },
    entriesOf: async (relativePath) =>
      within(partsOf(relativePath), async (found) =>
        readdir(`/proc/self/fd/${found.fd}`, { withFileTypes: true }).catch((cause: unknown) => {
          throw new OpenError('UNREADABLE', cause);
        }),
      ),
    [Symbol.asyncDispose]: () => folder.close(),
  };
}

function placeIn(folder: FileHandle, name: string): string {
  return `/proc/self/fd/${folder.fd}/${name}`;
}

/** @throws OpenError for what would climb. */
function partsOf(relativePath: string): string[] {
  const parts = relativePath.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw new OpenError('NOT_A_REGULAR_FILE');
  return parts;
}

async function opened(place: string, flags: number): Promise<FileHandle> {
  return open(place, flags).catch((cause: unknown) => {
    throw new OpenError(faultOf(cause), cause);
  });
}

function faultOf(cause: unknown): OpenFault {
  switch (cause instanceof Error && 'code' in cause ? cause.code : undefined) {
    case 'ENOENT':
    // A name that no file can have.
    case 'ENAMETOOLONG':
    case 'ERR_INVALID_ARG_VALUE':
      return 'NOT_FOUND';
    // A link, where the last part or one before it must not be one; a socket; a file on the way.
    case 'ELOOP':
    case 'ENOTDIR':
    case 'ENXIO':
      return 'NOT_A_REGULAR_FILE';
    default:
      return 'UNREADABLE';
  }
}
