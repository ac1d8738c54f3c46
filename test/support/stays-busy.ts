/** For a sandbox: never returns to its event loop, like a decoder in an endless loop. */
import { writeSync } from 'node:fs';
import { dropPrivilegesIfRequested } from '../../src/platform/drop-privileges.ts';

dropPrivilegesIfRequested();
writeSync(1, 'busy');
for (;;);
