/** `paraffin uploads`: uploaded files that no import has used yet, below the data directory. */
import path from 'node:path';
import { readEnvironment } from '../env.ts';
import { clearUploads } from '../platform/upload-store.ts';
import { formatByteSize } from './terminal.ts';

export async function clear(): Promise<void> {
  const { count, byteSize } = await clearUploads(path.join(readEnvironment().dataDir, 'uploads'));
  process.stdout.write(`Deleted ${count} uploads, ${formatByteSize(byteSize)}.\n`);
}
