/**
 * Gradient caching: a step in micro-batches equals the step of the whole batch, with batch norm per micro-batch, in the
 * memory of one.
 */
import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { childEnvironment } from '../../src/env.ts';
import { ntXent } from '../../workers/engine/losses/nt-xent.ts';
import { setGradient, takeGradient } from '../../workers/engine/models/parameter.ts';
import { ProjectionHead, randomProjectionHead } from '../../workers/engine/models/projection-head.ts';
import { encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import { randomEncoderWeights } from '../../workers/engine/encoders/resnet/weights.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { createOptimizer } from '../../workers/engine/optim/index.ts';
import { ENGINE_PROCESS_ENV } from '../../workers/engine/process-env.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank2, asRank4, liveTensorCount, readFloat, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import type { Tensor, Tensor4D } from '../../workers/engine/tensorflow.ts';
import { createTrainer, NonFiniteLossError } from '../../workers/engine/train/trainer.ts';
import type { Trainer } from '../../workers/engine/train/trainer.ts';
import { viewsFrom } from '../../workers/engine/train/step-views.ts';

const IMAGE_COUNT = 6;
const OPTIONS = {
  architecture: architectureNamed('RESNET18'),
  method: { name: 'SIMCLR', projectionDim: 16, temperature: 0.5 },
  totalSteps: 20,
  warmupSteps: 0,
  peakLearningRate: 1,
  optimizer: { name: 'LARS', momentum: 0.9, weightDecay: 1e-4 },
} as const;
const WEIGHTS = randomEncoderWeights('RESNET18', createRandom(12));
const HEAD = randomProjectionHead(512, OPTIONS.method.projectionDim, createRandom(11).fork('projection head'));

function trainer(microBatchSize?: number): Trainer {
  return createTrainer({
    ...OPTIONS,
    seedRandom: createRandom(11),
    initialWeights: WEIGHTS,
    ...(microBatchSize === undefined ? {} : { microBatchSize }),
  });
}

function views(imageCount = IMAGE_COUNT): Tensor4D {
  return tf.tidy(() => {
    const base = tf.randomUniform([imageCount, 64, 64, 3], -1, 1, 'float32', 5);
    const noisy = (seed: number): tf.Tensor => tf.add(base, tf.randomNormal(base.shape, 0, 0.1, 'float32', seed));
    return asRank4(tf.concat([noisy(1), noisy(2)], 0));
  });
}

/**
 * The reference: a copy of the encoder for each part, all kept until the gradient of the whole loss is known, and the
 * parts of that gradient summed. No caching and no second forward pass.
 */
function slowStep(batch: Tensor4D, partSize: number): { loss: number; state: Map<string, NamedTensor> } {
  tf.engine().startScope();
  try {
    const rowsOf = (whole: Tensor, start: number): Tensor =>
      tf.concat(
        [start, IMAGE_COUNT + start].map((row) => tf.slice(whole, row, partSize)),
        0,
      );
    const starts = Array.from({ length: IMAGE_COUNT / partSize }, (_, part) => part * partSize);
    const encoders = starts.map(() => encoderFromWeights('RESNET18', WEIGHTS));
    const parts = encoders.map((encoder, index) => encoder.forward(asRank4(rowsOf(batch, starts[index] ?? 0))));
    const embeddings = asRank2(
      tf.concat(
        [0, partSize].flatMap((row) => parts.map((part) => tf.slice(part, row, partSize))),
        0,
      ),
    );
    const head = new ProjectionHead(512, OPTIONS.method.projectionDim, HEAD);
    const { loss, gradient } = ntXent(head.forward(embeddings), OPTIONS.method.temperature);
    const embeddingGradient = head.backward(gradient);
    encoders.forEach((encoder, index) => encoder.backward(asRank2(rowsOf(embeddingGradient, starts[index] ?? 0))));
    encoders.forEach((encoder) => encoder.commitStatistics());
    const [first, ...others] = encoders;
    assert.ok(first !== undefined);
    const gradients = encoders.map((encoder) => encoder.parameters.map(takeGradient));
    const optimizer = createOptimizer([...first.parameters, ...head.parameters], OPTIONS.optimizer);
    first.parameters.forEach((parameter, index) =>
      setGradient(parameter, tf.addN(gradients.flatMap((list) => list[index] ?? []))),
    );
    const update = optimizer.prepare();
    update.apply({ stepIndex: 0, learningRate: OPTIONS.peakLearningRate }, readFloats(update.halfSquaredNorms));
    update.dispose();
    const state = new Map(
      [...first.weights(), ...head.weights(), ...optimizer.state()].map((tensor) => [tensor.name, tensor]),
    );
    for (const other of others) {
      for (const { name, data } of other.weights()) {
        const sum = state.get(name);
        if (name.includes('running_') && sum?.dtype === 'F32')
          data.forEach((value, index) => (sum.data[index] = (sum.data[index] ?? 0) + Number(value)));
      }
    }
    for (const [name, { dtype, data }] of state)
      if (name.includes('running_') && dtype === 'F32')
        data.forEach((value, index) => (data[index] = value / encoders.length));
    return { loss: readFloat(loss), state };
  } finally {
    tf.engine().endScope();
  }
}

function digestOf(training: Trainer): string {
  const hash = createHash('sha256');
  for (const { name, data } of training.saveState())
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex');
}

/** The norm of the difference relative to the norm of the expected tensor. */
function relativeDifference(actual: NamedTensor, wanted: NamedTensor): number {
  assert.ok(actual.dtype === 'F32' && wanted.dtype === 'F32' && actual.data.length === wanted.data.length, actual.name);
  let [difference, size] = [0, 0];
  wanted.data.forEach((value, index) => {
    difference += (value - (actual.data[index] ?? Number.NaN)) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}

const peak = z.object({ beforeBytes: z.number(), peakBytes: z.number() });
/** Peak memory of a step beyond the trainer's own, in a separate process, because the peak of a process never falls. */
async function stepBytes(imageCount: number, microBatchSize: number): Promise<number> {
  const script = path.join(import.meta.dirname, '..', 'support', 'step-memory.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [script, String(imageCount), String(microBatchSize)], {
    env: childEnvironment(ENGINE_PROCESS_ENV),
  });
  const { beforeBytes, peakBytes } = peak.parse(JSON.parse(stdout));
  return peakBytes - beforeBytes;
}

describe('gradient caching', () => {
  for (const partSize of [3, 2]) {
    test(`parts of ${partSize} of ${IMAGE_COUNT} images: loss, weights, velocities and running statistics are those of one batch`, async () => {
      const batch = views();
      const { loss, state } = slowStep(batch, partSize);
      const training = trainer(partSize);
      const tensors = liveTensorCount();
      const metrics = await training.step(batch);
      assert.equal(liveTensorCount(), tensors);
      assert.ok(Math.abs(metrics.loss - loss) < 1e-6, `${metrics.loss}, expected ${loss}`);
      const worst = { name: '', difference: 0 };
      for (const tensor of training.saveState()) {
        const wanted = state.get(tensor.name);
        if (wanted?.dtype !== 'F32') continue;
        const difference = relativeDifference(tensor, wanted);
        if (difference > worst.difference) Object.assign(worst, { name: tensor.name, difference });
      }
      // Velocities are gradients: sums in another order differ by rounding, which 20 layers of batch norm amplify.
      assert.ok(worst.difference < 1e-4, `${worst.name} differs by ${worst.difference}`);
      const counts = training.encoderWeights().filter(({ dtype }) => dtype === 'I64');
      assert.ok(
        counts.every(({ data }) => data[0] === 1n),
        'the running statistics move once a step',
      );
      training.dispose();
      batch.dispose();
    });
  }

  test('one part equals the whole batch bit for bit, and so do views made on demand', async () => {
    const batch = views();
    const [whole, inOnePart, onDemand] = [trainer(), trainer(IMAGE_COUNT), trainer()];
    const wanted = await whole.step(batch);
    assert.deepEqual(await inOnePart.step(batch), wanted);
    assert.deepEqual(await onDemand.step(viewsFrom(batch)), wanted);
    const state = digestOf(whole);
    for (const other of [inOnePart, onDemand]) assert.equal(digestOf(other), state);
    for (const training of [whole, inOnePart, onDemand]) training.dispose();
    batch.dispose();
  });

  test('a step with a value that is not finite, or with a batch that the part size does not divide, changes nothing and leaks no tensor', async () => {
    const training = trainer(2);
    const before = digestOf(training);
    const tensors = liveTensorCount();
    const bad = asRank4(tf.fill([2 * IMAGE_COUNT, 64, 64, 3], Number.NaN));
    await assert.rejects(training.step(bad), NonFiniteLossError);
    bad.dispose();
    const five = views(5);
    await assert.rejects(training.step(five), /does not divide 5 images/);
    five.dispose();
    let made = 0;
    const broken = viewsFrom(views());
    const failing = {
      imageCount: IMAGE_COUNT,
      viewCounts: [2],
      make: (start: number, count: number, group: number): Tensor4D => {
        made += 1;
        // Fails in the second pass, when the gradients of one part already exist.
        if (made === 5) throw new Error('no more views');
        return broken.make(start, count, group);
      },
    };
    const withViews = liveTensorCount();
    await assert.rejects(training.step(failing), /no more views/);
    assert.equal(liveTensorCount(), withViews);
    assert.equal(digestOf(training), before);
    assert.equal(withViews, tensors + 1);
    training.dispose();
    for (const size of [0, -1, 1.5]) assert.throws(() => trainer(size), RangeError);
  });

  test('a batch in four parts takes little more memory than one part, and far less than the whole batch in one pass', async () => {
    const [whole, parts, part] = [await stepBytes(96, 96), await stepBytes(96, 24), await stepBytes(24, 24)];
    // The memory exceeds that of one part by the summed gradients and the embeddings of the batch, which do not grow
    // with the image size.
    assert.ok(parts - part < (whole - part) / 3, `${parts} bytes in parts, ${part} for one part, ${whole} at once`);
  });
});
