/**
 * The one import of TensorFlow. Everything else in the engine runs TensorFlow's ops by name through `runOp`.
 *
 * Ops run eagerly and block the caller. A tensor lives until it is disposed; `scoped` disposes the tensors that a piece
 * of work left behind.
 */
import './node-util-compat.ts';
import * as tf from '@tensorflow/tfjs-node-gpu';
import { nodeBackend } from '@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js';
import type { Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D, TensorInfo } from '@tensorflow/tfjs-node-gpu';

export { tf };
export type { Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D };

const backend = nodeBackend();
const { binding } = backend;

/** TensorFlow's own numbers for its data types (`DataType` of types.proto). */
export const TF_DTYPE = {
  float32: 1,
  float64: 2,
  int32: 3,
  uint8: 4,
  string: 7,
  int64: 9,
  bool: 10,
  bfloat16: 14,
  float16: 19,
} as const;
export type TensorflowDtype = keyof typeof TF_DTYPE;

/** One attribute of an op: its name, TensorFlow's number for the attribute's kind, and the value. */
export interface OpAttr {
  readonly name: string;
  readonly type: number;
  readonly value: string | number | boolean | number[];
}

export const typeAttr = (name: string, dtype: TensorflowDtype): OpAttr => ({
  name,
  type: binding.TF_ATTR_TYPE,
  value: TF_DTYPE[dtype],
});
export const boolAttr = (name: string, value: boolean): OpAttr => ({ name, type: binding.TF_ATTR_BOOL, value });
export const intAttr = (name: string, value: number): OpAttr => ({ name, type: binding.TF_ATTR_INT, value });
export const intsAttr = (name: string, value: readonly number[]): OpAttr => ({
  name,
  type: binding.TF_ATTR_INT,
  value: [...value],
});
export const floatAttr = (name: string, value: number): OpAttr => ({ name, type: binding.TF_ATTR_FLOAT, value });
export const shapeAttr = (name: string, value: readonly number[]): OpAttr => ({
  name,
  type: binding.TF_ATTR_SHAPE,
  value: [...value],
});
export const stringAttr = (name: string, value: string): OpAttr => ({ name, type: binding.TF_ATTR_STRING, value });

/** The attribute that most ops need: `T` = float32. */
export const T_FLOAT: OpAttr = typeAttr('T', 'float32');

/** The backend's record of a tensor: TensorFlow's dtype and id of the tensor. */
interface TensorEntry {
  dtype: number;
}

/** The parts of tfjs's backend that map a tensor to its TensorFlow id. */
interface TensorRegister {
  readonly tensorMap: { get(dataId: object): TensorEntry };
  getInputTensorIds(tensors: readonly TensorInfo[]): number[];
  createOutputTensor(output: { id: number; shape: number[]; dtype: number }): Tensor;
}

function isTensorRegister(value: object): value is TensorRegister {
  return 'tensorMap' in value && 'getInputTensorIds' in value && 'createOutputTensor' in value;
}

function requireTensorRegister(value: object): TensorRegister {
  if (!isTensorRegister(value))
    throw new Error('This version of tfjs-node does not map its tensors to TensorFlow as expected.');
  return value;
}

const register = requireTensorRegister(backend);

/** A floating-point dtype on the device. bfloat16 has eight significant bits and the whole range of float32. */
export type FloatDtype = 'float32' | 'bfloat16';

/** A dtype of weights on the device. float16 is only stored: nothing is computed in it. */
export type WeightDtype = FloatDtype | 'float16';

/** The dtypes that tfjs does not know; it is told float32 instead. */
const HALF_DTYPES = ['bfloat16', 'float16'] as const;

/**
 * The dtype of a tensor on the device. tfjs does not know those of 16 bits and reports such a tensor as float32: only
 * ops run by `runOp` may use one, and it must be cast by `castTo` float32 before it is read.
 */
export function floatDtypeOf(tensor: TensorInfo): WeightDtype {
  const { dtype } = register.tensorMap.get(tensor.dataId);
  return HALF_DTYPES.find((half) => TF_DTYPE[half] === dtype) ?? 'float32';
}

/** The attribute `T` for an op on this floating-point tensor. */
export function typeOf(tensor: TensorInfo): OpAttr {
  return typeAttr('T', floatDtypeOf(tensor));
}

/** A copy of a floating-point tensor in the given dtype, even if it has that dtype already. */
export function castTo(tensor: Tensor, dtype: WeightDtype): Tensor {
  return floatDtypeOf(tensor) === dtype
    ? tensor.clone()
    : runOp(
        'Cast',
        [typeAttr('SrcT', floatDtypeOf(tensor)), typeAttr('DstT', dtype), boolAttr('Truncate', false)],
        [tensor],
      );
}

/**
 * Runs one TensorFlow op with a single output (`runOp('Relu', [T_FLOAT], [x])`).
 *
 * @throws Error with TensorFlow's own message when the op refuses its inputs.
 */
export function runOp(name: string, attrs: readonly OpAttr[], inputs: readonly TensorInfo[]): Tensor {
  const [output] = runOps(name, attrs, inputs, 1);
  if (output === undefined) throw new Error(`${name} gave no output.`);
  return output;
}

/** Receives the name of every op that `runOp` and `runOps` have run, and its duration. */
export type OpObserver = (name: string, durationMs: number) => void;
let observer: OpObserver | undefined;

/** Reports every op from now on, for a profile; undefined ends the reports. */
export function observeOps(next: OpObserver | undefined): void {
  observer = next;
}

