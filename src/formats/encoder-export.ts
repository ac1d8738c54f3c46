/**
 * The input of every export writer: an encoder's tensors, checked against its architecture, and the facts that a user
 * of the file needs.
 */
import {
  describeEncoder,
  type Architecture,
  type EncoderDescription,
  type Pooling,
  type WeightsDtype,
} from './encoders/index.ts';
import type { EncoderGraph } from './encoders/graph.ts';
import type { SafetensorsTensor } from './safetensors.ts';
import { checkTensors } from './tensor-check.ts';

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
  readonly pooling: Pooling;
  readonly interpolation: 'BILINEAR' | 'BICUBIC';
  /** The least precise dtype in which a weight is stored. */
  readonly weightsDtype: WeightsDtype;
  /** Resolution of the training images; null if unknown. */
  readonly micronsPerPixelMin: number | null;
  readonly micronsPerPixelMax: number | null;
}

export interface EncoderExport {
  readonly architecture: Architecture;
  /** The state dict under the names and layouts of its ecosystem, without a head; any order. */
  readonly tensors: readonly SafetensorsTensor[];
  readonly inputContract: ExportInputContract;
  /**
   * Further facts, stored unchanged in the file; `architecture`, `inputContract`, `precision` and `preparation` are
   * set by the writer.
   */
  readonly metadata: Readonly<Record<string, string>>;
}

/** An encoder whose tensors are those of its architecture. */
export interface CheckedEncoder {
  readonly description: EncoderDescription;
  /** By name. */
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
}

/** @throws WeightsMismatchError when a tensor is missing, unexpected, or of another dtype, shape or length. */
export function checkedEncoder(architecture: Architecture, tensors: readonly SafetensorsTensor[]): CheckedEncoder {
  const description = describeEncoder(architecture);
  const expectations = description.tensors.map(({ name, shape, kind, required }) => ({
    name,
    dtype: kind === 'BATCH_COUNT' ? ('I64' as const) : ('F32' as const),
    shape,
    required,
  }));
  return { description, tensors: checkTensors(description.name, tensors, expectations) };
}

/** The network as a graph, with the values of everything that its steps name. */
export interface ExportGraph extends EncoderGraph {
  readonly name: string;
  /** D */
  readonly embeddingDim: number;
  /** The tensor or constant of this name. @throws Error if the graph names something that does not exist. */
  readonly valueOf: (name: string) => { readonly shape: readonly number[]; readonly data: Float32Array };
}

/** @throws WeightsMismatchError when the tensors do not fit the architecture. */
export function exportGraph({ architecture, tensors, inputContract }: EncoderExport): ExportGraph {
  const checked = checkedEncoder(architecture, tensors);
  const values = new Map<string, { readonly shape: readonly number[]; readonly data: Float32Array }>();
  for (const tensor of checked.tensors.values()) if (tensor.dtype === 'F32') values.set(tensor.name, tensor);
  const { description } = checked;
  const weights = new Map([...values].map(([name, { data }]) => [name, data]));
  const graph = description.graph(weights, inputContract);
  for (const constant of graph.constants) values.set(constant.name, constant);
  return {
    ...graph,
    name: description.name,
    embeddingDim: description.embeddingDim(inputContract.pooling),
    valueOf: (name) => {
      const value = values.get(name);
      if (value === undefined) throw new Error(`The graph of ${description.name} names ${name}, which does not exist.`);
      return value;
    },
  };
}

/**
 * The contract as files state it: values that earlier contracts implied are left out, so that the same
 * weights still give the same file.
 */
export function contractInFile(contract: ExportInputContract): object {
  const { pooling, interpolation, weightsDtype, ...first } = contract;
  return {
    ...first,
    ...(pooling === 'AVGPOOL' ? {} : { pooling }),
    ...(interpolation === 'BILINEAR' ? {} : { interpolation }),
    ...(weightsDtype === 'FLOAT32' ? {} : { weightsDtype }),
  };
}

/** A paragraph that explains how to prepare an image for the encoder. */
export function describePreparation(contract: ExportInputContract): string {
  const { imageSizePx, resizeRule, interpolation, channelOrder, valueRange, channelMean, channelStd } = contract;
  const resize =
    resizeRule === 'SHORT_SIDE_THEN_CENTRE_CROP'
      ? `short side resized to ${imageSizePx} px (${interpolation.toLowerCase()}, antialiased), centre crop`
      : `resized to ${imageSizePx} x ${imageSizePx} px (${interpolation.toLowerCase()}, antialiased)`;
  return `Input: ${channelOrder} images, ${resize}; pixel values scaled to ${valueRange.join('..')}, minus mean [${channelMean.join(', ')}], divided by standard deviation [${channelStd.join(', ')}].`;
}

/** What a file with float32 weights says of their precision; undefined if nothing was lost. */
function precisionInWords({ weightsDtype }: ExportInputContract): string | undefined {
  if (weightsDtype === 'FLOAT32') return undefined;
  return `The weights were imported as ${weightsDtype.toLowerCase()}; this file has the same values as float32.`;
}

/** The facts that go into the file, sorted by name so that the same export gives the same bytes. */
export function exportMetadata({ architecture, inputContract, metadata }: EncoderExport): [string, string][] {
  const precision = precisionInWords(inputContract);
  const facts = {
    ...metadata,
    ...(precision === undefined ? {} : { precision }),
    ...describeEncoder(architecture).fileMetadata,
    inputContract: JSON.stringify(contractInFile(inputContract)),
    preparation: describePreparation(inputContract),
  };
  return Object.entries(facts).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
