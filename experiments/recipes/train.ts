/** A cell's training by our engine: the product's views, network, loss and optimizer on pixels in memory. */
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { createAugmenter } from '../../workers/engine/augment/augmenter.ts';
import { pairOf } from '../../workers/engine/augment/config.ts';
import { embedPixels, HALF_NORMALISATION, normaliseImages } from '../../workers/engine/embed.ts';
import { createEncoder, encoderFromWeights, type Encoder } from '../../workers/engine/encoders/resnet/network.ts';
import { createRandom, type Random } from '../../workers/engine/rng.ts';
import { asRank4, tf, type Tensor4D } from '../../workers/engine/tensorflow.ts';
import { createTrainer } from '../../workers/engine/train/trainer.ts';
import sharp from 'sharp';
import { optimizerConfigOf } from './optimizer.ts';
import { stepsOf, type Recipe } from './recipe.ts';

export interface Training {
  readonly recipe: Recipe;
  readonly seed: number;
  /** uint8 `[imageCount, sizePx, sizePx, 3]`. */
  readonly pixels: Uint8Array;
  readonly imageCount: number;
  readonly sizePx: number;
  /** Number of images, from the first, that are used for training. */
  readonly trainCount: number;
}

export interface Embedded {
  /** `[imageCount, D]`. */
  readonly embeddings: Float32Array;
  readonly lastLoss: number | null;
  readonly imagesPerSecond: number | null;
}

const EMBEDDING_BATCH = 200;
/**
 * Number of batches for recalibrating running statistics, after which 99 % of the running mean comes from these
 * batches.
 */
const RECALIBRATION_BATCHES = 44;

export async function trainAndEmbed(training: Training): Promise<Embedded> {
  const { recipe, seed, trainCount } = training;
  const random = createRandom(seed);
  const steps = stepsOf(recipe);
  if (steps === 0) {
    const encoder = createEncoder('RESNET18', random.fork('weights').fork('encoder'));
    return { embeddings: await embedAll(encoder, training), lastLoss: null, imagesPerSecond: null };
  }
  const trainer = createTrainer({
    architecture: architectureNamed('RESNET18'),
    method: { name: 'SIMCLR', projectionDim: recipe.projectionDim, temperature: recipe.temperature },
    totalSteps: steps,
    warmupSteps: Math.round(recipe.warmupShare * steps),
    peakLearningRate: recipe.learningRate,
    optimizer: optimizerConfigOf(recipe),
    seedRandom: random.fork('weights'),
    computeDtype: recipe.precision === 'BFLOAT16' ? 'bfloat16' : 'float32',
  });
  const augmentation = {
    cropScaleMin: recipe.cropScaleMin,
    cropScaleMax: recipe.cropScaleMax,
    flip: true,
    quarterTurns: true,
    colourJitterStrength: recipe.jitterStrength,
    colourJitterProbability: 0.8,
    greyProbability: recipe.greyProbability,
    blurProbability: recipe.blurProbability,
    stainJitterStrength: 0,
    stainJitterProbability: 1,
  };
  const augmenter = createAugmenter(pairOf({ sizePx: recipe.viewSizePx, augmentation }));
  const rows = endlessRows(trainCount, random.fork('order'));
  let lastLoss = Number.NaN;
  const startedMs = performance.now();
  for (let step = 0; step < steps; step += 1) {
    const images = await batchOf(
      training,
      Array.from({ length: recipe.batchSize }, () => rows.next().value ?? 0),
    );
    const views = augmenter.views(images, random.fork(`views of step ${step}`));
    images.dispose();
    ({ loss: lastLoss } = await trainer.step(views));
    views.dispose();
    if (step % 20 === 0) process.stderr.write(`step ${step} of ${steps}, loss ${lastLoss.toFixed(3)}\n`);
  }
  const imagesPerSecond = (steps * recipe.batchSize * 1000) / (performance.now() - startedMs);
  const encoder = encoderFromWeights('RESNET18', trainer.encoderWeights());
  trainer.dispose();
  if (recipe.batchNorm === 'RECALIBRATED') await recalibrate(encoder, training, random.fork('recalibration'));
  return { embeddings: await embedAll(encoder, training), lastLoss, imagesPerSecond };
}

