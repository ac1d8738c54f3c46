/** The network of the family of vision transformers. */
import { VIT } from '../../../../src/formats/encoders/vit/index.ts';
import { vitSpecificationSchema, vitTensorSpecs } from '../../../../src/formats/encoders/vit/specification.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { restoreRandom, type Random } from '../../rng.ts';
import { normals } from '../../normals.ts';
import type { EncoderNetwork } from '../encoder.ts';
import { VisionTransformer } from './network.ts';

export const VIT_NETWORK: EncoderNetwork = {
  family: VIT.family,
  open: (specification, tensors, pooling) =>
    new VisionTransformer(vitSpecificationSchema.parse(specification), tensors, pooling),
  train: (specification, tensors, pooling, { computeDtype = 'float32', dropPathRate = 0, layerDecay = 1 }) => {
    if (!(dropPathRate >= 0 && dropPathRate < 1))
      throw new RangeError(`dropPathRate must be in [0, 1), not ${dropPathRate}.`);
    if (!(layerDecay > 0 && layerDecay <= 1)) throw new RangeError(`layerDecay must be in (0, 1], not ${layerDecay}.`);
    const parsed = vitSpecificationSchema.parse(specification);
    return new VisionTransformer(parsed, tensors, pooling, { dropPathRate, layerDecay, computeDtype });
  },
  untrainedWeights,
};

/** Of timm's linear layers and position embeddings, which it truncates at two units. */
const DEVIATION = 0.02;
/** timm's and DINOv2's. */
const LAYER_SCALE = 1e-5;

/**
 * New weights: layers, tokens and positions normal with a standard deviation of 0.02, layer norms at the identity,
 * biases zero. Close to timm's, which draws the filter of the patches uniformly and starts tokens near zero. Values are
 * drawn whenever `data` is asked for, so that a large network is never in memory outside the device.
 */
function untrainedWeights(specification: unknown, random: Random): NamedTensor[] {
  return vitTensorSpecs(vitSpecificationSchema.parse(specification)).map(({ name, shape }) => {
    const length = shape.reduce((product, side) => product * side, 1);
    if (name.endsWith('.bias')) return { name, dtype: 'F32', shape, data: new Float32Array(length) };
    if (/(?:^|\.)(?:norm|norm1|norm2|norm_pre|fc_norm)\.weight$/.test(name))
      return { name, dtype: 'F32', shape, data: new Float32Array(length).fill(1) };
    if (name.endsWith('.gamma')) return { name, dtype: 'F32', shape, data: new Float32Array(length).fill(LAYER_SCALE) };
    // Each tensor has its own random stream, so that its values do not depend on the tensors before it.
    const state = random.fork(name).state();
    return {
      ...{ name, dtype: 'F32', shape, elementCount: length },
      get data() {
        return normals(length, DEVIATION, restoreRandom(state));
      },
    };
  });
}
