/**
 * Our side of bench/reading.ts, in a separate process. Prints one JSON line.
 *
 *   node bench/reading-ours.ts FOLDER SIDE BATCH BATCHES      shuffled batches of a folder of shards, without a cache
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { DEFAULT_SHUFFLE } from '../src/protocol/pretraining/shuffle.ts';
import { sourceOf } from '../test/support/shards.ts';
import { openTrainingBatches } from '../workers/engine/data/batches.ts';
import { storedDecoders } from '../workers/imaging/decoder/stored-decoder.ts';
import { cpuSecondsBelow } from './processor-time.ts';

const [folder = '', side, batch, batches] = process.argv.slice(2);
const [batchSize, batchCount] = [Number(batch), Number(batches)];
const shards = (await readdir(folder)).filter((name) => name.endsWith('.tar')).toSorted();
const sources = await Promise.all(shards.map((name) => sourceOf(path.join(folder, name))));

const startedMs = performance.now();
const reading = openTrainingBatches({
  datasets: [{ shards: sources }],
  ...{ sampling: 'EVEN', batchSize, sourceSizePx: Number(side), seed: 1, cacheByteLimit: 0 },
  windowShards: DEFAULT_SHUFFLE.windowShards,
  openDecoder: storedDecoders({ hiddenFolder: folder, scratchFolder: folder }),
});
await reading.next();
const firstMs = performance.now();
const firstCpuSeconds = cpuSeconds();
let pixelSum = 0;
for (let index = 0; index < batchCount; index += 1) {
  const { images } = await reading.next();
  pixelSum += images[index] ?? 0;
}
const endedMs = performance.now();
const endedCpuSeconds = cpuSeconds();
await reading.close();
console.log(
  JSON.stringify({
    imagesPerSecond: (batchCount * batchSize * 1000) / (endedMs - firstMs),
    cpuMsPerImage: ((endedCpuSeconds - firstCpuSeconds) * 1000) / (batchCount * batchSize),
    firstBatchMs: firstMs - startedMs,
    pixelSum,
  }),
);

/** Of this process and the decoder. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6 + cpuSecondsBelow(process.pid);
}
