/**
 * Our side of bench/weights.ts, in a separate process. Prints one JSON line.
 *
 *   node bench/weights-ours.ts load FILE REPEATS          alternately reads the plain file and loads its tensors
 *   node bench/weights-ours.ts embed FILE IMAGES BATCH      embeds 224 px patches with a ResNet-18's safetensors
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { readSafetensors } from '../src/formats/safetensors.ts';

const IMAGE_SIZE_PX = 224;
const [what, file = '', ...numbers] = process.argv.slice(2);

function timedMs(work: () => void): number {
  const startedMs = performance.now();
  work();
  return performance.now() - startedMs;
}

/** The first round is not counted, because it fills the page cache and compiles code. */
function load(repeats: number): object {
  const rounds = Array.from({ length: repeats + 1 }, () => ({
    readMs: timedMs(() => readFileSync(file)),
    loadMs: timedMs(() => readSafetensors(readFileSync(file))),
  })).slice(1);
  return { readMs: rounds.map(({ readMs }) => readMs), loadMs: rounds.map(({ loadMs }) => loadMs) };
}

async function embed(imageCount: number, batchSize: number): Promise<object> {
  // The time to load TensorFlow is not counted.
  const { embedPixels, HALF_NORMALISATION } = await import('../workers/engine/embed.ts');
  const { encoderFromWeights } = await import('../workers/engine/encoders/resnet/network.ts');
  const { engineInfo } = await import('../workers/engine/tensorflow.ts');
  const encoder = encoderFromWeights('RESNET18', readSafetensors(await readFile(file)).tensors);
  let state = 1;
  const pixels = Uint8Array.from({ length: batchSize * IMAGE_SIZE_PX * IMAGE_SIZE_PX * 3 }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  });
  const embedBatch = (): Float32Array => embedPixels(encoder, pixels, batchSize, IMAGE_SIZE_PX, HALF_NORMALISATION);
  embedBatch();
  const batchCount = Math.floor(imageCount / batchSize);
  const durationMs = timedMs(() => {
    for (let batch = 0; batch < batchCount; batch += 1) embedBatch();
  });
  return {
    imagesPerSecond: (batchCount * batchSize * 1000) / durationMs,
    library: `${engineInfo().library} ${engineInfo().version}`,
  };
}

const [first = 1, second = 1] = numbers.map(Number);
console.log(JSON.stringify(what === 'load' ? load(first) : await embed(first, second)));
