/**
 * The input of every export writer: an encoder's tensors, checked against its architecture, and the facts that a user
 * of the file needs.
 */
import { convolutionUnitSteps } from './resnet-graph.ts';
import type { ConvolutionUnitStep } from './resnet-graph.ts';
import type { SafetensorsTensor } from './safetensors.ts';
import { checkTensors } from './tensor-check.ts';
import { resnetTensorSpecs, type ResnetArchitecture } from './torchvision-resnet.ts';

/** The input contract. */
export interface ExportInputContract {
  readonly imageSizePx: number;
  readonly resizeRule: string;
  readonly channelOrder: string;
  /** Range of pixel values before mean and standard deviation are applied. */
  readonly valueRange: readonly [number, number];
  readonly channelMean: readonly [number, number, number];
  readonly channelStd: readonly [number, number, number];
  readonly embeddingLayer: string;
  /** Resolution of the training images; null if unknown. */
  readonly micronsPerPixelMin: number | null;
  readonly micronsPerPixelMax: number | null;
}

export interface EncoderExport {
  readonly architecture: ResnetArchitecture;
  /** torchvision's names and layouts, without `fc`; any order. */
  readonly tensors: readonly SafetensorsTensor[];
  readonly inputContract: ExportInputContract;
  /**
   * Further facts, stored unchanged in the file; `architecture`, `inputContract` and `preparation` are set by the
   * writer.
   */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The tensors of one convolution unit: filter `[O, I, k, k]`, the others `[O]`. */
export interface UnitWeights {
  readonly step: ConvolutionUnitStep;
  readonly filter: Float32Array;
  readonly scale: Float32Array;
  readonly offset: Float32Array;
  readonly runningMean: Float32Array;
  readonly runningVariance: Float32Array;
  /** Number of training batches; 0 if the weights lack it (PyTorch before 0.4.1). No computation uses it. */
  readonly batchCount: bigint;
}

/**
 * The weights of each convolution unit by its convolution's name, in torchvision's order.
 *
 * @throws WeightsMismatchError when a tensor is missing, unexpected, or of another dtype, shape or length.
 */
export function unitWeights(
  architecture: ResnetArchitecture,
  tensors: readonly SafetensorsTensor[],
): Map<string, UnitWeights> {
  const found = checkTensors(
    architecture,
    tensors,
    resnetTensorSpecs(architecture).map(({ name, shape, kind, required }) => ({
      name,
      dtype: kind === 'BATCH_COUNT' ? 'I64' : 'F32',
      shape,
      required,
    })),
  );
  const weights = (name: string): Float32Array => {
    const tensor = found.get(name);
    if (tensor?.dtype !== 'F32') throw new Error(`${name} passed its check but is missing.`);
    return tensor.data;
  };
  const batchCount = (name: string): bigint => {
    const tensor = found.get(name);
    return tensor?.dtype === 'I64' ? (tensor.data[0] ?? 0n) : 0n;
  };
  return new Map(
    convolutionUnitSteps(architecture).map((step) => [
      step.convolutionName,
      {
        step,
        filter: weights(`${step.convolutionName}.weight`),
        scale: weights(`${step.normName}.weight`),
        offset: weights(`${step.normName}.bias`),
        runningMean: weights(`${step.normName}.running_mean`),
        runningVariance: weights(`${step.normName}.running_var`),
        batchCount: batchCount(`${step.normName}.num_batches_tracked`),
      },
    ]),
  );
}

/** A paragraph that explains how to prepare an image for the encoder. */
export function describePreparation(contract: ExportInputContract): string {
  const { imageSizePx, resizeRule, channelOrder, valueRange, channelMean, channelStd } = contract;
  const resize =
    resizeRule === 'SHORT_SIDE_THEN_CENTRE_CROP'
      ? `short side resized to ${imageSizePx} px (bilinear, antialiased), centre crop`
      : `resized to ${imageSizePx} x ${imageSizePx} px (bilinear, antialiased)`;
  return `Input: ${channelOrder} images, ${resize}; pixel values scaled to ${valueRange.join('..')}, minus mean [${channelMean.join(', ')}], divided by standard deviation [${channelStd.join(', ')}].`;
}

/** The facts that go into the file, sorted by name so that the same export gives the same bytes. */
export function exportMetadata({ architecture, inputContract, metadata }: EncoderExport): [string, string][] {
  const facts = {
    ...metadata,
    architecture,
    inputContract: JSON.stringify(inputContract),
    preparation: describePreparation(inputContract),
  };
  return Object.entries(facts).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
