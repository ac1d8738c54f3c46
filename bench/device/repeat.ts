/**
 * Takes the steps of a training and prints the digest of its whole state: two runs of this program must agree.
 *
 * Arguments: encoder, side of the views in px, images, precision, steps.
 */
import { canComputeIn } from '../../workers/engine/kernels/compute-dtype.ts';
import { stateDigestOf } from './state-digest.ts';
import { parseArguments } from './training-arguments.ts';
import { drawnViews, openTrainer } from './training.ts';

const { training, rest } = parseArguments(process.argv.slice(2));
const stepCount = Number(rest[0]);
if (!canComputeIn(training.precision)) {
  console.log(JSON.stringify({ unsupported: `This device cannot compute in ${training.precision}.` }));
  process.exit(0);
}
const trainer = openTrainer(training, stepCount);
const views = drawnViews(training);
for (let step = 0; step < stepCount; step += 1) await trainer.step(views);
console.log(JSON.stringify({ digest: stateDigestOf(trainer) }));
process.exit(0);
