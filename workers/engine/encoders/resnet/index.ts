/** The network of the family of residual networks. */
import { RESNET } from '../../../../src/formats/encoders/resnet/index.ts';
import { resnetSpecified } from '../../../../src/formats/encoders/resnet/specification.ts';
import type { EncoderNetwork } from '../encoder.ts';
import { encoderFromWeights } from './network.ts';
import { randomEncoderWeights } from './weights.ts';

export const RESNET_NETWORK: EncoderNetwork = {
  family: RESNET.family,
  open: (specification, tensors) => encoderFromWeights(resnetSpecified(specification), tensors),
  train: (specification, tensors, _pooling, { computeDtype, dropPathRate = 0, layerDecay = 1 }) => {
    if (dropPathRate !== 0 || layerDecay !== 1)
      throw new RangeError('dropPathRate and layerDecay are for vision transformers, not for ResNets.');
    return encoderFromWeights(resnetSpecified(specification), tensors, computeDtype);
  },
  untrainedWeights: (specification, random) => randomEncoderWeights(resnetSpecified(specification), random),
};
