/**
 * A program that ends with the one that started it, however that ends: by the kernel's word to the parent's death,
 * where setpriv of util-linux is there to ask for it.
 */
import { existsSync } from 'node:fs';

const SETPRIV =
  process.platform === 'linux' ? ['/usr/bin/setpriv', '/bin/setpriv'].find((file) => existsSync(file)) : undefined;

/** What stands before a command to that end; empty where nothing can. */
export const DIES_WITH_PARENT: readonly string[] = SETPRIV === undefined ? [] : [SETPRIV, '--pdeathsig', 'KILL', '--'];
