/**
 * Makes the engine take the path of a GPU on a machine without one: TensorFlow's ordinary ops in place of our own and
 * of oneDNN's. Load it before the program: `node --import ./bench/device/gpu-path.ts program.ts`.
 *
 * TensorFlow still computes on the CPU, so that the numbers of the path can be checked, but not its speed.
 */
import { tf } from '../../workers/engine/tensorflow.ts';

Object.defineProperty(tf.backend(), 'isUsingGpuDevice', { value: true });
