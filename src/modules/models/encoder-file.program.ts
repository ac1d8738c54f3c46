/**
 * The process that reads one file of weights, so that a malicious or broken file can crash only this process, not the
 * server. The task comes on standard input and the file as descriptor 4, or its shards as descriptors from 4 on; the
 * answer goes to standard output, and the weights to the file open as descriptor 3.
 */
import { writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { DomainError } from '../../errors.ts';
import { dropPrivilegesIfRequested } from '../../platform/drop-privileges.ts';
import { storageFull } from '../../platform/free-space.ts';
import { readEncoderFile } from './encoder-file.ts';
import type { ProcessAnswer, ProcessTask } from './encoder-process.ts';

const WEIGHTS = 3;
const FIRST_FILE = 4;

async function answer(): Promise<ProcessAnswer> {
  try {
    // The task comes from our own server, which has validated the user's input; validating it again would take as long
    // as the start of the process.
    const { spaceBytes, fileCount, ...task }: ProcessTask = JSON.parse(await text(process.stdin));
    const { byteSize, ...facts } = await readEncoderFile(
      Array.from({ length: fileCount }, (_none, index) => FIRST_FILE + index),
      task,
      {
        begin: (neededBytes) => {
          if (neededBytes > spaceBytes) throw storageFull();
        },
        write: writeWhole,
      },
    );
    return { outcome: 'READ', facts, byteSize };
  } catch (error) {
    if (!(error instanceof DomainError)) throw error;
    const { code, message, field = null, hint = null } = error;
    return { outcome: 'REFUSED', code, message, field, hint };
  }
}

/** Writes can be short on a nearly full disk. @throws DomainError STORAGE_FULL if other writers filled the disk. */
function writeWhole(bytes: Uint8Array, position: number): void {
  try {
    for (let written = 0; written < bytes.length;)
      written += writeSync(WEIGHTS, bytes, written, bytes.length - written, position + written);
  } catch (error) {
    throw error instanceof Error && 'code' in error && error.code === 'ENOSPC' ? storageFull() : error;
  }
}

dropPrivilegesIfRequested();
process.stdout.write(JSON.stringify(await answer()));
