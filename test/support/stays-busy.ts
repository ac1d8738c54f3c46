/** For a sandbox: never returns to its event loop, like a decoder in an endless loop. */
import { writeSync } from 'node:fs';
import { becomeNobodyIfAsked } from '../../src/platform/become-nobody.ts';

becomeNobodyIfAsked();
writeSync(1, 'busy');
for (;;);
