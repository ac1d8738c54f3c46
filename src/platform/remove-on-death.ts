/**
 * Takes unfinished files away when this process dies before it could, also by SIGKILL: a shell in a session of its own
 * waits for the end of a pipe that only we hold open.
 */
import { spawn } from 'node:child_process';

export interface Guard {
  /** From now on nothing is removed. Safe to call twice. */
  disarm(): void;
}

/**
 * @param paths files and folders; what is not there is no fault.
 * @param afterLock a file whose lock is waited for first: its holder still writes there.
 */
export function removeOnDeath(paths: readonly string[], afterLock?: string): Guard {
  const script = 'cat > /dev/null; [ -e "$1" ] && flock "$1" true; shift; rm -rf -- "$@"';
  const shell = spawn('/bin/sh', ['-c', script, 'sh', afterLock ?? '', ...paths], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  // A machine that starts no shell goes without.
  shell.on('error', () => undefined);
  shell.stdin.on('error', () => undefined);
  shell.unref();
  return {
    disarm: () => {
      shell.kill('SIGKILL');
      // What the shell waited by, which would otherwise stay as long as we do.
      shell.stdin.destroy();
    },
  };
}
