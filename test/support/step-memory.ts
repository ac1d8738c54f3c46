/** Prints the memory of a process before and at the peak of two SimCLR steps. Arguments: images, images at once. */
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, tf } from '../../workers/engine/tensorflow.ts';
import { createTrainer } from '../../workers/engine/train/trainer.ts';

const [imageCount = 0, microBatchSize = 0] = process.argv.slice(2).map(Number);
const trainer = createTrainer({
  architecture: architectureNamed('RESNET18'),
  method: { name: 'SIMCLR', projectionDim: 128, temperature: 0.5 },
  totalSteps: 2,
  warmupSteps: 0,
  peakLearningRate: 0.1,
  optimizer: { name: 'LARS', momentum: 0.9, weightDecay: 0 },
  seedRandom: createRandom(1),
  microBatchSize,
});
const beforeBytes = process.memoryUsage.rss();
for (let step = 0; step < 2; step += 1) {
  await trainer.step({
    imageCount,
    viewCounts: [2],
    make: (start, count) => asRank4(tf.randomNormal([2 * count, 64, 64, 3], 0, 1, 'float32', start + 1)),
  });
}
console.log(JSON.stringify({ beforeBytes, peakBytes: process.resourceUsage().maxRSS * 1024 }));
