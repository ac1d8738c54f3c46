/**
 * The process that reads one file of weights: what it chokes on ends here, not the server. The task comes on standard
 * input and the file as descriptor 4; the answer goes to standard output, and the weights into the file that is open as
 * number 3.
 */
import { writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { DomainError } from '../../errors.ts';
import { becomeNobodyIfAsked } from '../../platform/become-nobody.ts';
import { storageFull } from '../../platform/free-space.ts';
import { readEncoderFile, type EncoderFileTask } from './encoder-file.ts';
import type { ProcessAnswer, WeightsSpace } from './encoder-process.ts';

const WEIGHTS = 3;
const FILE = 4;

async function answer(): Promise<ProcessAnswer> {
  try {
    // From our own server, which has checked what people gave it: to check again would cost as long as the start.
    const { spaceBytes, ...task }: EncoderFileTask & WeightsSpace = JSON.parse(await text(process.stdin));
    const { bytes, ...facts } = await readEncoderFile(FILE, task);
    if (bytes.length > spaceBytes) throw storageFull();
    writeWhole(bytes);
    return { outcome: 'READ', facts, byteSize: bytes.length };
  } catch (error) {
    if (!(error instanceof DomainError)) throw error;
    const { code, message, field = null, hint = null } = error;
    return { outcome: 'REFUSED', code, message, field, hint };
  }
}

/** A write may be short on a disk that is nearly full. @throws DomainError STORAGE_FULL where others filled it. */
function writeWhole(bytes: Uint8Array): void {
  try {
    for (let written = 0; written < bytes.length;) written += writeSync(WEIGHTS, bytes, written);
  } catch (error) {
    throw error instanceof Error && 'code' in error && error.code === 'ENOSPC' ? storageFull() : error;
  }
}

becomeNobodyIfAsked();
process.stdout.write(JSON.stringify(await answer()));