/** Every image is used once before any is repeated. */
function* endlessRows(count: number, random: Random): Generator<number, never> {
  const all = Array.from({ length: count }, (_, row) => row);
  while (true) yield* random.shuffled(all);
}

async function batchOf({ pixels, sizePx, recipe }: Training, rows: readonly number[]): Promise<Tensor4D> {
  const imageBytes = sizePx * sizePx * 3;
  const side = recipe.sourceSizePx;
  const batch = new Uint8Array(rows.length * side * side * 3);
  const squares = rows.map((row) => pixels.subarray(row * imageBytes, (row + 1) * imageBytes));
  const sized = side === sizePx ? squares : await Promise.all(squares.map((square) => resized(square, sizePx, side)));
  sized.forEach((square, index) => batch.set(square, index * side * side * 3));
  return tf.tensor4d(batch, [rows.length, side, side, 3], 'int32');
}

/** Resizes as the product does for an input contract: bilinear, antialiased. */
function resized(square: Uint8Array, fromPx: number, toPx: number): Promise<Uint8Array> {
  return sharp(square, { raw: { width: fromPx, height: fromPx, channels: 3 } })
    .resize(toPx, toPx, { kernel: 'linear', fit: 'fill' })
    .raw()
    .toBuffer();
}

async function embedAll(encoder: Encoder, { pixels, imageCount, sizePx, recipe }: Training): Promise<Float32Array> {
  const side = recipe.evaluationSizePx;
  const embeddings = new Float32Array(imageCount * encoder.embeddingDim);
  for (let first = 0; first < imageCount; first += EMBEDDING_BATCH) {
    const count = Math.min(EMBEDDING_BATCH, imageCount - first);
    const batch = await evaluationPixels(
      pixels,
      sizePx,
      side,
      Array.from({ length: count }, (_, i) => first + i),
    );
    embeddings.set(embedPixels(encoder, batch, count, side, HALF_NORMALISATION), first * encoder.embeddingDim);
  }
  return embeddings;
}

async function evaluationPixels(
  pixels: Uint8Array,
  sizePx: number,
  side: number,
  rows: readonly number[],
): Promise<Uint8Array> {
  const imageBytes = sizePx * sizePx * 3;
  const squares = rows.map((row) => pixels.subarray(row * imageBytes, (row + 1) * imageBytes));
  const sized = side === sizePx ? squares : await Promise.all(squares.map((square) => resized(square, sizePx, side)));
  const batch = new Uint8Array(rows.length * side * side * 3);
  sized.forEach((square, index) => batch.set(square, index * side * side * 3));
  return batch;
}

async function recalibrate(encoder: Encoder, training: Training, random: Random): Promise<void> {
  const { pixels, sizePx, trainCount, recipe } = training;
  const side = recipe.evaluationSizePx;
  const rows = endlessRows(trainCount, random);
  for (let batch = 0; batch < RECALIBRATION_BATCHES; batch += 1) {
    const drawn = Array.from({ length: EMBEDDING_BATCH }, () => rows.next().value ?? 0);
    const images = tf.tensor4d(
      await evaluationPixels(pixels, sizePx, side, drawn),
      [drawn.length, side, side, 3],
      'int32',
    );
    const scaled = asRank4(tf.div(tf.cast(images, 'float32'), 255));
    const normalised = normaliseImages(scaled, HALF_NORMALISATION);
    encoder.forward(normalised).dispose();
    encoder.commitStatistics();
    encoder.discard();
    tf.dispose([images, scaled, normalised]);
  }
}
