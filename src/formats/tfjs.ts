/**
 * An encoder as a TensorFlow.js graph model, for `tf.loadGraphModel` in a browser or elsewhere, packed as one zip:
 * `model.json` and `group1-shard1of6.bin` .. beside it.
 *
 * Input `images`: float32 `[batch, height, width, 3]`, already normalised as the input contract says. Output
 * `embeddings`: `[batch, D]`. Batch norms are folded into the convolutions before them, as TensorFlow's own converter
 * does: one fused kernel then replaces four, and `_FusedConv2D` runs on the cpu, wasm, webgl and webgpu backends.
 */
import { describePreparation, exportMetadata, unitWeights } from './encoder-export.ts';
import type { EncoderExport, UnitWeights } from './encoder-export.ts';
import { BATCH_NORM_EPSILON, GRAPH_INPUT, GRAPH_OUTPUT, resnetGraph } from './resnet-graph.ts';
import type { ConvolutionUnitStep, GraphStep, GraphWindow } from './resnet-graph.ts';
import { writeStoredZip } from './stored-zip.ts';
import type { StoredZipEntry } from './stored-zip.ts';
import { embeddingDimOf } from './torchvision-resnet.ts';

/** The shard size of TensorFlow's converter, which browsers fetch and cache well. */
const SHARD_BYTES = 4 * 1024 * 1024;

interface GraphNode {
  readonly name: string;
  readonly op: string;
  readonly input?: readonly string[];
  readonly attr: Readonly<Record<string, unknown>>;
}

interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: 'float32' | 'int32';
  readonly data: Float32Array | Int32Array;
}

/**
 * The same export gives the same bytes.
 *
 * @throws WeightsMismatchError when the tensors do not fit the architecture.
 */
export function writeTfjsZip(source: EncoderExport): Uint8Array<ArrayBuffer> {
  return writeStoredZip(tfjsFiles(source), 1);
}

/**
 * The files of the graph model, unpacked: `model.json` first, then the shards.
 *
 * @throws WeightsMismatchError when the tensors do not fit the architecture.
 */
export function tfjsFiles(source: EncoderExport): StoredZipEntry[] {
  const { architecture, inputContract } = source;
  const steps = resnetGraph(architecture);
  const weights = [
    ...[...unitWeights(architecture, source.tensors).values()].flatMap(foldedWeights),
    ...constantsOf(steps),
  ];
  const shards = shardsOf(weights);
  const model = {
    format: 'graph-model',
    generatedBy: 'paraffin',
    convertedBy: null,
    signature: {
      inputs: { [GRAPH_INPUT]: signatureTensor(GRAPH_INPUT, [-1, -1, -1, 3]) },
      outputs: { [GRAPH_OUTPUT]: signatureTensor(GRAPH_OUTPUT, [-1, embeddingDimOf(architecture)]) },
    },
    userDefinedMetadata: {
      ...Object.fromEntries(exportMetadata(source)),
      description: `${architecture} encoder. ${describePreparation(inputContract)}`,
    },
    modelTopology: {
      node: [placeholder(), ...weights.map(constantNode), ...steps.flatMap(nodesOf)],
      library: {},
      versions: { producer: 1395 },
    },
    weightsManifest: [
      {
        paths: shards.map(({ name }) => name),
        weights: weights.map(({ name, shape, dtype }) => ({ name, shape, dtype })),
      },
    ],
  };
  return [{ name: 'model.json', data: new TextEncoder().encode(JSON.stringify(model)) }, ...shards];
}

/** All weights concatenated and cut every 4 MiB, regardless of tensor boundaries. */
function shardsOf(weights: readonly Weight[]): StoredZipEntry[] {
  const all = new Uint8Array(weights.reduce((sum, { data }) => sum + data.byteLength, 0));
  let position = 0;
  for (const { data } of weights) {
    all.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
    position += data.byteLength;
  }
  const count = Math.ceil(all.byteLength / SHARD_BYTES);
  return Array.from({ length: count }, (_, index) => ({
    name: `group1-shard${index + 1}of${count}.bin`,
    data: all.subarray(index * SHARD_BYTES, (index + 1) * SHARD_BYTES),
  }));
}

/**
 * conv(x, W) * s + (offset - mean * s) with s = scale / sqrt(variance + epsilon), in double precision: filter `[k, k,
 * I, O]` and bias `[O]`.
 */
function foldedWeights({ step, filter, scale, offset, runningMean, runningVariance }: UnitWeights): Weight[] {
  const { inputChannels, outputChannels, window } = step;
  const area = window.size * window.size;
  const folded = new Float32Array(filter.length);
  const bias = new Float32Array(outputChannels);
  for (let output = 0; output < outputChannels; output += 1) {
    const factor = (scale[output] ?? 0) / Math.sqrt((runningVariance[output] ?? 0) + BATCH_NORM_EPSILON);
    bias[output] = (offset[output] ?? 0) - (runningMean[output] ?? 0) * factor;
    for (let input = 0; input < inputChannels; input += 1) {
      for (let pixel = 0; pixel < area; pixel += 1) {
        folded[(pixel * inputChannels + input) * outputChannels + output] =
          (filter[(output * inputChannels + input) * area + pixel] ?? 0) * factor;
      }
    }
  }
  return [
    {
      name: filterName(step),
      shape: [window.size, window.size, inputChannels, outputChannels],
      dtype: 'float32',
      data: folded,
    },
    { name: biasName(step), shape: [outputChannels], dtype: 'float32', data: bias },
  ];
}

