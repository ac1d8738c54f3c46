/**
 * Tries what the kernel must refuse to a process in a sandbox, even if Node would allow it, and prints what stopped it:
 * reach-from-sandbox.ts PORT PID FILE [drop-privileges]
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dropPrivilegesIfRequested } from '../../src/platform/drop-privileges.ts';

const [port, pid, file = ''] = process.argv.slice(2);
dropPrivilegesIfRequested();

function outcomeOf(work: () => void): string {
  try {
    work();
    return 'done';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

const network = await new Promise<string>((resolve) => {
  const socket = connect({ host: '127.0.0.1', port: Number(port) });
  socket.once('connect', () => resolve('done'));
  socket.once('error', (error) => resolve('code' in error ? String(error.code) : error.message));
});
process.stdout.write(
  JSON.stringify({
    network,
    signal: outcomeOf(() => process.kill(Number(pid), 0)),
    read: outcomeOf(() => void readFileSync(file)),
    environment: outcomeOf(() => void readFileSync(`/proc/${pid}/environ`)),
  }),
);
process.exit();
