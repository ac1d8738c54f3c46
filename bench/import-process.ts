/** Programs that measure an import in a process like that of an import. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { IMPORT_HEAP_FLAGS } from '../workers/imaging/import-heap.ts';

/**
 * @param program a file in this folder.
 * @returns its standard output.
 * @throws Error if it fails.
 */
export async function outputOfImportProcess(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [...IMPORT_HEAP_FLAGS, path.join(import.meta.dirname, program), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  const output = await text(child.stdout);
  await closed;
  if (child.exitCode !== 0) throw new Error(`${program} failed.`);
  return output;
}
