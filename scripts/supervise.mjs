/** Runs a program in a child process and, if asked to, restarts it after a crash. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

/** The server's exit code for an uncaught failure: EX_SOFTWARE of sysexits.h. */
const CRASHED = 70;
/** As in shells, a program that a signal ended has exit code 128 plus the number of the signal. */
const BY_SIGNAL = 128;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** After running this long, the next crash counts as a first one. */
const GOOD_LIFE_MS = 300_000;

/**
 * Runs `command` until it ends, and then ends this process with its exit code.
 *
 * With `restart` a program that crashed, or that another process killed, is restarted after a pause that doubles with
 * each crash. A first start that fails (a port in use, a wrong variable) is reported and not repeated; a failed start
 * after a crash is. The program has an IPC channel to this process that closes when this process dies: the server then
 * stops as if it were asked to.
 */
export async function supervise(command, args, { env, restart }) {
  let asked = false;
  let child;
  let endPause = () => undefined;
  // A terminal's Ctrl-C reaches both processes; a signal to this process alone does not reach the program. Forwarding
  // both is safe: the program treats a repeated signal within a second as the same one.
  // SIGUSR1 is for a one-shot worker whose job comes near its time limit.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1']) {
    process.on(signal, () => {
      asked = true;
      child.kill(signal);
      endPause();
    });
  }
  let pauseMs = FIRST_PAUSE_MS;
  for (let crashCount = 0; ;) {
    const startedMs = performance.now();
    child = spawn(command, args, { stdio: ['inherit', 'inherit', 'inherit', ...(restart ? ['ipc'] : [])], env });
    const code = await exitCodeOf(child);
    if (code === CRASHED || code > BY_SIGNAL || (code !== 0 && crashCount > 0)) crashCount += 1;
    else process.exit(code);
    if (!restart || asked) process.exit(code);
    if (performance.now() - startedMs > GOOD_LIFE_MS) pauseMs = FIRST_PAUSE_MS;
    console.error(`The server crashed (exit code ${code}) and restarts in ${pauseMs / 1000} s.`);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pauseMs);
      endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    if (asked) process.exit(code);
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
  }
}

function exitCodeOf(child) {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(signal === null ? code : BY_SIGNAL + constants.signals[signal]));
  });
}
