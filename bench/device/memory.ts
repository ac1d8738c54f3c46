/**
 * A step that runs out of memory between two that do not: prints what TensorFlow said, how the worker would report it,
 * and whether the training continued as if the step had not been tried.
 *
 * Arguments: encoder, side of the views in px, images, precision, and how memory runs out. FULL_DEVICE fills the device
 * with other tensors before the step. ONE_TENSOR asks for more bytes than a processor can address, which takes none of
 * the memory of a machine that others use too.
 */
import { z } from 'zod';
import { failureOf } from '../../workers/failure.ts';
import { runOp, T_FLOAT, tf, typeAttr, type Tensor } from '../../workers/engine/tensorflow.ts';
import { viewsFrom } from '../../workers/engine/train/step-views.ts';
import { stateDigestOf } from './state-digest.ts';
import { parseArguments } from './training-arguments.ts';
import { drawnViews, openTrainer } from './training.ts';

const STEPS = 2;
/** 256 MiB. */
const BALLAST = [64, 1024, 1024];
const BALLAST_COUNT_MAX = 4_096;
/** 2^48 bytes, while a process has 2^47 addresses. */
const TOO_LARGE = [2 ** 15, 2 ** 15, 2 ** 16];

const { training, rest } = parseArguments(process.argv.slice(2));
const how = z.enum(['FULL_DEVICE', 'ONE_TENSOR']).parse(rest[0]);
const views = drawnViews(training);

const undisturbed = openTrainer(training, STEPS);
for (let step = 0; step < STEPS; step += 1) await undisturbed.step(views);
const wanted = stateDigestOf(undisturbed);
undisturbed.dispose();

const trainer = openTrainer(training, STEPS);
await trainer.step(views);
const error = how === 'FULL_DEVICE' ? await stepOnFullDevice() : await stepWithTooLargeTensor();
await trainer.step(views);
console.log(
  JSON.stringify({
    message: error instanceof Error ? error.message.slice(0, 400) : String(error),
    failureClass: failureOf(error).class,
    continued: stateDigestOf(trainer) === wanted,
  }),
);
process.exit(0);

function filled(shape: readonly number[]): Tensor {
  const [dims, zero] = [tf.tensor1d([...shape], 'int32'), tf.scalar(0)];
  try {
    return runOp('Fill', [T_FLOAT, typeAttr('index_type', 'int32')], [dims, zero]);
  } finally {
    tf.dispose([dims, zero]);
  }
}

async function stepOnFullDevice(): Promise<unknown> {
  const ballast: Tensor[] = [];
  try {
    while (ballast.length < BALLAST_COUNT_MAX) ballast.push(filled(BALLAST));
  } catch {
    // The device is full, up to less than one more of these tensors.
  }
  return faultOf(() => trainer.step(views)).finally(() => tf.dispose(ballast));
}

function stepWithTooLargeTensor(): Promise<unknown> {
  return faultOf(() =>
    trainer.step({
      ...viewsFrom(views),
      make: () => {
        filled(TOO_LARGE).dispose();
        throw new Error('A tensor of 2^48 bytes was allocated.');
      },
    }),
  );
}

/** What the work throws. @throws Error if it throws nothing. */
async function faultOf(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error('The step succeeded, although the device was full.');
}
