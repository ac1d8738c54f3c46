/** An encoder to export. All of its numbers differ, and they come from a formula. */
import type { EncoderExport, ExportInputContract } from '../../src/formats/encoder-export.ts';
import { convolutionUnitSteps } from '../../src/formats/encoders/resnet/graph.ts';
import type { SafetensorsTensor } from '../../src/formats/safetensors.ts';
import { resnetArchitecture, type ResnetName } from '../../src/formats/encoders/resnet/specification.ts';

/** A contract of the first version, as files of ResNets state it to this day. */
export const FILE_CONTRACT = {
  imageSizePx: 224,
  resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
  channelOrder: 'RGB',
  valueRange: [0, 1],
  channelMean: [0.5, 0.5, 0.5],
  channelStd: [0.25, 0.5, 0.5],
  embeddingLayer: 'avgpool',
  micronsPerPixelMin: 0.5,
  micronsPerPixelMax: null,
} as const;
export const EXPORT_CONTRACT: ExportInputContract = {
  ...FILE_CONTRACT,
  pooling: 'AVGPOOL',
  interpolation: 'BILINEAR',
  weightsDtype: 'FLOAT32',
};

/** Tensors in torchvision's order, with pseudo-random numbers in [low, low + span). */
export function encoderToExport(architecture: ResnetName): EncoderExport {
  let state = 12_345;
  const numbers = (count: number, low: number, span: number): Float32Array => {
    const values = new Float32Array(count);
    for (let index = 0; index < count; index += 1) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      values[index] = low + (state / 2 ** 32) * span;
    }
    return values;
  };
  const tensors = convolutionUnitSteps(architecture).flatMap(
    ({ convolutionName, normName, inputChannels, outputChannels, window }): SafetensorsTensor[] => {
      const shape = [outputChannels, inputChannels, window.size, window.size];
      // Keeps the signal's variance from layer to layer.
      const reach = Math.sqrt(6 / (inputChannels * window.size * window.size));
      return [
        {
          name: `${convolutionName}.weight`,
          dtype: 'F32',
          shape,
          data: numbers(
            shape.reduce((product, side) => product * side, 1),
            -reach,
            2 * reach,
          ),
        },
        { name: `${normName}.weight`, dtype: 'F32', shape: [outputChannels], data: numbers(outputChannels, 0.5, 0.5) },
        { name: `${normName}.bias`, dtype: 'F32', shape: [outputChannels], data: numbers(outputChannels, -0.2, 0.4) },
        {
          name: `${normName}.running_mean`,
          dtype: 'F32',
          shape: [outputChannels],
          data: numbers(outputChannels, -0.2, 0.4),
        },
        {
          name: `${normName}.running_var`,
          dtype: 'F32',
          shape: [outputChannels],
          data: numbers(outputChannels, 0.5, 1),
        },
        { name: `${normName}.num_batches_tracked`, dtype: 'I64', shape: [], data: BigInt64Array.of(1000n) },
      ];
    },
  );
  return {
    architecture: resnetArchitecture(architecture),
    tensors,
    inputContract: EXPORT_CONTRACT,
    metadata: { name: 'tissue é' },
  };
}
