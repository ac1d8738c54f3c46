/** Runs a program in a process of its own and, where that is wanted, starts it again when it crashed. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

/** What the server says of a failure that nothing had caught: EX_SOFTWARE of sysexits.h. */
const CRASHED = 70;
/** As shells have it, a program that a signal ended has the exit code 128 and the number of the signal. */
const BY_SIGNAL = 128;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** After so long a life the next crash is a first one again. */
const GOOD_LIFE_MS = 300_000;

/**
 * Runs `command` until it ends, and then ends this process with its exit code.
 *
 * With `restart` a program that crashed, or was killed by somebody else than us, is started again, after a pause that
 * doubles with each crash. A first start that fails (a port in use, a wrong variable) is for the person who tried it
 * and is not repeated; one after a crash is. The program has a channel to us that closes when we die: a server then
 * stops as if it were asked to.
 */
export async function supervise(command, args, { env, restart }) {
  let asked = false;
  let child;
  let endPause = () => undefined;
  // A terminal's Ctrl-C reaches the program and us; a signal sent to us alone does not reach it. Passing both on is safe:
  // the program takes a repeated signal within a second for the same one.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
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
    console.error(`The server died (exit code ${code}) and is started again in ${pauseMs / 1000} s.`);
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