/** Runs one TensorFlow op with `outputCount` outputs. The caller disposes all of them. */
export function runOps(
  name: string,
  attrs: readonly OpAttr[],
  inputs: readonly TensorInfo[],
  outputCount: number,
): Tensor[] {
  const startedAt = observer === undefined ? 0 : performance.now();
  const outputs = binding.executeOp(name, [...attrs], register.getInputTensorIds(inputs), outputCount);
  observer?.(name, performance.now() - startedAt);
  return outputs.map((output) => {
    if (!HALF_DTYPES.some((half) => TF_DTYPE[half] === output.dtype)) return register.createOutputTensor(output);
    const tensor = register.createOutputTensor({ ...output, dtype: TF_DTYPE.float32 });
    register.tensorMap.get(tensor.dataId).dtype = output.dtype;
    return tensor;
  });
}

/**
 * A new tensor on the device with these float32 numbers, which the caller may change afterwards.
 *
 * @throws RangeError if the shape has another number of elements.
 */
export function uploadFloats(values: Float32Array, shape: readonly number[]): Tensor {
  return uploaded(values, shape, () => tf.tensor(values, [...shape], 'float32'));
}

/** `uploadFloats` for numbers of 16 bits: the tensor has their dtype. */
export function uploadHalves(bits: Uint16Array, shape: readonly number[], dtype: 'float16' | 'bfloat16'): Tensor {
  return uploaded(bits, shape, () => {
    const bytes = new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
    const byteShape = [...shape, bits.BYTES_PER_ELEMENT];
    const id = binding.createTensor(byteShape, TF_DTYPE.uint8, bytes);
    const raw = register.createOutputTensor({ id, shape: byteShape, dtype: TF_DTYPE.uint8 });
    const tensor = runOp('Bitcast', [typeAttr('T', 'uint8'), typeAttr('type', dtype)], [raw]);
    raw.dispose();
    return tensor;
  });
}

/**
 * On a CPU TensorFlow may use the caller's array in place, and keep it for as long as the tensor lives: tensors of many
 * weights would then occupy the memory of JavaScript, which is freed late, beside TensorFlow's own copies of those
 * arrays that are not aligned as it needs them.
 */
function uploaded(values: Float32Array | Uint16Array, shape: readonly number[], make: () => Tensor): Tensor {
  const elementCount = shape.reduce((product, side) => product * side, 1);
  if (values.length !== elementCount)
    throw new RangeError(`A tensor of shape [${shape.join(', ')}] cannot have ${values.length} numbers.`);
  const made = make();
  if (backend.isUsingGpuDevice) return made;
  const copy = runOp('DeepCopy', [typeOf(made)], [made]);
  made.dispose();
  return copy;
}

/** Like `runOps`, for ops of which only the first output is needed: the others are disposed at once. */
export function runOpFirst(
  name: string,
  attrs: readonly OpAttr[],
  inputs: readonly TensorInfo[],
  outputCount: number,
): Tensor {
  const [first, ...others] = runOps(name, attrs, inputs, outputCount);
  if (first === undefined) throw new Error(`${name} gave no output.`);
  tf.dispose(others);
  return first;
}

const isRank1 = (tensor: Tensor): tensor is Tensor1D => tensor.rank === 1;
const isRank2 = (tensor: Tensor): tensor is Tensor2D => tensor.rank === 2;
const isRank3 = (tensor: Tensor): tensor is Tensor3D => tensor.rank === 3;
const isRank4 = (tensor: Tensor): tensor is Tensor4D => tensor.rank === 4;

function wrongRank(tensor: Tensor, rank: number): RangeError {
  return new RangeError(`Expected a tensor of rank ${rank}, got shape [${tensor.shape.join(', ')}].`);
}

/** The same tensor, typed as a vector. This and the functions below throw RangeError if the tensor has another rank. */
export function asRank1(tensor: Tensor): Tensor1D {
  if (!isRank1(tensor)) throw wrongRank(tensor, 1);
  return tensor;
}

export function asRank2(tensor: Tensor): Tensor2D {
  if (!isRank2(tensor)) throw wrongRank(tensor, 2);
  return tensor;
}

export function asRank3(tensor: Tensor): Tensor3D {
  if (!isRank3(tensor)) throw wrongRank(tensor, 3);
  return tensor;
}

export function asRank4(tensor: Tensor): Tensor4D {
  if (!isRank4(tensor)) throw wrongRank(tensor, 4);
  return tensor;
}

/** Copies a float32 tensor out of TensorFlow. */
export function readFloats(tensor: Tensor): Float32Array {
  const values = tensor.dataSync();
  if (!(values instanceof Float32Array)) throw new TypeError(`Expected float32, got ${tensor.dtype}.`);
  return values;
}

/** The value of a float32 tensor with one element. */
export function readFloat(tensor: Tensor): number {
  const [value] = readFloats(tensor);
  if (value === undefined) throw new RangeError('Expected one number, got an empty tensor.');
  return value;
}

/** Runs `work`, which must be synchronous, and disposes every tensor that it made except those that it returns. */
export function scoped<Result extends tf.TensorContainer>(work: () => Result): Result {
  return tf.tidy(work);
}

/** The number of live tensors, so that tests and the trainer can show that none leak. */
export function liveTensorCount(): number {
  return tf.memory().numTensors;
}

export interface EngineInfo {
  readonly library: string;
  readonly version: string;
  readonly device: 'CPU' | 'GPU';
}

/** Which TensorFlow runs under the engine, and on what. */
export function engineInfo(): EngineInfo {
  return { library: 'TensorFlow', version: binding.TF_Version, device: backend.isUsingGpuDevice ? 'GPU' : 'CPU' };
}
