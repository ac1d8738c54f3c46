/**
 * The measured half of `npm run bench:profile`, in a process that was started as a worker's child is: image side in px, batch size, precision. Prints JSON.
 *
 * Of each op of the step the fastest of twenty steps counts, so that other work on the machine does not show. TensorFlow's CPU ops block, so that
 * their time is the call's; on a GPU it is only the time to launch them.
 */
import { createEncoder } from '../workers/engine/models/resnet.ts';
import { createRandom } from '../workers/engine/rng.ts';
import { asRank4, engineInfo, observeOps, tf } from '../workers/engine/tensorflow.ts';

const STEPS = 20;
const WARMUP_STEPS = 3;
const [imageSidePx = 64, batchSize = 32] = process.argv.slice(2, 4).map(Number);
const computeDtype = process.argv[4] === 'bfloat16' ? 'bfloat16' : 'float32';

const encoder = createEncoder('RESNET18', createRandom(1), computeDtype);
const images = asRank4(tf.randomNormal([batchSize, imageSidePx, imageSidePx, 3], 0, 1, 'float32', 1));
/** By place in the step. */
const fastest: { name: string; durationMs: number }[] = [];
let stepMs = Number.POSITIVE_INFINITY;
for (let step = 0; step < WARMUP_STEPS + STEPS; step += 1) {
  let place = 0;
  if (step >= WARMUP_STEPS) {
    observeOps((name, durationMs) => {
      fastest[place] = { name, durationMs: Math.min(durationMs, fastest[place]?.durationMs ?? Number.POSITIVE_INFINITY) };
      place += 1;
    });
  }
  const startedAt = performance.now();
  const embeddings = encoder.forward(images);
  encoder.backward(embeddings);
  encoder.commitStatistics();
  embeddings.dispose();
  if (step >= WARMUP_STEPS) stepMs = Math.min(stepMs, performance.now() - startedAt);
}
observeOps(undefined);

const byName = Map.groupBy(fastest, ({ name }) => name);
const ops = [...byName].map(([name, calls]) => ({ name, count: calls.length, durationMs: round(calls.reduce((sum, { durationMs }) => sum + durationMs, 0)) }));
ops.sort((left, right) => right.durationMs - left.durationMs);
const opsMs = round(ops.reduce((sum, { durationMs }) => sum + durationMs, 0));
console.log(JSON.stringify({ engine: engineInfo(), imageSidePx, batchSize, computeDtype, stepMs: round(stepMs), opsMs, ops }, null, 2));

function round(milliseconds: number): number {
  return Math.round(milliseconds * 100) / 100;
}
