/** The thread of digest-thread.ts: hashes what it is sent, in the order in which it arrives. */
import { createHash, type Hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import type { DigestMessage } from './digest-thread.ts';

const hashes = new Map<number, Hash>();

parentPort?.on('message', ({ id, bytes }: DigestMessage) => {
  const hash = hashes.get(id) ?? createHash('sha256');
  if (bytes !== null) hash.update(bytes);
  if (bytes === null) hashes.delete(id);
  else hashes.set(id, hash);
  parentPort?.postMessage(bytes === null ? hash.digest('hex') : null);
});
