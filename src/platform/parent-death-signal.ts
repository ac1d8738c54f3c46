/**
 * Makes a program end when its parent ends, even if the parent is killed: setpriv (util-linux), if installed, asks the
 * kernel to signal the child on the parent's death.
 */
import { existsSync } from 'node:fs';

const SETPRIV =
  process.platform === 'linux' ? ['/usr/bin/setpriv', '/bin/setpriv'].find((file) => existsSync(file)) : undefined;

/** The prefix of a command that does this; empty if setpriv is not installed. */
export const PARENT_DEATH_SIGNAL: readonly string[] =
  SETPRIV === undefined ? [] : [SETPRIV, '--pdeathsig', 'KILL', '--'];
