/**
 * Our side of bench/stored-embedding.ts, in a separate process. Prints one JSON line.
 *
 *   node bench/stored-embedding-ours.ts FILE SHARD SIDE      decodes and embeds every image of a shard at SIDE px
 *
 * Works like an evaluation: a thread reads and decodes the shard while the network embeds the previous batch.
 */
import { readFileSync } from 'node:fs';
import { readSafetensors } from '../src/formats/safetensors.ts';
import { openEvaluationImages } from '../workers/engine/data/batches.ts';
import { indexShard } from '../workers/engine/data/shards.ts';
import { embeddingBatchSize, embedPixels, HALF_NORMALISATION } from '../workers/engine/embed.ts';
import { encoderFromWeights } from '../workers/engine/models/resnet.ts';
import { engineInfo } from '../workers/engine/tensorflow.ts';

const [weightsPath = '', shardPath = '', side] = process.argv.slice(2);
const imageSizePx = Number(side);
const batchSize = embeddingBatchSize(imageSizePx);
const encoder = encoderFromWeights('RESNET18', readSafetensors(readFileSync(weightsPath)).tensors);
const embed = (images: Uint8Array, count: number): Float32Array =>
  embedPixels(encoder, images, count, imageSizePx, HALF_NORMALISATION);

// The first batch is not counted, because it allocates memory and compiles code.
embed(new Uint8Array(batchSize * imageSizePx ** 2 * 3), batchSize);
const images = indexShard(shardPath).images.map(({ key }) => ({ key, shard: 0 }));
const cpuBefore = process.cpuUsage();
const startedMs = performance.now();
for await (const batch of openEvaluationImages({ shardPaths: [shardPath], images, batchSize, imageSizePx }))
  embed(batch.images, batch.keys.length);
const durationMs = performance.now() - startedMs;
const { user, system } = process.cpuUsage(cpuBefore);
console.log(
  JSON.stringify({
    imagesPerSecond: (images.length * 1000) / durationMs,
    cpuMsPerImage: (user + system) / 1000 / images.length,
    library: `${engineInfo().library} ${engineInfo().version}, sharp`,
  }),
);
