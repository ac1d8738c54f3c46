/** All kinds of attacks, in the order in which they are tried. */
import type { Attack } from './attack.ts';
import { authorisation } from './authorisation.ts';
import { bombs } from './bombs.ts';
import { costlyQueries } from './costly-queries.ts';
import { fullDisk } from './full-disk.ts';
import { hostileValues } from './hostile-values.ts';
import { killedRuns } from './killed-runs.ts';
import { kills } from './kills.ts';
import { lockout } from './lockout.ts';
import { rawSockets } from './raw-sockets.ts';
import { slowClients } from './slow-clients.ts';
import { strangeFiles } from './strange-files.ts';
import { twoServers } from './two-servers.ts';

export const ATTACKS: readonly Attack[] = [
  rawSockets,
  authorisation,
  costlyQueries,
  lockout,
  hostileValues,
  slowClients,
  strangeFiles,
  bombs,
  fullDisk,
  twoServers,
  kills,
  killedRuns,
];
