/**
 * Removes unfinished files if this process dies before it can do so itself, even by SIGKILL: a shell in a separate
 * session waits for the end of a pipe that only this process holds open.
 */
import { spawn } from 'node:child_process';

export interface Guard {
  /** From now on nothing is removed. Safe to call twice. */
  disarm(): void;
}

/**
 * @param paths files and folders; missing ones are ignored.
 * @param afterLock a lock file to wait for first, because its holder still writes to the paths.
 */
export function removeIfKilled(paths: readonly string[], afterLock?: string): Guard {
  const script = 'cat > /dev/null; [ -e "$1" ] && flock "$1" true; shift; rm -rf -- "$@"';
  const shell = spawn('/bin/sh', ['-c', script, 'sh', afterLock ?? '', ...paths], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  // If no shell can be started, nothing is removed on death.
  shell.on('error', () => undefined);
  shell.stdin.on('error', () => undefined);
  shell.unref();
  return {
    disarm: () => {
      shell.kill('SIGKILL');
      // Closes the pipe that the shell waits on; otherwise the shell would live as long as this process.
      shell.stdin.destroy();
    },
  };
}
