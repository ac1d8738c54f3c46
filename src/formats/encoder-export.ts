/**
 * What every writer of weights for others takes: an encoder's tensors, checked against its architecture, and what its
 * user must know.
 */
import { convolutionUnitSteps } from './resnet-graph.ts';
import type { ConvolutionUnitStep } from './resnet-graph.ts';
import type { SafetensorsTensor } from './safetensors.ts';
import type { ResnetArchitecture } from './torchvision-resnet.ts';

/** How an image becomes the encoder's input. */
export interface ExportInputContract {
  readonly imageSizePx: number;
  readonly resizeRule: string;
  readonly channelOrder: string;
  /** Range of pixel values before mean and standard deviation are applied. */
  readonly valueRange: readonly [number, number];
  readonly channelMean: readonly [number, number, number];
  readonly channelStd: readonly [number, number, number];
  readonly embeddingLayer: string;
  /** Of the images that it was trained on; null where not known. */
  readonly micronsPerPixelMin: number | null;
  readonly micronsPerPixelMax: number | null;
}

export interface EncoderExport {
  readonly architecture: ResnetArchitecture;
  /** torchvision's names and layouts, without `fc`; any order. */
  readonly tensors: readonly SafetensorsTensor[];
  readonly inputContract: ExportInputContract;
  /**
   * Further facts, kept in the file as they are; `architecture`, `inputContract` and `preparation` are set by the
   * writer.
   */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Weights that cannot be exported; every fault is listed. */
export class ExportError extends Error {
  readonly fault = 'WEIGHTS_MISMATCH';
  readonly missing: readonly string[];
  /** Doubled names included. */
  readonly unexpected: readonly string[];
  /** `conv1.weight: expected F32 [64, 3, 7, 7], got F32 [64, 3, 3, 3]` */
  readonly mismatched: readonly string[];

  constructor(
    architecture: ResnetArchitecture,
    faults: { missing: readonly string[]; unexpected: readonly string[]; mismatched: readonly string[] },
  ) {
    const some = (kind: string, names: readonly string[]): string[] =>
      names.length === 0
        ? []
        : [`${names.length} ${kind} (${names.slice(0, 3).join('; ')}${names.length > 3 ? '; ...' : ''})`];
    const list = [
      ...some('missing', faults.missing),
      ...some('unexpected', faults.unexpected),
      ...some('mismatched', faults.mismatched),
    ];
    super(`The weights do not fit ${architecture}: ${list.join(', ')}.`);
    this.name = 'ExportError';
    this.missing = faults.missing;
    this.unexpected = faults.unexpected;
    this.mismatched = faults.mismatched;
  }
}

/** The tensors of one convolution unit: filter `[O, I, k, k]`, the others `[O]`. */
export interface UnitWeights {
  readonly step: ConvolutionUnitStep;
  readonly filter: Float32Array;
  readonly scale: Float32Array;
  readonly offset: Float32Array;
  readonly runningMean: Float32Array;
  readonly runningVariance: Float32Array;
  /** Batches seen in training; 0 where the weights do not say (PyTorch before 0.4.1). Nothing is computed from it. */
  readonly batchCount: bigint;
}

/**
 * The weights of each convolution unit by its convolution's name, in torchvision's order.
 *
 * @throws ExportError when a tensor is missing, unexpected, or of another dtype, shape or length.
 */
export function unitWeights(
  architecture: ResnetArchitecture,
  tensors: readonly SafetensorsTensor[],
): Map<string, UnitWeights> {
  const left = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const doubled = tensors.filter((tensor) => left.get(tensor.name) !== tensor).map(({ name }) => name);
  const missing: string[] = [];
  const mismatched: string[] = [];
  const fits = (tensor: SafetensorsTensor, dtype: SafetensorsTensor['dtype'], shape: readonly number[]): boolean => {
    const elementCount = shape.reduce((product, side) => product * side, 1);
    const sameShape = tensor.shape.length === shape.length && tensor.shape.every((side, axis) => side === shape[axis]);
    if (tensor.dtype === dtype && sameShape && tensor.data.length === elementCount) return true;
    mismatched.push(
      `${tensor.name}: expected ${dtype} [${shape.join(', ')}], got ${tensor.dtype} [${tensor.shape.join(', ')}] with ${tensor.data.length} numbers`,
    );
    return false;
  };
  const take = (name: string, shape: readonly number[]): Float32Array => {
    const tensor = left.get(name);
    left.delete(name);
    if (tensor === undefined) missing.push(name);
    else if (fits(tensor, 'F32', shape) && tensor.dtype === 'F32') return tensor.data;
    return new Float32Array();
  };
  const takeCount = (name: string): bigint => {
    const tensor = left.get(name);
    left.delete(name);
    return tensor !== undefined && fits(tensor, 'I64', []) && tensor.dtype === 'I64' ? (tensor.data[0] ?? 0n) : 0n;
  };
  const units = new Map<string, UnitWeights>();
  for (const step of convolutionUnitSteps(architecture)) {
    const { convolutionName, normName, inputChannels, outputChannels, window } = step;
    units.set(convolutionName, {
      step,
      filter: take(`${convolutionName}.weight`, [outputChannels, inputChannels, window.size, window.size]),
      scale: take(`${normName}.weight`, [outputChannels]),
      offset: take(`${normName}.bias`, [outputChannels]),
      runningMean: take(`${normName}.running_mean`, [outputChannels]),
      runningVariance: take(`${normName}.running_var`, [outputChannels]),
      batchCount: takeCount(`${normName}.num_batches_tracked`),
    });
  }
  const unexpected = [...doubled, ...left.keys()];
  if (missing.length + unexpected.length + mismatched.length > 0)
    throw new ExportError(architecture, { missing, unexpected, mismatched });
  return units;
}

/** What to do to an image before the encoder sees it, in one paragraph. */
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
