/** One measurement of our training step, for bench/training.ts: prints one JSON line. Arguments: image side in px, batch size, steps, float32 or bfloat16. */
import { Variable } from '../workers/engine/kernels/variable.ts';
import { takeGradient } from '../workers/engine/models/parameter.ts';
import { createEncoder } from '../workers/engine/models/resnet.ts';
import { createRandom } from '../workers/engine/rng.ts';
import { asRank2, asRank4, engineInfo, scoped, tf } from '../workers/engine/tensorflow.ts';

const WARMUP_STEPS = 3;
const [imageSidePx = 64, batchSize = 32, stepCount = 10] = process.argv.slice(2, 5).map(Number);
const computeDtype = process.argv[5] === 'bfloat16' ? 'bfloat16' : 'float32';

const encoder = createEncoder('RESNET18', createRandom(1), computeDtype);
const images = asRank4(tf.randomNormal([batchSize, imageSidePx, imageSidePx, 3], 0, 1, 'float32', 1));
const slots = encoder.parameters.map((parameter) => ({
  parameter,
  weight: new Variable(parameter.value),
  velocity: new Variable(tf.zeros(parameter.value.shape)),
}));
const rate = tf.scalar(0.01);
const momentum = tf.scalar(0.9);

/** Forward, the gradient of the embeddings' mean square, backward, and SGD with momentum: what the peer does. */
function step(): void {
  const embeddings = encoder.forward(images);
  const gradient = asRank2(scoped(() => tf.mul(embeddings, 2 / embeddings.size)));
  encoder.backward(gradient);
  encoder.commitStatistics();
  for (const { parameter, weight, velocity } of slots) {
    const parameterGradient = takeGradient(parameter);
    parameter.value.dispose();
    weight.applyMomentum(velocity, rate, parameterGradient, momentum);
    parameter.value = weight.read();
    parameterGradient.dispose();
  }
  tf.dispose([embeddings, gradient]);
}

const durationsMs: number[] = [];
for (let index = 0; index < WARMUP_STEPS + stepCount; index += 1) {
  const startedAt = performance.now();
  step();
  if (index >= WARMUP_STEPS) durationsMs.push(performance.now() - startedAt);
}
const peakRssMb = process.resourceUsage().maxRSS / 1024;
console.log(JSON.stringify({ durationsMs, peakRssMb, library: `${engineInfo().library} ${engineInfo().version}`, device: engineInfo().device }));
