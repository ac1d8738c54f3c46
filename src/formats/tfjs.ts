/**
 * An encoder as a TensorFlow.js graph model, for `tf.loadGraphModel` in a browser or elsewhere, packed as one zip:
 * `model.json` and `group1-shard1of6.bin` .. beside it.
 *
 * Input `images`: float32 `[batch, height, width, 3]`, already normalised as the input contract says. Output
 * `embeddings`: `[batch, D]`. Batch norms are folded into the convolutions before them, as TensorFlow's own converter
 * does: one fused kernel then replaces four, and `_FusedConv2D` runs on the cpu, wasm, webgl and webgpu backends.
 */
import { describePreparation, exportGraph, exportMetadata } from './encoder-export.ts';
import type { EncoderExport, ExportGraph } from './encoder-export.ts';
import { GRAPH_INPUT, GRAPH_OUTPUT } from './encoders/graph.ts';
import type {
  AttentionStep,
  ConvolutionUnitStep,
  GraphStep,
  GraphWindow,
  LayerNormStep,
  LinearStep,
  PatchTokensStep,
  PoolTokensStep,
} from './encoders/graph.ts';
import { writeStoredZip } from './stored-zip.ts';
import type { StoredZipEntry } from './stored-zip.ts';

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
  const { inputContract } = source;
  const { name, steps, embeddingDim, imageSizePx, valueOf } = exportGraph(source);
  const side = imageSizePx ?? -1;
  const input = [-1, side, side, 3];
  const weights = [...steps.flatMap((step) => weightsOf(step, valueOf)), ...constantsOf(steps)];
  const shards = shardsOf(weights);
  const model = {
    format: 'graph-model',
    generatedBy: 'paraffin',
    convertedBy: null,
    signature: {
      inputs: { [GRAPH_INPUT]: signatureTensor(GRAPH_INPUT, input) },
      outputs: { [GRAPH_OUTPUT]: signatureTensor(GRAPH_OUTPUT, [-1, embeddingDim]) },
    },
    userDefinedMetadata: {
      ...Object.fromEntries(exportMetadata(source)),
      description: `${name} encoder. ${describePreparation(inputContract)}`,
    },
    modelTopology: {
      node: [placeholder(input), ...weights.map(constantNode), ...steps.flatMap(nodesOf)],
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

/** What the step's nodes read, under the names that they use. */
function weightsOf(step: GraphStep, valueOf: ExportGraph['valueOf']): Weight[] {
  const asItIs = (name: string): Weight => {
    const { shape, data } = valueOf(name);
    return { name, dtype: 'float32', shape, data };
  };
  switch (step.kind) {
    case 'CONVOLUTION_UNIT':
      return foldedWeights(step, valueOf);
    case 'PATCH_TOKENS':
      return [
        patchFilter(step, valueOf),
        ...(step.bias === undefined ? [] : [asItIs(step.bias)]),
        asItIs(step.offsets),
        integers(`${step.output}/flat`, [-1, step.tokenCount - step.prefixCount, step.width]),
        { ...integers(`${step.output}/pads`, [0, 0, step.prefixCount, 0, 0, 0]), shape: [3, 2] },
        integers(`${step.output}/rows`, [-1, step.width]),
      ];
    case 'LINEAR':
      return [asItIs(step.weight), ...(step.bias === undefined ? [] : [asItIs(step.bias)])];
    case 'LAYER_NORM':
      return [
        asItIs(step.scale),
        asItIs(step.offset),
        integers(`${step.output}/axis`, [1]),
        number(`${step.output}/epsilon`, step.epsilon),
      ];
    case 'SCALE':
      return [asItIs(step.factor)];
    case 'GELU':
      return [
        number(`${step.output}/root`, Math.SQRT1_2),
        number(`${step.output}/half`, 0.5),
        number(`${step.output}/one`, 1),
      ];
    case 'SWIGLU': {
      const half = step.inputWidth / 2;
      return [
        integers(`${step.output}/start`, [0, 0]),
        integers(`${step.output}/middle`, [0, half]),
        integers(`${step.output}/size`, [-1, half]),
      ];
    }
    case 'ATTENTION': {
      const { output, tokenCount, headCount, width } = step;
      const headWidth = width / headCount;
      return [
        integers(`${output}/heads`, [-1, tokenCount, headCount, headWidth]),
        integers(`${output}/swap`, [0, 2, 1, 3]),
        ...[0, 1, 2].map((part) => integers(`${output}/start${part}`, [0, part * width])),
        integers(`${output}/size`, [-1, width]),
        number(`${output}/factor`, 1 / Math.sqrt(headWidth)),
        integers(`${output}/rows`, [-1, width]),
      ];
    }
    case 'POOL_TOKENS': {
      const { output, tokenCount, prefixCount, width } = step;
      return [
        integers(`${output}/tokens`, [-1, tokenCount, width]),
        integers(`${output}/first`, [0, 0, 0]),
        integers(`${output}/one`, [-1, 1, width]),
        integers(`${output}/rows`, [-1, width]),
        integers(`${output}/start`, [0, prefixCount, 0]),
        integers(`${output}/size`, [-1, tokenCount - prefixCount, width]),
        integers(`${output}/axis`, [1]),
        integers(`${output}/join`, [1], []),
      ];
    }
    case 'MAX_POOL':
    case 'ADD':
    case 'ADD_THEN_RELU':
    case 'GLOBAL_AVERAGE':
      return [];
  }
}

function integers(name: string, values: readonly number[], shape: readonly number[] = [values.length]): Weight {
  return { name, shape, dtype: 'int32', data: Int32Array.from(values) };
}

/** A scalar. */
function number(name: string, value: number): Weight {
  return { name, shape: [], dtype: 'float32', data: Float32Array.of(value) };
}

/** OIHW to HWIO. */
function patchFilter({ weight, output, patchSizePx, width }: PatchTokensStep, valueOf: ExportGraph['valueOf']): Weight {
  const filter = valueOf(weight).data;
  const area = patchSizePx * patchSizePx;
  const data = new Float32Array(filter.length);
  for (let channel = 0; channel < width; channel += 1)
    for (let input = 0; input < 3; input += 1)
      for (let pixel = 0; pixel < area; pixel += 1)
        data[(pixel * 3 + input) * width + channel] = filter[(channel * 3 + input) * area + pixel] ?? 0;
  return { name: `${output}/filter`, shape: [patchSizePx, patchSizePx, 3, width], dtype: 'float32', data };
}

/**
 * conv(x, W) * s + (offset - mean * s) with s = scale / sqrt(variance + epsilon), in double precision: filter `[k, k,
 * I, O]` and bias `[O]`.
 */
function foldedWeights(step: ConvolutionUnitStep, valueOf: ExportGraph['valueOf']): Weight[] {
  const { convolutionName, normName, inputChannels, outputChannels, window, epsilon } = step;
  const norm = (part: string): Float32Array => valueOf(`${normName}.${part}`).data;
  const filter = valueOf(`${convolutionName}.weight`).data;
  const [scale, offset] = [norm('weight'), norm('bias')];
  const [runningMean, runningVariance] = [norm('running_mean'), norm('running_var')];
  const area = window.size * window.size;
  const folded = new Float32Array(filter.length);
  const bias = new Float32Array(outputChannels);
  for (let output = 0; output < outputChannels; output += 1) {
    const factor = (scale[output] ?? 0) / Math.sqrt((runningVariance[output] ?? 0) + epsilon);
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

/** What steps share. */
function constantsOf(steps: readonly GraphStep[]): Weight[] {
  const paddings = new Set(
    steps.flatMap((step) => ('window' in step && needsPad(step.window) ? [step.window.padding] : [])),
  );
  return [
    ...[...paddings].map((padding) =>
      integers(paddingsName(padding), [0, 0, padding, padding, padding, padding, 0, 0], [4, 2]),
    ),
    ...(steps.some(({ kind }) => kind === 'GLOBAL_AVERAGE') ? [integers(AXES_NAME, [1, 2])] : []),
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
    case 'ADD':
      return [float('AddV2', step.output, [step.left, step.right])];
    case 'SCALE':
      return [float('Mul', step.output, [step.input, step.factor])];
    case 'PATCH_TOKENS':
      return patchTokens(step);
    case 'LINEAR':
      return linear(step);
    case 'LAYER_NORM':
      return layerNorm(step);
    case 'GELU':
      return gelu(step);
    case 'SWIGLU': {
      const { input, output } = step;
      return [
        slice(`${output}/gate`, [input, `${output}/start`, `${output}/size`]),
        slice(`${output}/value`, [input, `${output}/middle`, `${output}/size`]),
        float('Sigmoid', `${output}/sigmoid`, [`${output}/gate`]),
        float('Mul', `${output}/silu`, [`${output}/gate`, `${output}/sigmoid`]),
        float('Mul', output, [`${output}/silu`, `${output}/value`]),
      ];
    }
    case 'ATTENTION':
      return attention(step);
    case 'POOL_TOKENS':
      return poolTokens(step);
  }
}

function float(
  op: string,
  name: string,
  input: readonly string[],
  attr: Readonly<Record<string, unknown>> = {},
): GraphNode {
  return { name, op, input, attr: { T: FLOAT, ...attr } };
}

const slice = (name: string, input: readonly string[]): GraphNode => float('Slice', name, input, { Index: INT });
const reshape = (name: string, input: readonly string[]): GraphNode => float('Reshape', name, input, { Tshape: INT });
const mean = (name: string, input: readonly string[], keepsAxis: boolean): GraphNode =>
  float('Mean', name, input, { Tidx: INT, keep_dims: { b: keepsAxis } });

function patchTokens({ input, output, bias, patchSizePx, offsets }: PatchTokensStep): GraphNode[] {
  const convolved = `${output}/conv`;
  const window = { size: patchSizePx, stride: patchSizePx, padding: 0 };
  const biased = bias === undefined ? convolved : `${output}/biased`;
  return [
    {
      name: convolved,
      op: 'Conv2D',
      input: [input, `${output}/filter`],
      attr: { ...windowAttributes(window), dilations: ints([1, 1, 1, 1]), explicit_paddings: ints([]) },
    },
    ...(bias === undefined ? [] : [float('AddV2', biased, [convolved, bias])]),
    reshape(`${output}/patches`, [biased, `${output}/flat`]),
    float('Pad', `${output}/padded`, [`${output}/patches`, `${output}/pads`], { Tpaddings: INT }),
    float('AddV2', `${output}/tokens`, [`${output}/padded`, offsets]),
    reshape(output, [`${output}/tokens`, `${output}/rows`]),
  ];
}

function linear({ input, output, weight, bias }: LinearStep): GraphNode[] {
  const product = bias === undefined ? output : `${output}/product`;
  return [
    float('MatMul', product, [input, weight], { transpose_a: { b: false }, transpose_b: { b: true } }),
    ...(bias === undefined ? [] : [float('AddV2', output, [product, bias])]),
  ];
}

function layerNorm({ input, output, scale, offset }: LayerNormStep): GraphNode[] {
  const axis = `${output}/axis`;
  return [
    mean(`${output}/mean`, [input, axis], true),
    float('Sub', `${output}/centred`, [input, `${output}/mean`]),
    float('Mul', `${output}/squares`, [`${output}/centred`, `${output}/centred`]),
    mean(`${output}/variance`, [`${output}/squares`, axis], true),
    float('AddV2', `${output}/above-zero`, [`${output}/variance`, `${output}/epsilon`]),
    float('Rsqrt', `${output}/inverse`, [`${output}/above-zero`]),
    float('Mul', `${output}/normalised`, [`${output}/centred`, `${output}/inverse`]),
    float('Mul', `${output}/scaled`, [`${output}/normalised`, scale]),
    float('AddV2', output, [`${output}/scaled`, offset]),
  ];
}

function gelu({ input, output }: { readonly input: string; readonly output: string }): GraphNode[] {
  return [
    float('Mul', `${output}/scaled`, [input, `${output}/root`]),
    float('Erf', `${output}/erf`, [`${output}/scaled`]),
    float('AddV2', `${output}/shifted`, [`${output}/erf`, `${output}/one`]),
    float('Mul', `${output}/share`, [`${output}/shifted`, `${output}/half`]),
    float('Mul', output, [input, `${output}/share`]),
  ];
}

function attention({ input, output }: AttentionStep): GraphNode[] {
  const part = (index: number): GraphNode[] => [
    slice(`${output}/part${index}`, [input, `${output}/start${index}`, `${output}/size`]),
    reshape(`${output}/split${index}`, [`${output}/part${index}`, `${output}/heads`]),
    float('Transpose', `${output}/heads${index}`, [`${output}/split${index}`, `${output}/swap`], { Tperm: INT }),
  ];
  const product = (name: string, input: readonly string[], turnsSecond: boolean): GraphNode =>
    float('BatchMatMulV2', name, input, { adj_x: { b: false }, adj_y: { b: turnsSecond } });
  return [
    ...[0, 1, 2].flatMap(part),
    float('Mul', `${output}/scaled`, [`${output}/heads0`, `${output}/factor`]),
    product(`${output}/products`, [`${output}/scaled`, `${output}/heads1`], true),
    float('Softmax', `${output}/weights`, [`${output}/products`]),
    product(`${output}/mixed`, [`${output}/weights`, `${output}/heads2`], false),
    float('Transpose', `${output}/joined`, [`${output}/mixed`, `${output}/swap`], { Tperm: INT }),
    reshape(output, [`${output}/joined`, `${output}/rows`]),
  ];
}

function poolTokens({ input, output, pooling }: PoolTokensStep): GraphNode[] {
  const images = `${output}/images`;
  const tokens = reshape(images, [input, `${output}/tokens`]);
  const first = (name: string): GraphNode[] => [
    slice(`${output}/class-token`, [images, `${output}/first`, `${output}/one`]),
    reshape(name, [`${output}/class-token`, `${output}/rows`]),
  ];
  const average = (name: string): GraphNode[] => [
    slice(`${output}/patches`, [images, `${output}/start`, `${output}/size`]),
    mean(name, [`${output}/patches`, `${output}/axis`], false),
  ];
  switch (pooling) {
    case 'CLS':
      return [tokens, ...first(output)];
    case 'MEAN':
      return [tokens, ...average(output)];
    case 'CLS_AND_MEAN':
      return [
        tokens,
        ...first(`${output}/class`),
        ...average(`${output}/average`),
        float('ConcatV2', output, [`${output}/class`, `${output}/average`, `${output}/join`], {
          N: { i: '2' },
          Tidx: INT,
        }),
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

function placeholder(shape: readonly number[]): GraphNode {
  return {
    name: GRAPH_INPUT,
    op: 'Placeholder',
    attr: { dtype: FLOAT, shape: { shape: tensorShape(shape) } },
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
