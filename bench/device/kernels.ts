/**
 * Which ops of a training step have no kernel for a GPU in the linked library, so that TensorFlow computes them on the
 * host and copies their tensors. The registry of kernels answers this without a GPU, and the step takes a GPU's ops
 * without one.
 *
 * Prints { opCount, onHost }, each op with its types. Arguments: encoder, side of the views in px, images, precision.
 */
import { realpathSync } from 'node:fs';
import path from 'node:path';
import koffi from 'koffi';
import { z } from 'zod';
import { bindingPath } from '../../src/platform/engine/installed.ts';
// Before everything that loads the engine.
import { usedOps, type UsedOp } from './record-ops.ts';
import './gpu-path.ts';
import { createAugmenter } from '../../workers/engine/augment/augmenter.ts';
import { DEFAULT_AUGMENTATION, pairOf } from '../../workers/engine/augment/config.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, tf } from '../../workers/engine/tensorflow.ts';
import { parseKernels, type RegisteredKernel } from './kernel-list.ts';
import { parseArguments } from './training-arguments.ts';
import { openTrainer } from './training.ts';

const { training } = parseArguments(process.argv.slice(2));
const { viewSidePx, imageCount } = training;
const random = createRandom(3);
const pixels = Uint8Array.from({ length: imageCount * viewSidePx ** 2 * 3 }, () => random.between(0, 256));
const images = asRank4(tf.tensor(pixels, [imageCount, viewSidePx, viewSidePx, 3], 'int32'));
const views = createAugmenter(pairOf({ sizePx: viewSidePx, augmentation: DEFAULT_AUGMENTATION })).views(images, random);
await openTrainer(training, 1).step(views);

const kernelsOf = openKernelRegistry();
const used = new Map(usedOps().map((op) => [textOf(op), op]));
const onHost = [...used].filter(([, op]) => !kernelsOf(op.name).some((kernel) => runsOnGpu(kernel, op)));
console.log(JSON.stringify({ opCount: used.size, onHost: onHost.map(([text]) => text).sort() }));
process.exit(0);

function textOf({ name, types }: UsedOp): string {
  return `${name}(${[...types].map(([attr, type]) => `${attr}=${typeName(type)}`).join(', ')})`;
}

function typeName(type: number): string {
  return (
    { 1: 'float32', 3: 'int32', 4: 'uint8', 9: 'int64', 10: 'bool', 14: 'bfloat16', 20: 'resource' }[type] ?? `${type}`
  );
}

/** Kernels of the device type DEFAULT serve every device. */
function runsOnGpu({ device, label, allowedTypes }: RegisteredKernel, op: UsedOp): boolean {
  return (
    (device === 'GPU' || device === 'DEFAULT') &&
    label === op.label &&
    [...allowedTypes].every(([attr, allowed]) => {
      const type = op.types.get(attr);
      return type === undefined || allowed.includes(type);
    })
  );
}

function openKernelRegistry(): (opName: string) => readonly RegisteredKernel[] {
  const folder = path.join(path.dirname(path.dirname(realpathSync(bindingPath()))), 'lib');
  const library = koffi.load(path.join(folder, 'libtensorflow_cc.so.2'));
  const buffer = koffi.struct('TF_Buffer', { data: 'void *', length: 'size_t', deallocator: 'void *' });
  const newStatus = library.func('void *TF_NewStatus()');
  const kernelsForOp = library.func('TF_GetRegisteredKernelsForOp', koffi.pointer(buffer), ['str', 'void *']);
  return (opName) => {
    const found: unknown = koffi.decode(kernelsForOp(opName, newStatus()), buffer);
    const { data, length } = z.object({ data: z.unknown(), length: z.coerce.number() }).parse(found);
    const bytes: unknown = koffi.decode(data, koffi.array('uint8_t', length, 'Typed'));
    if (!(bytes instanceof Uint8Array)) throw new Error(`The registry of kernels did not answer for ${opName}.`);
    return parseKernels(bytes);
  };
}
