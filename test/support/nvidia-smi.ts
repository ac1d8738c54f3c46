/** A program that prints what nvidia-smi prints. */
import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { temporaryFolder } from './shards.ts';

/** @param script for sh. Returns the program's path; it is deleted after the test. */
export async function fakeNvidiaSmi(context: TestContext, script: string): Promise<string> {
  const file = path.join(await temporaryFolder(context), 'nvidia-smi');
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, 0o755);
  return file;
}
