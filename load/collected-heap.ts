/**
 * Loaded into the server by `npm run load` (`--expose-gc --import`): asked over the channel to its parent, it collects
 * garbage and reports what is left, for between collections a heap says more of V8's patience than of the program.
 */
import { setTimeout as delay } from 'node:timers/promises';

process.on('message', () => void collectAndTell());
// It must not keep the server from ending.
process.channel?.unref();

async function collectAndTell(): Promise<void> {
  globalThis.gc?.();
  // The second collection frees what finalisers released.
  await delay(100);
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.send?.({ heapBytes: heapUsed, externalBytes: external });
}
