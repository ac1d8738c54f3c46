/** The networks of every encoder family. To add one: its folder, and a line here. */
import type { Architecture, Pooling } from '../../../src/formats/encoders/architecture.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import type { EncoderNetwork, InferenceEncoder } from './encoder.ts';
import { RESNET_NETWORK } from './resnet/index.ts';
import { VIT_NETWORK } from './vit/index.ts';

export type { EncoderNetwork, InferenceEncoder } from './encoder.ts';

const NETWORKS: readonly EncoderNetwork[] = [RESNET_NETWORK, VIT_NETWORK];

/**
 * An encoder with the given weights, under the names and layouts of its state dict.
 *
 * @throws WeightsMismatchError that lists every missing, unexpected and mismatched tensor; RangeError for a family that
 * the engine does not know.
 */
export function openEncoder(
  { family, specification }: Architecture,
  tensors: readonly NamedTensor[],
  pooling: Pooling,
  networks: readonly EncoderNetwork[] = NETWORKS,
): InferenceEncoder {
  return networkOf(family, networks).open(specification, tensors, pooling);
}

/** New weights of the same network, a pure function of the stream's state. */
export function untrainedWeights({ family, specification }: Architecture, random: Random): NamedTensor[] {
  return networkOf(family, NETWORKS).untrainedWeights(specification, random);
}

function networkOf(family: string, networks: readonly EncoderNetwork[]): EncoderNetwork {
  const network = networks.find((each) => each.family === family);
  if (network === undefined) throw new RangeError(`The engine has no network for the encoder family ${family}.`);
  return network;
}
