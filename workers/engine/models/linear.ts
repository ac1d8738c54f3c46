/** A linear layer of a head: rows [R, I] to [R, O], with its gradients. */
import { multiplyMatrices } from '../kernels/elementwise.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { asRank2, tf } from '../tensorflow.ts';
import type { Tensor2D } from '../tensorflow.ts';
import { createParameter, setGradient, type Parameter } from './parameter.ts';

export interface LinearLayer {
  /** [O, I], as PyTorch has it. */
  readonly weight: Parameter;
  readonly bias: Parameter;
}

/** @param tensors checked: they have a weight and a bias of this name. */
export function openLinear(name: string, tensors: ReadonlyMap<string, NamedTensor>): LinearLayer {
  const weight = tensors.get(`${name}.weight`);
  const bias = tensors.get(`${name}.bias`);
  if (weight === undefined || bias === undefined) throw new Error(`${name} is missing from tensors that were checked.`);
  return { weight: createParameter(weight, 'WEIGHT', 'AS_IS'), bias: createParameter(bias, 'BIAS_OR_NORM', 'AS_IS') };
}

/** The caller disposes the result. Call it in a scope. */
export function runLinear({ weight, bias }: LinearLayer, input: Tensor2D): Tensor2D {
  return asRank2(tf.add(multiplyMatrices(input, weight.value, { transposeRight: true }), bias.value));
}

/** Sets the layer's gradients; returns the gradient of its input. */
export function linearGradient({ weight, bias }: LinearLayer, input: Tensor2D, outputGradient: Tensor2D): Tensor2D {
  setGradient(weight, multiplyMatrices(outputGradient, input, { transposeLeft: true }));
  setGradient(bias, tf.sum(outputGradient, 0));
  return multiplyMatrices(outputGradient, weight.value);
}