const filterName = ({ convolutionName }: ConvolutionUnitStep): string => `${convolutionName}/filter`;
const biasName = ({ convolutionName }: ConvolutionUnitStep): string => `${convolutionName}/bias`;
const paddingsName = (padding: number): string => `paddings/${padding}`;
const AXES_NAME = 'avgpool/axes';

function constantsOf(steps: readonly GraphStep[]): Weight[] {
  const paddings = new Set(
    steps.flatMap((step) => ('window' in step && needsPad(step.window) ? [step.window.padding] : [])),
  );
  return [
    ...[...paddings].map((padding): Weight => ({
      name: paddingsName(padding),
      shape: [4, 2],
      dtype: 'int32',
      data: Int32Array.of(0, 0, padding, padding, padding, padding, 0, 0),
    })),
    { name: AXES_NAME, shape: [2], dtype: 'int32', data: Int32Array.of(1, 2) },
  ];
}

/**
 * TensorFlow's SAME padding is symmetric for stride 1; for stride 2 it would pad only one side, but torchvision pads
 * both.
 */
function needsPad({ stride, padding }: GraphWindow): boolean {
  return padding > 0 && stride > 1;
}

function nodesOf(step: GraphStep): GraphNode[] {
  switch (step.kind) {
    case 'CONVOLUTION_UNIT': {
      const { pad, input } = padded(step);
      const attr = {
        ...windowAttributes(step.window),
        dilations: ints([1, 1, 1, 1]),
        explicit_paddings: ints([]),
        num_args: { i: '1' },
        fused_ops: { list: { s: (step.hasRelu ? ['BiasAdd', 'Relu'] : ['BiasAdd']).map(base64) } },
        epsilon: { f: 0 },
      };
      return [
        ...pad,
        { name: step.output, op: '_FusedConv2D', input: [input, filterName(step), biasName(step)], attr },
      ];
    }
    case 'MAX_POOL': {
      // Zero padding is equivalent to padding with minus infinity here, because the pooled values are outputs of a
      // ReLU.
      const { pad, input } = padded(step);
      return [
        ...pad,
        {
          name: step.output,
          op: 'MaxPool',
          input: [input],
          attr: { ...windowAttributes(step.window), ksize: ints([1, step.window.size, step.window.size, 1]) },
        },
      ];
    }
    case 'ADD_THEN_RELU':
      return [
        { name: `${step.output}/sum`, op: 'AddV2', input: [step.left, step.right], attr: { T: FLOAT } },
        { name: step.output, op: 'Relu', input: [`${step.output}/sum`], attr: { T: FLOAT } },
      ];
    case 'GLOBAL_AVERAGE':
      return [
        {
          name: step.output,
          op: 'Mean',
          input: [step.input, AXES_NAME],
          attr: { T: FLOAT, Tidx: INT, keep_dims: { b: false } },
        },
      ];
  }
}

function padded({ input, output, window }: { input: string; output: string; window: GraphWindow }): {
  pad: GraphNode[];
  input: string;
} {
  if (!needsPad(window)) return { pad: [], input };
  const name = `${output}/padded`;
  return {
    pad: [{ name, op: 'Pad', input: [input, paddingsName(window.padding)], attr: { T: FLOAT, Tpaddings: INT } }],
    input: name,
  };
}

function windowAttributes(window: GraphWindow): Record<string, unknown> {
  const padding = window.padding > 0 && !needsPad(window) ? 'SAME' : 'VALID';
  return {
    T: FLOAT,
    strides: ints([1, window.stride, window.stride, 1]),
    padding: { s: base64(padding) },
    data_format: { s: base64('NHWC') },
  };
}

const FLOAT = { type: 'DT_FLOAT' } as const;
const INT = { type: 'DT_INT32' } as const;

function placeholder(): GraphNode {
  return {
    name: GRAPH_INPUT,
    op: 'Placeholder',
    attr: { dtype: FLOAT, shape: { shape: tensorShape([-1, -1, -1, 3]) } },
  };
}

function constantNode({ name, shape, dtype }: Weight): GraphNode {
  const type = dtype === 'float32' ? FLOAT : INT;
  return {
    name,
    op: 'Const',
    attr: { dtype: type, value: { tensor: { dtype: type.type, tensorShape: tensorShape(shape) } } },
  };
}

function signatureTensor(name: string, shape: readonly number[]): object {
  return { name: `${name}:0`, dtype: FLOAT.type, tensorShape: tensorShape(shape) };
}

/** Protocol buffers' JSON writes 64-bit numbers as text. */
function tensorShape(shape: readonly number[]): object {
  return { dim: shape.map((side) => ({ size: String(side) })) };
}

function ints(values: readonly number[]): object {
  return { list: { i: values.map(String) } };
}

function base64(text: string): string {
  return btoa(text);
}
