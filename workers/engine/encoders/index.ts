/** The networks of every encoder family. To add one: its folder, and a line here. */
import type { Architecture, Pooling } from '../../../src/formats/encoders/architecture.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import type { EncoderNetwork, InferenceEncoder, TrainableEncoder, TrainingOptions } from './encoder.ts';
import { RESNET_NETWORK } from './resnet/index.ts';
import { VIT_NETWORK } from './vit/index.ts';

export type { EncoderNetwork, InferenceEncoder, RowNoise, TrainableEncoder, TrainingOptions } from './encoder.ts';

const networks: EncoderNetwork[] = [RESNET_NETWORK, VIT_NETWORK];

/**
 * Adds the network of a family that is not part of this program, for this process.
 * @throws RangeError if a family has its name already.
 */
export function registerEncoderNetwork(network: EncoderNetwork): void {
  if (networks.some(({ family }) => family === network.family))
    throw new RangeError(`The engine has a network for the encoder family ${network.family} already.`);
  networks.push(network);
}

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
): InferenceEncoder {
  return networkOf(family).open(specification, tensors, pooling);
}

/**
 * Like `openEncoder`, for training.
 *
 * @throws RangeError also for a family that cannot be trained, and for an option that the network does not have.
 */
export function openTrainableEncoder(
  { family, specification }: Architecture,
  tensors: readonly NamedTensor[],
  pooling: Pooling,
  options: TrainingOptions = {},
): TrainableEncoder {
  const { train } = networkOf(family);
  if (train === undefined) throw new RangeError(`Encoders of the family ${family} cannot be trained.`);
  return train(specification, tensors, pooling, options);
}

/** New weights of the same network, a pure function of the stream's state. */
export function untrainedWeights({ family, specification }: Architecture, random: Random): NamedTensor[] {
  return networkOf(family).untrainedWeights(specification, random);
}

function networkOf(family: string): EncoderNetwork {
  const network = networks.find((each) => each.family === family);
  if (network === undefined) throw new RangeError(`The engine has no network for the encoder family ${family}.`);
  return network;
}
