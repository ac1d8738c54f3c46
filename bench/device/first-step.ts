/**
 * Takes one step of a training: prints its loss, and writes the gradient of every tensor, and views that the augmenter
 * made, to a file of safetensors. Prints `unsupported` if this device cannot compute in the precision.
 *
 * Arguments: encoder, side of the views in px, images, precision, nudge (0: none), file.
 */
import { writeFile } from 'node:fs/promises';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { createAugmenter } from '../../workers/engine/augment/augmenter.ts';
import { DEFAULT_AUGMENTATION, pairOf } from '../../workers/engine/augment/config.ts';
import { canComputeIn } from '../../workers/engine/kernels/compute-dtype.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import { parseArguments } from './training-arguments.ts';
import { drawnViews, openTrainer } from './training.ts';

const VELOCITY = 'optimizer.velocity.';
const { training, rest } = parseArguments(process.argv.slice(2));
const [nudge = '0', file = ''] = rest;
if (!canComputeIn(training.precision)) {
  console.log(JSON.stringify({ unsupported: `This device cannot compute in ${training.precision}.` }));
  process.exit(0);
}

const trainer = openTrainer(training, 1);
const views = drawnViews(training, Number(nudge));
const { loss } = await trainer.step(views);
const gradients = trainer.saveState().filter(({ name }) => name.startsWith(VELOCITY));

const { viewSidePx, imageCount } = training;
const random = createRandom(3);
const pixels = Uint8Array.from({ length: imageCount * viewSidePx ** 2 * 3 }, () => random.between(0, 256));
const images = asRank4(tf.tensor(pixels, [imageCount, viewSidePx, viewSidePx, 3], 'int32'));
const made = createAugmenter(pairOf({ sizePx: viewSidePx, augmentation: DEFAULT_AUGMENTATION })).views(images, random);

await writeFile(
  file,
  writeSafetensors([...gradients, { name: 'views', dtype: 'F32', shape: made.shape, data: readFloats(made) }]),
);
console.log(JSON.stringify({ loss }));
process.exit(0);
