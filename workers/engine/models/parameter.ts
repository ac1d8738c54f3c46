/** A trained tensor on the device, and its conversion from and to torchvision's layout. */
import { castTo, readFloats, runOp, T_FLOAT, tf, typeAttr, uploadFloats, uploadHalves } from '../tensorflow.ts';
import type { Tensor } from '../tensorflow.ts';
import type { NamedTensor } from '../named-tensor.ts';

/**
 * How an optimiser treats the parameter: weights are decayed and adapted; biases and norms are not (Chen et al. 2020),
 * nor are a transformer's tokens, positions and layer scales, which have this role too.
 */
export type ParameterRole = 'WEIGHT' | 'BIAS_OR_NORM';

/** FILTER is HWIO on the device and OIHW outside; all else is the same on both sides. */
export type ParameterLayout = 'FILTER' | 'AS_IS';

export interface Parameter {
  readonly name: string;
  readonly role: ParameterRole;
  readonly layout: ParameterLayout;
  /** Factor of the optimiser's learning rate. */
  readonly rateFactor: number;
  value: Tensor;
  /** Set by a backward pass; taken and disposed by the optimiser. */
  gradient: Tensor | undefined;
}

export function createParameter(
  tensor: NamedTensor,
  role: ParameterRole,
  layout: ParameterLayout,
  rateFactor = 1,
): Parameter {
  return { name: tensor.name, role, layout, rateFactor, value: toDevice(tensor, layout), gradient: undefined };
}

/**
 * A parameter of `linear` that is not trained: in half precision if its file is, which takes half the memory and gives
 * the same products.
 */
export function createFixedWeight(tensor: NamedTensor): Parameter {
  const { name } = tensor;
  const half = tensor.dtype === 'F32' ? tensor.half : undefined;
  const value = half === undefined ? toDevice(tensor, 'AS_IS') : uploadHalves(half.bits, tensor.shape, half.dtype);
  return { name, role: 'WEIGHT', layout: 'AS_IS', rateFactor: 1, value, gradient: undefined };
}

/**
 * Puts float32 numbers on the device, turning OIHW into HWIO when it is a filter. Throws TypeError for another dtype.
 */
export function toDevice(tensor: NamedTensor, layout: ParameterLayout): Tensor {
  if (tensor.dtype !== 'F32') throw new TypeError(`${tensor.name} must be F32, not ${tensor.dtype}.`);
  const outside = uploadFloats(tensor.data, tensor.shape);
  if (layout === 'AS_IS') return outside;
  const inside = transpose(outside, [2, 3, 1, 0]);
  outside.dispose();
  return inside;
}

/** Copies a device tensor out as float32, in torchvision's layout. */
export function fromDevice(name: string, value: Tensor, layout: ParameterLayout): NamedTensor {
  const outside = layout === 'AS_IS' ? castTo(value, 'float32') : transpose(value, [3, 2, 0, 1]);
  const named: NamedTensor = { name, dtype: 'F32', shape: outside.shape, data: readFloats(outside) };
  outside.dispose();
  return named;
}

function transpose(value: Tensor, order: readonly number[]): Tensor {
  const permutation = tf.tensor1d([...order], 'int32');
  const transposed = runOp('Transpose', [T_FLOAT, typeAttr('Tperm', 'int32')], [value, permutation]);
  permutation.dispose();
  return transposed;
}

/** Gives the caller ownership of the gradient. Throws if no backward pass has set one. */
export function takeGradient(parameter: Parameter): Tensor {
  const { gradient } = parameter;
  if (gradient === undefined) throw new Error(`${parameter.name} has no gradient: run the backward pass first.`);
  parameter.gradient = undefined;
  return gradient;
}

export function setGradient(parameter: Parameter, gradient: Tensor): void {
  parameter.gradient?.dispose();
  parameter.gradient = gradient;
}

/** Frees a gradient that was not taken. */
export function dropGradient(parameter: Parameter): void {
  parameter.gradient?.dispose();
  parameter.gradient = undefined;
}

export function disposeParameter(parameter: Parameter): void {
  parameter.value.dispose();
  dropGradient(parameter);
}
