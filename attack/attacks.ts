/** Every kind of attack, in the order in which they are tried. */
import type { Attack } from './attack.ts';
import { costlyQueries } from './costly-queries.ts';
import { hostileValues } from './hostile-values.ts';
import { kills } from './kills.ts';
import { lockout } from './lockout.ts';
import { rawSockets } from './raw-sockets.ts';
import { strangeFiles } from './strange-files.ts';
import { twoServers } from './two-servers.ts';

export const ATTACKS: readonly Attack[] = [
  rawSockets,
  hostileValues,
  costlyQueries,
  lockout,
  strangeFiles,
  twoServers,
  kills,
];
