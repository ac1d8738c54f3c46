/**
 * For a sandbox: allocates memory, one MiB after another, until an allocation fails or it has 4 GiB, and prints a dot
 * for each.
 */
import { writeSync } from 'node:fs';
import { becomeNobodyIfAsked } from '../../src/platform/become-nobody.ts';

becomeNobodyIfAsked();
for (const taken: Buffer[] = []; taken.length < 4096; taken.push(Buffer.alloc(1024 * 1024))) writeSync(1, '.');
