/** Every kind of attack, in the order in which they are tried. */
import type { Attack } from './attack.ts';
import { hostileValues } from './hostile-values.ts';
import { lockout } from './lockout.ts';
import { rawSockets } from './raw-sockets.ts';

export const ATTACKS: readonly Attack[] = [rawSockets, hostileValues, lockout];
