/** For a sandbox: takes memory, one MiB after another, until it gets no more or has 4 GiB, with a dot for each. */
import { writeSync } from 'node:fs';
import { becomeNobodyIfAsked } from '../../src/platform/become-nobody.ts';

becomeNobodyIfAsked();
for (const taken: Buffer[] = []; taken.length < 4096; taken.push(Buffer.alloc(1024 * 1024))) writeSync(1, '.');
