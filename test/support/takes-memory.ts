/**
 * For a sandbox: allocates memory, one MiB after another, until an allocation fails or it has 4 GiB, and prints a dot
 * for each.
 */
import { writeSync } from 'node:fs';
import { dropPrivilegesIfRequested } from '../../src/platform/drop-privileges.ts';

dropPrivilegesIfRequested();
for (const taken: Buffer[] = []; taken.length < 4096; taken.push(Buffer.alloc(1024 * 1024))) writeSync(1, '.');
