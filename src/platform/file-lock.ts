/**
 * File locks between all processes of a machine, across containers and namespaces: flock(2), through the program flock
 * of util-linux, because Node has no such call. The kernel releases a lock when the last process that has the file open
 * ends, even if it is killed, so that no stale lock remains.
 */
import { spawn } from 'node:child_process';
import { open, stat, type FileHandle } from 'node:fs/promises';

/** The exit code of flock(1) for a lock that another process holds. */
const EXIT_LOCK_HELD = 1;

/**
 * @param file created if missing.
 * @returns the file open to read and to append, locked until this process and every process that inherited it has
 * closed it; undefined while another process holds the lock.
 * @throws Error if the file system or the machine does not support such locks.
 */
export async function tryLockFile(file: string): Promise<FileHandle | undefined> {
  for (;;) {
    const handle = await open(file, 'a+', 0o600);
    try {
      if (!(await tryLock(handle))) {
        await handle.close();
        return undefined;
      }
      if (await isStillAt(handle, file)) return handle;
      // The file was removed between the open and the lock: the next process would lock a new file of the same name.
      await handle.close();
    } catch (error) {
      await handle.close();
      throw error;
    }
  }
}

/**
 * The lock belongs to the open file description, which the program shares with us; it remains when the program ends.
 */
async function tryLock({ fd }: FileHandle): Promise<boolean> {
  const program = spawn('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'pipe', fd] });
  let lockError = '';
  program.stderr?.on('data', (chunk: Buffer) => (lockError += chunk.toString('utf8')));
  const code = await new Promise<number | null>((resolve, reject) => {
    program.once('close', resolve);
    program.once('error', (cause) =>
      reject(new Error('The program flock cannot be started: install util-linux.', { cause })),
    );
  });
  if (code === 0) return true;
  if (code === EXIT_LOCK_HELD) return false;
  throw new Error(`The file system does not support locks: ${lockError.trim() || `flock ended with ${code}`}`);
}

async function isStillAt(handle: FileHandle, file: string): Promise<boolean> {
  const held = await handle.stat();
  const found = await stat(file).catch(() => undefined);
  return found !== undefined && found.ino === held.ino && found.dev === held.dev;
}
