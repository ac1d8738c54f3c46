/**
 * Our side of bench/stored-embedding.ts, in a separate process. Prints one JSON line.
 *
 *   node bench/stored-embedding-ours.ts FILE SHARD SIDE      decodes and embeds every image of a shard at SIDE px
 *
 * Works like an evaluation: a process in a sandbox reads and decodes the shard while the network embeds the previous
 * batch. Its start counts.
 */
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { readSafetensors } from '../src/formats/safetensors.ts';
import { openEvaluationImages } from '../workers/engine/data/batches.ts';
import { embeddingBatchSize, embedPixels, HALF_NORMALISATION } from '../workers/engine/embed.ts';
import { encoderFromWeights } from '../workers/engine/encoders/resnet/network.ts';
import { engineInfo } from '../workers/engine/tensorflow.ts';
import { imagesOf, sourceOf } from '../test/support/shards.ts';
import { storedDecoders } from '../workers/imaging/decoder/stored-decoder.ts';

const [weightsPath = '', shardPath = '', side] = process.argv.slice(2);
const imageSizePx = Number(side);
const batchSize = embeddingBatchSize(imageSizePx);
const encoder = encoderFromWeights('RESNET18', readSafetensors(readFileSync(weightsPath)).tensors);
const embed = (images: Uint8Array, count: number): Float32Array =>
  embedPixels(encoder, images, count, imageSizePx, HALF_NORMALISATION);

// The first batch is not counted, because it allocates memory and compiles code.
embed(new Uint8Array(batchSize * imageSizePx ** 2 * 3), batchSize);
const images = (await imagesOf(shardPath)).map(({ key }, indexInShard) => ({ key, shard: 0, indexInShard }));
const cpuBefore = process.cpuUsage();
const startedMs = performance.now();
const scratchFolder = path.dirname(shardPath);
const openDecoder = storedDecoders({ hiddenFolder: scratchFolder, scratchFolder });
const shards = [await sourceOf(shardPath)];
const reading = openEvaluationImages({ shards, images, batchSize, imageSizePx, openDecoder });
for (let batch = await reading.next(); batch !== null; batch = await reading.next())
  embed(batch.images, batch.imageCount);
const durationMs = performance.now() - startedMs;
const { user, system } = process.cpuUsage(cpuBefore);
const decoderCpuMs = await cpuMsOfDescendants(process.pid);
await reading.close();
console.log(
  JSON.stringify({
    imagesPerSecond: (images.length * 1000) / durationMs,
    cpuMsPerImage: ((user + system) / 1000 + decoderCpuMs) / images.length,
    library: `${engineInfo().library} ${engineInfo().version}, sharp`,
  }),
);

/** User and system time of the processes below `pid`, from the kernel's ticks of 10 ms. */
async function cpuMsOfDescendants(pid: number): Promise<number> {
  const rows = await Promise.all(
    (await readdir('/proc'))
      .filter((name) => /^\d+$/.test(name))
      .map(async (name) => {
        const line = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
        // The name in brackets may contain any character, so the fields are read after the last bracket.
        const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
        return { pid: Number(name), parentPid: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) };
      }),
  );
  const ticksBelow = (parent: number): number =>
    rows
      .filter(({ parentPid }) => parentPid === parent)
      .reduce((sum, child) => sum + child.ticks + ticksBelow(child.pid), 0);
  return ticksBelow(pid) * 10;
}
