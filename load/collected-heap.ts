/**
 * Loaded into the server by `npm run load` (`--expose-gc --import`): on request over the channel to its parent it
 * collects garbage and reports the remaining heap, because the size between collections depends on V8's schedule more
 * than on the program.
 */
import { setTimeout as delay } from 'node:timers/promises';

process.on('message', () => void collectAndReport());
// It must not keep the server from ending.
process.channel?.unref();

async function collectAndReport(): Promise<void> {
  globalThis.gc?.();
  // The second collection frees the memory that finalisers released.
  await delay(100);
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.send?.({ heapBytes: heapUsed, externalBytes: external });
}
