/**
 * Our side of bench/embedding.ts, in a separate process. Prints one JSON line.
 *
 *   node bench/embedding-ours.ts DIR ENCODER BATCHES BATCH SIDE      embeds DIR/pixels with DIR/weights.safetensors
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { architectureNamed, describeEncoder, usualPooling } from '../src/formats/encoders/index.ts';
import { readSafetensors } from '../src/formats/safetensors.ts';
import { embedPixels, HALF_NORMALISATION } from '../workers/engine/embed.ts';
import { openEncoder } from '../workers/engine/encoders/index.ts';
import { engineInfo } from '../workers/engine/tensorflow.ts';
import { EMBEDDING_ENCODERS } from './embedding-encoders.ts';

const [folder = '', name, ...numbers] = process.argv.slice(2);
const [batchCount = 1, batchSize = 1, imageSizePx = 224] = numbers.map(Number);
const architecture = architectureNamed(z.enum(EMBEDDING_ENCODERS).parse(name));
const { tensors } = readSafetensors(await readFile(path.join(folder, 'weights.safetensors')));
const encoder = openEncoder(architecture, tensors, usualPooling(describeEncoder(architecture)));
const pixels = new Uint8Array(await readFile(path.join(folder, 'pixels')));
const embedBatch = (): Float32Array => embedPixels(encoder, pixels, batchSize, imageSizePx, HALF_NORMALISATION);

// The first batch is not counted, because it allocates memory and compiles code.
const embeddings = embedBatch();
const cpuBefore = process.cpuUsage();
const startedMs = performance.now();
for (let batch = 0; batch < batchCount; batch += 1) embedBatch();
const durationMs = performance.now() - startedMs;
const { user, system } = process.cpuUsage(cpuBefore);
const imageCount = batchCount * batchSize;
console.log(
  JSON.stringify({
    imagesPerSecond: (imageCount * 1000) / durationMs,
    cpuMsPerImage: (user + system) / 1000 / imageCount,
    peakRssMb: process.resourceUsage().maxRSS / 1024,
    library: `${engineInfo().library} ${engineInfo().version}`,
    embedding: [...embeddings.subarray(0, encoder.embeddingDim)],
  }),
);
