/**
 * Measures the speed of the device that this process sees: a matmul and a convolution, one second each.
 *
 * node workers/measure-device.ts
 *
 * Prints { matmulGflops, convolutionGflops, bfloat16 }: 10^9 multiplications and additions per second in float32,
 * counted by the definition of the operation, of which a Winograd convolution performs fewer; and whether the device
 * can train in bfloat16.
 */
import { canComputeIn } from './engine/kernels/compute-dtype.ts';
import { convolve } from './engine/kernels/convolution.ts';
import { asRank4, tf, type Tensor } from './engine/tensorflow.ts';

const MEASURE_MS = 1_000;

/** @param work one operation; its result is read, so that it has completed when `work` returns. */
async function gflops(flopsOfOne: number, work: () => Tensor): Promise<number> {
  const once = async (): Promise<void> => {
    const result = work();
    await result.data();
    result.dispose();
  };
  // The first call includes the allocation of memory and kernels.
  await once();
  const startedMs = performance.now();
  let count = 0;
  do {
    await once();
    count += 1;
  } while (performance.now() - startedMs < MEASURE_MS);
  return (flopsOfOne * count) / (performance.now() - startedMs) / 1e6;
}

const SIDE = 1024;
const matrix = tf.randomNormal([SIDE, SIDE], 0, 1, 'float32', 1);
const matmulGflops = await gflops(2 * SIDE ** 3, () => tf.matMul(matrix, matrix));

/** The shape of most convolutions of a ResNet: 3 x 3, with as many output as input channels. */
const CONVOLUTION = { batch: 8, side: 56, channels: 64 };
const images = asRank4(
  tf.randomNormal([CONVOLUTION.batch, CONVOLUTION.side, CONVOLUTION.side, CONVOLUTION.channels], 0, 1, 'float32', 2),
);
const filter = tf.randomNormal([3, 3, CONVOLUTION.channels, CONVOLUTION.channels], 0, 1, 'float32', 3);
const convolutionGflops = await gflops(
  2 * CONVOLUTION.batch * CONVOLUTION.side ** 2 * 9 * CONVOLUTION.channels ** 2,
  () => convolve(images, filter, { size: 3, stride: 1, padding: 1 }),
);

process.stdout.write(`${JSON.stringify({ matmulGflops, convolutionGflops, bfloat16: canComputeIn('bfloat16') })}\n`);
