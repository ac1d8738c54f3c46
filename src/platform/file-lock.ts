/**
 * Locks on files that hold between all processes of a machine, in whatever container or namespace: flock(2), by the
 * program of that name from util-linux, as Node has no such call. The kernel frees them with the last process that
 * holds the file open, however that ends, so that nothing stale stays behind.
 */
import { spawn } from 'node:child_process';
import { open, stat, type FileHandle } from 'node:fs/promises';

/** The exit code of flock(1) for a lock that somebody else holds. */
const HELD = 1;

/**
 * @param file made if missing.
 * @returns the file open to read and to append, locked until it is closed here and by every process that was given it;
 * undefined while somebody else holds it.
 * @throws Error where the file system or the machine has no such locks.
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
      // Removed between the open and the lock: anyone who comes next would lock another file of that name.
      await handle.close();
    } catch (error) {
      await handle.close();
      throw error;
    }
  }
}

/** The lock belongs to the open file, which the program shares with us; it stays when the program ends. */
async function tryLock({ fd }: FileHandle): Promise<boolean> {
  const program = spawn('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'pipe', fd] });
  let complaint = '';
  program.stderr?.on('data', (chunk: Buffer) => (complaint += chunk.toString('utf8')));
  const code = await new Promise<number | null>((resolve, reject) => {
    program.once('close', resolve);
    program.once('error', (cause) =>
      reject(new Error('The program flock cannot be started: install util-linux.', { cause })),
    );
  });
  if (code === 0) return true;
  if (code === HELD) return false;
  throw new Error(`The file system takes no lock: ${complaint.trim() || `flock ended with ${code}`}`);
}

async function isStillAt(handle: FileHandle, file: string): Promise<boolean> {
  const held = await handle.stat();
  const found = await stat(file).catch(() => undefined);
  return found !== undefined && found.ino === held.ino && found.dev === held.dev;
}
