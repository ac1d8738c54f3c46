/** A program that answers as nvidia-smi does. */
import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { temporaryFolder } from './shards.ts';

/** @param script for sh. Gives the program's path; it goes with the test. */
export async function fakeNvidiaSmi(context: TestContext, script: string): Promise<string> {
  const file = path.join(await temporaryFolder(context), 'nvidia-smi');
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, 0o755);
  return file;
}
